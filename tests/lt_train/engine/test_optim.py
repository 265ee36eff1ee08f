"""Learning rate: warm-up, decay, scaling."""

import pytest

from lt_data.errors import RecipeError
from lt_train.data.plan import Plan, Step
from lt_train.engine.optim import check_schedule, describe_lr, lr_at
from lt_train.recipe.step_sections import OptimSection, ScheduleSection

OPTIM = OptimSection(lr=0.01, batch=2, accumulate=4, base_batch=16)


def at(index, epoch=0, total=50_000, **schedule):
    return lr_at(Step(index, epoch, (), False), OPTIM, ScheduleSection(**schedule), total)


def test_warm_up_starts_at_a_third_and_ends_at_the_full_rate():
    assert at(0, warmup=500) == pytest.approx(0.005 / 3)
    assert at(250, warmup=500) == pytest.approx(0.005 * (1 / 3 + 1 / 3))
    assert at(500, warmup=500) == pytest.approx(0.005)
    assert at(0, warmup=0) == pytest.approx(0.005)


@pytest.mark.parametrize(("total", "steps"), [(50_000, 500), (5_000, 500), (4_999, 499), (96, 9), (9, 0), (1, 0)])
def test_a_warm_up_left_open_is_a_tenth_of_the_run(total, steps):
    schedule = ScheduleSection()
    assert (schedule.warmup, schedule.warmup_steps(total)) == ("auto", steps)
    assert at(steps, total=total) == pytest.approx(0.005)
    assert (at(0, total=total) < 0.005) == (steps > 0)


def plan(images=96, epochs=12, iterations=None):
    return Plan(seed=0, images=images, batch=4, accumulate=2, epochs=epochs, iterations=iterations)


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        # 12 epochs of 12 steps
        ({"warmup": 500}, "schedule.warmup: got 500 steps, the run has 144; allowed are fewer than it has; set"),
        ({"warmup": 144, "decay": []}, "got 144 steps, the run has 144;"),
        (
            {"warmup": 97},
            r"schedule.decay: got \[8, 11\]; a decay after 8 epochs is one at step 96, inside the warm-up of 97 steps; "
            r"allowed are epochs from 9 on; set schedule.decay=\[9\], or",
        ),
        ({"warmup": 143}, r"no epoch begins after it; set schedule.decay=\[\], or a shorter schedule.warmup"),
        ({"decay": [1]}, "a decay after 1 epochs is one at step 12, inside the warm-up of 14 steps"),
        ({"decay": [0]}, "a decay after 0 epochs is one at step 0"),
    ],
)
def test_a_schedule_that_never_reaches_its_rate_is_refused(schedule, says):
    with pytest.raises(RecipeError, match=says) as error:
        check_schedule(ScheduleSection(**schedule), plan())
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    "schedule",
    [{}, {"warmup": 96}, {"warmup": 143, "decay": []}, {"warmup": 0, "decay": [0]}, {"warmup": 96, "decay": [40]}],
)
def test_schedules_that_reach_it(schedule):
    check_schedule(ScheduleSection(**schedule), plan())
    # one step, one epoch
    check_schedule(ScheduleSection(epochs=1, decay=()), plan(images=1, epochs=1))


def test_a_warm_up_as_long_as_a_run_of_so_many_steps_is_refused():
    with pytest.raises(RecipeError, match="got 20 steps, the run has 20"):
        check_schedule(ScheduleSection(iterations=20, warmup=20, decay=()), plan(epochs=None, iterations=20))
    check_schedule(ScheduleSection(iterations=20, warmup=19, decay=()), plan(epochs=None, iterations=20))


@pytest.mark.parametrize(("epoch", "factor"), [(7, 1), (8, 0.1), (10, 0.1), (11, 0.01)])
def test_decay_by_epochs(epoch, factor):
    assert at(10_000, epoch, decay=(8, 11)) == pytest.approx(0.005 * factor)


@pytest.mark.parametrize(("index", "factor"), [(399, 1), (400, 0.1)])
def test_decay_by_steps_when_the_length_is_in_steps(index, factor):
    assert at(index, 9, decay=(400,), iterations=500, warmup=50) == pytest.approx(0.005 * factor)


def test_the_rule_is_printed_with_its_numbers():
    assert describe_lr(OPTIM) == "lr 0.005 = 0.01 x 8 images per step / 16 (batch 2 x accumulate 4)"
