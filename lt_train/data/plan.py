"""The order in which a run sees its images: a function of (seed, epoch) alone.

Nothing here depends on worker or process counts, so a run can stop after any step and go on as if it had not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lt_data.repeat_factors import whole_copies
from lt_train.randomness import keyed_generator

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """One image at one place of one epoch; everything random about the sample is keyed by it.

    Attributes:
        epoch: Counts from 0.
        position: Place in the epoch, in images.
        row: Row of the dataset.
    """

    epoch: int
    position: int
    row: int


@dataclass(frozen=True)
class Step:
    """One optimiser step.

    Attributes:
        index: Counts from 0 over the whole run.
        epoch: Counts from 0.
        batches: The draws of each forward pass.
        ends_epoch: Whether it is the last step of its epoch.
    """

    index: int
    epoch: int
    batches: tuple[tuple[Draw, ...], ...]
    ends_epoch: bool


def image_copies(factors: FloatArray, rounding: str, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """How often each image is seen in an epoch, shape [N].

    Args:
        factors: Repeat factors >= 1, shape [N].
        rounding: ``stochastic`` (the factor on average), ``ceil``, or ``bags`` (1 + ceil, only above 1, as the
            released code of BAGS does).
        seed: Seed of the run.
        epoch: Counts from 0; stochastic rounding draws anew in every epoch.

    Source: LVIS (CVPR 2019), appendix B.
    """
    if rounding == "stochastic":
        draw = torch.rand(len(factors), dtype=torch.float64, generator=keyed_generator(seed, "repeat", epoch)).numpy()
        whole = np.floor(factors)
        return (whole + (draw < factors - whole)).astype(np.int64)
    return whole_copies(factors, rounding)


@dataclass(frozen=True)
class Plan:
    """Every step of a run.

    Attributes:
        seed: Seed of the run.
        images: Rows of the dataset.
        batch: Images per forward pass.
        accumulate: Forward passes per step.
        epochs: Length of the run in epochs, or ``None`` if ``iterations`` is set.
        iterations: Length of the run in steps, or ``None``.
        factors: Repeat factor of each row, or ``None``: every image once an epoch.
        rounding: How factors become whole numbers.
    """

    seed: int
    images: int
    batch: int
    accumulate: int
    epochs: int | None
    iterations: int | None = None
    factors: FloatArray | None = None
    rounding: str = "stochastic"

    def epoch_rows(self, epoch: int) -> list[int]:
        """Rows in the order of the epoch."""
        rows = torch.arange(self.images)
        if self.factors is not None:
            rows = torch.repeat_interleave(rows, torch.from_numpy(self._copies(epoch)))
        order = torch.randperm(len(rows), generator=keyed_generator(self.seed, "order", epoch))
        return [int(row) for row in rows[order]]

    def epoch_steps(self, epoch: int) -> int:
        """Steps of an epoch; the last one may see fewer images."""
        images = self.images if self.factors is None else int(self._copies(epoch).sum())
        return math.ceil(images / (self.batch * self.accumulate))

    def total_steps(self) -> int:
        """Steps of the whole run."""
        if self.iterations is not None:
            return self.iterations
        return sum(self.epoch_steps(epoch) for epoch in range(self.epochs or 0))

    def steps(self, done: int = 0) -> Iterator[Step]:
        """The steps that remain after the first ``done``, in order."""
        total, epoch, index = self.total_steps(), 0, 0
        while index < total:
            length = self.epoch_steps(epoch)
            if index + length > done:
                for step in self._steps_of(epoch, index):
                    if done <= step.index < total:
                        yield step
            index += length
            epoch += 1

    def _copies(self, epoch: int) -> npt.NDArray[np.int64]:
        assert self.factors is not None
        return image_copies(self.factors, self.rounding, self.seed, epoch)

    def _steps_of(self, epoch: int, first_index: int) -> Iterator[Step]:
        draws = [Draw(epoch, position, row) for position, row in enumerate(self.epoch_rows(epoch))]
        size = self.batch * self.accumulate
        for number, start in enumerate(range(0, len(draws), size)):
            part = draws[start : start + size]
            batches = tuple(tuple(part[i : i + self.batch]) for i in range(0, len(part), self.batch))
            yield Step(first_index + number, epoch, batches, start + size >= len(draws))
