"""Learning rate: warm-up, decay, scaling."""

import pytest

from lt_train.data.plan import Step
from lt_train.engine.optim import describe_lr, lr_at
from lt_train.recipe.sections import OptimSection, ScheduleSection

OPTIM = OptimSection(lr=0.01, batch=2, accumulate=4, base_batch=16)


def at(index, epoch=0, **schedule):
    return lr_at(Step(index, epoch, (), False), OPTIM, ScheduleSection(**schedule))


def test_warm_up_starts_at_a_third_and_ends_at_the_full_rate():
    assert at(0, warmup=500) == pytest.approx(0.005 / 3)
    assert at(250, warmup=500) == pytest.approx(0.005 * (1 / 3 + 1 / 3))
    assert at(500, warmup=500) == pytest.approx(0.005)
    assert at(0, warmup=0) == pytest.approx(0.005)


@pytest.mark.parametrize(("epoch", "factor"), [(7, 1), (8, 0.1), (10, 0.1), (11, 0.01)])
def test_decay_by_epochs(epoch, factor):
    assert at(10_000, epoch, decay=(8, 11)) == pytest.approx(0.005 * factor)


@pytest.mark.parametrize(("index", "factor"), [(399, 1), (400, 0.1)])
def test_decay_by_steps_when_the_length_is_in_steps(index, factor):
    assert at(index, 9, decay=(400,), iterations=500, warmup=50) == pytest.approx(0.005 * factor)


def test_the_rule_is_printed_with_its_numbers():
    assert describe_lr(OPTIM) == "lr 0.005 = 0.01 x 8 images per step / 16 (batch 2 x accumulate 4)"
