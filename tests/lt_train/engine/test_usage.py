"""Speed and waiting, on a clock that is moved by hand."""

import pytest
import torch

from lt_train.engine.usage import StepTimer, Waiting, memory_gib


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def make(waits):
    """A timer whose batches take so long, and its clock."""
    clock = Clock()

    def batches():
        for seconds in waits:
            clock.now += seconds
            yield [], []

    return StepTimer(Waiting(batches(), clock)), clock


def take(timer, clock, *, work, images=4):
    with timer.step(images):
        next(timer.batches)
        clock.now += work


def test_a_lap_has_the_steps_since_the_last_one_and_nothing_between_them():
    timer, clock = make([1.0, 2.0, 0.5])
    take(timer, clock, work=3.0)
    first = timer.lap()
    assert (first.seconds, first.images, first.waited) == (4.0, 4, 1.0)
    clock.now += 1000  # an evaluation
    take(timer, clock, work=2.0)
    clock.now += 50  # a checkpoint
    take(timer, clock, work=3.5, images=2)
    lap = timer.lap()
    assert (lap.seconds, lap.images, lap.waited) == (8.0, 6, 2.5)
    assert lap.images_per_second == pytest.approx(6 / 8)
    assert lap.data_wait == pytest.approx(2.5 / 8)


def test_waiting_outside_of_steps_is_known_but_ends_with_the_batches():
    timer, _ = make([2.0])
    assert list(timer.batches) == [([], [])]
    assert timer.batches.seconds == 2.0


def test_time_left_leaves_out_the_slowest_steps():
    timer, clock = make([0.0] * 60)
    assert timer.seconds_left(10) is None
    take(timer, clock, work=90.0)
    assert timer.seconds_left(10) is None
    take(timer, clock, work=2.0)
    assert timer.seconds_left(10) == pytest.approx(20.0)
    for _ in range(38):
        take(timer, clock, work=2.0)
    take(timer, clock, work=500.0)
    assert timer.seconds_left(10) == pytest.approx(20.0)
    assert timer.seconds_left(0) == 0


def test_time_left_counts_every_fourth_step_that_waits_for_its_worker():
    """A median would not see it."""
    timer, clock = make([0.0, 0.0, 0.0, 8.0] * 50)
    for _ in range(200):
        take(timer, clock, work=1.0)
    assert timer.seconds_left(100) == pytest.approx(300, rel=0.15)


def test_time_left_forgets_old_steps():
    timer, clock = make([0.0] * 400)
    for work in (50.0, 1.0):
        for _ in range(200):
            take(timer, clock, work=work)
    assert timer.seconds_left(3) == pytest.approx(3.0)


def test_memory_of_the_process():
    # Python with torch is larger than this, and no test machine has a TiB
    assert 0.05 < memory_gib(torch.device("cpu")) < 1024


@pytest.mark.gpu
def test_memory_of_the_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats(device)
    before = memory_gib(device)
    torch.zeros(2**28, device=device)  # 1 GiB, freed at once
    assert memory_gib(device) >= before + 0.99
