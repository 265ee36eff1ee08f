"""What training uses: time, waiting for data, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from lt_train.data.dataset import Batch
from lt_train.runs.live import duration

Clock = Callable[[], float]
# the time left is told from the last steps, without the slowest: a first step allocates and chooses kernels
RECENT = 200
SLOWEST = 0.05


class Waiting:
    """Batches, and the seconds that were spent waiting for them.

    Args:
        batches: Where they come from.
        clock: Gives seconds.
    """

    def __init__(self, batches: Iterator[Batch], clock: Clock = time.perf_counter) -> None:
        self.batches = batches
        self.clock = clock
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        start = self.clock()
        batch = next(self.batches)
        self.seconds += self.clock() - start
        return batch


@dataclass(frozen=True)
class Lap:
    """Some steps in a row; what happened between them does not count.

    Attributes:
        seconds: Spent in them.
        images: Seen by them.
        waited: Seconds of it that were spent waiting for data.
    """

    seconds: float
    images: int
    waited: float

    @property
    def images_per_second(self) -> float:
        """Images seen in a second of training."""
        return self.images / self.seconds

    @property
    def data_wait(self) -> float:
        """Share of the time that was spent waiting for data, 0 to 1."""
        return self.waited / self.seconds


class StepTimer:
    """Times steps, and nothing between them: neither evaluations nor checkpoints.

    Args:
        batches: What the steps take their images from; its clock is used.
    """

    def __init__(self, batches: Waiting) -> None:
        self.batches = batches
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._start_lap()

    def _start_lap(self) -> None:
        self._seconds, self._images, self._waited_before = 0.0, 0, self.batches.seconds

    @contextmanager
    def step(self, images: int) -> Iterator[None]:
        """Around one step, which sees so many images."""
        start = self.batches.clock()
        yield
        seconds = self.batches.clock() - start
        self._recent.append(seconds)
        self._seconds += seconds
        self._images += images

    def lap(self) -> Lap:
        """The steps since the last lap, at least one; a new lap starts."""
        lap = Lap(self._seconds, self._images, self.batches.seconds - self._waited_before)
        self._start_lap()
        return lap

    def figures(self, device: torch.device) -> dict[str, float]:
        """Speed and waiting of the steps since the last lap, and memory; a new lap starts."""
        lap = self.lap()
        return {
            "images_per_second": lap.images_per_second,
            "data_wait": lap.data_wait,
            "memory_gib": memory_gib(device),
        }

    def seconds_left(self, steps: int) -> float | None:
        """How long so many steps are going to take; ``None`` before the second step is done."""
        if len(self._recent) < 2:
            return None
        kept = sorted(self._recent)[: -max(1, round(SLOWEST * len(self._recent)))]
        return steps * sum(kept) / len(kept)


def expected_time(timer: StepTimer, epoch: int, left: int) -> str:
    """How long an epoch and all that remains are going to take, by the steps that were taken; for people.

    Args:
        timer: Of two steps at least.
        epoch: Steps of an epoch.
        left: Steps that remain.
    """
    one, rest = (duration(timer.seconds_left(steps) or 0.0) for steps in (epoch, left))
    return f"time: about {one} an epoch and {rest} for the {left:,} steps to come, without evaluation"


def memory_gib(device: torch.device) -> float:
    """Most memory that was in use so far, in GiB: tensors on a GPU, else the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, others KiB
    return float(peak / (2**30 if sys.platform == "darwin" else 2**20))
