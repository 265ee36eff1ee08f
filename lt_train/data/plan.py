"""The order in which a run sees its images: a function of (seed, epoch) alone.

Nothing here depends on worker or process counts, so a run can stop after any step and go on as if it had not. An epoch
has as many images as the data, whatever the sampler, so that methods are compared after seeing equally many.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_data.counts.repeat_factors import whole_copies
from lt_train.randomness import keyed_generator


@dataclass(frozen=True)
class Draw:
    """One image at one place of one epoch; everything random about the sample is keyed by it.

    Attributes:
        epoch: Counts from 0.
        position: Place in the epoch, in images.
        row: Row of the dataset.
        label: Class of which alone the objects are trained on, or 0: of all classes.
    """

    epoch: int
    position: int
    row: int
    label: int = 0


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

    @property
    def images(self) -> int:
        """Images that the step sees."""
        return sum(len(batch) for batch in self.batches)


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


def class_aware_rows(class_rows: Sequence[IntArray], start: int, length: int, seed: int) -> list[int]:
    """``length`` rows from place ``start`` of an endless order, in which the classes take turns.

    Every round has each class once, in a random order; a class shows all its images, in a random order, before one
    comes again. Any part can be asked for by itself, so epochs and stops do not disturb the turns.

    Args:
        class_rows: Rows of the images of each class that has any.
        start: First place.
        length: How many.
        seed: Seed of the run.

    Source: Shen et al., "Relay Backpropagation for Effective Learning of Deep Convolutional Neural Networks",
    ECCV 2016, class-aware sampling.
    """
    classes, rows = len(class_rows), []
    for turn in range(start // classes, -(-(start + length) // classes)):
        order = torch.randperm(classes, generator=keyed_generator(seed, "class-turn", turn)).tolist()
        first, last = start - turn * classes, start + length - turn * classes
        rows += [_image_of_class(class_rows[index], index, turn, seed) for index in order[max(first, 0) : last]]
    return rows


@dataclass(frozen=True)
class BiLevel:
    """Bi-level sampling: a class for each place of an epoch, all equally likely, then one of its images.

    Attributes:
        labels: The classes that have images, shape [K].
        rows: Rows of the images of each of them.
        steps: Steps of one pass of the sampler.

    Source: SimCal (ECCV 2020), section 4; both draws are with replacement, as in its released code.
    """

    labels: IntArray
    rows: tuple[IntArray, ...]
    steps: int

    def drawn(self, number: int, seed: int, epoch: int) -> tuple[list[int], list[int]]:
        """Rows and labels of the first places of an epoch; those of fewer places begin those of more.

        Args:
            number: Of places.
            seed: Seed of the run.
            epoch: Counts from 0.
        """
        generator = keyed_generator(seed, "bi-level", epoch)
        shares = torch.rand(number, 2, dtype=torch.float64, generator=generator).numpy()
        classes = (shares[:, 0] * len(self.labels)).astype(np.int64).tolist()
        images = [int(share * len(self.rows[index])) for share, index in zip(shares[:, 1], classes, strict=True)]
        rows = [int(self.rows[index][image]) for index, image in zip(classes, images, strict=True)]
        return rows, self.labels[classes].tolist()


def rows_by_orientation(rows: Sequence[int], upright: BoolArray, batch: int) -> list[int]:
    """The same rows in an order in which a batch holds upright images or none, but for the last ones of the epoch.

    A batch takes the place at which it became full, so the order stays as random as it was. What fills no batch comes
    last, together.

    Args:
        rows: Drawn rows, in their order.
        upright: Whether the image of each row of the dataset is higher than wide, shape [images].
        batch: Images per forward pass.

    Source: detectron2's ``AspectRatioGroupedDataset`` works so; mmdetection groups in the same two.
    """
    full: list[int] = []
    waiting: dict[bool, list[int]] = {False: [], True: []}
    for row in rows:
        alike = waiting[bool(upright[row])]
        alike.append(row)
        if len(alike) == batch:
            full += alike
            alike.clear()
    return [*full, *waiting[False], *waiting[True]]


def _image_of_class(rows: IntArray, index: int, turn: int, seed: int) -> int:
    """Which of its images a class shows in a turn."""
    if len(rows) == 1:
        return int(rows[0])
    time, place = divmod(turn, len(rows))
    order = torch.randperm(len(rows), generator=keyed_generator(seed, "class-images", index, time))
    return int(rows[order[place]])


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
        class_rows: Rows of the images of each class, for class-aware sampling, or ``None``.
        bi_level: For bi-level sampling, or ``None``.
        whole_passes: An epoch is one pass of the sampler, however many images that is, instead of ``images``.
        upright: Whether the image of each row is higher than wide, shape [images], if such images are to be in
            batches of their own, or ``None``.
    """

    seed: int
    images: int
    batch: int
    accumulate: int
    epochs: int | None
    iterations: int | None = None
    factors: FloatArray | None = None
    rounding: str = "stochastic"
    class_rows: tuple[IntArray, ...] | None = None
    bi_level: BiLevel | None = None
    whole_passes: bool = False
    upright: BoolArray | None = None

    def epoch_rows(self, epoch: int) -> list[int]:
        """Rows in the order of the epoch."""
        return self._shown(epoch)[0]

    def _shown(self, epoch: int) -> tuple[list[int], list[int]]:
        """Rows in the order of the epoch, and the class of each draw or 0."""
        if self.bi_level is not None:
            rows, labels = self.bi_level.drawn(self.epoch_images(epoch), self.seed, epoch)
        else:
            rows = self._drawn_rows(epoch)
            labels = [0] * len(rows)
        if self.upright is None:
            return rows, labels
        order = rows_by_orientation(range(len(rows)), self.upright[rows], self.batch)
        return [rows[place] for place in order], [labels[place] for place in order]

    def _drawn_rows(self, epoch: int) -> list[int]:
        if self.class_rows is not None:
            return class_aware_rows(self.class_rows, epoch * self.images, self.images, self.seed)
        rows = torch.arange(self.images)
        if self.factors is not None:
            rows = torch.repeat_interleave(rows, torch.from_numpy(self._copies(epoch)))
        order = torch.randperm(len(rows), generator=keyed_generator(self.seed, "order", epoch))
        # the start of a random order is a fair share of it
        return [int(row) for row in rows[order][: self.epoch_images(epoch)]]

    def epoch_images(self, epoch: int) -> int:
        """Images that an epoch sees."""
        if self.whole_passes and self.bi_level is not None:
            return self.bi_level.steps * self.batch * self.accumulate
        if self.whole_passes and self.factors is not None:
            return int(self._copies(epoch).sum())
        return self.images

    def epoch_steps(self, epoch: int) -> int:
        """Steps of an epoch; the last one may see fewer images."""
        return math.ceil(self.epoch_images(epoch) / (self.batch * self.accumulate))

    def seen(self, done: int) -> IntArray:
        """How often the first ``done`` steps see each row, shape [images]."""
        counts = np.zeros(self.images, np.int64)
        for rows, _ in self._shown_by(done):
            counts += np.bincount(rows, minlength=self.images)
        return counts

    def seen_objects(self, done: int, rows: IntArray, labels: IntArray) -> IntArray:
        """How often the first ``done`` steps train on each object: as often as its image is seen, for its class.

        Args:
            done: Steps.
            rows: Row of each object.
            labels: Class of each object, 1..C.
        """
        if self.bi_level is None:
            return self.seen(done)[rows]
        times: Counter[tuple[int, int]] = Counter()
        for shown, classes in self._shown_by(done):
            times.update(zip(shown, classes, strict=True))
        return np.array([times[key] for key in zip(rows.tolist(), labels.tolist(), strict=True)], np.int64)

    def _shown_by(self, done: int) -> Iterator[tuple[list[int], list[int]]]:
        """Rows and classes that the first ``done`` steps see, epoch by epoch."""
        epoch = 0
        while done > 0:
            rows, labels = self._shown(epoch)
            end = done * self.batch * self.accumulate
            yield rows[:end], labels[:end]
            done -= self.epoch_steps(epoch)
            epoch += 1

    def total_steps(self) -> int:
        """Steps of the whole run."""
        if self.iterations is not None:
            return self.iterations
        return sum(self.epoch_steps(epoch) for epoch in range(self.epochs or 0))

    def total_images(self) -> int:
        """Images that the whole run sees."""
        left, epoch, images = self.total_steps(), 0, 0
        while left > 0:
            images += min(left * self.batch * self.accumulate, self.epoch_images(epoch))
            left -= self.epoch_steps(epoch)
            epoch += 1
        return images

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
        shown = zip(*self._shown(epoch), strict=True)
        draws = [Draw(epoch, position, row, label) for position, (row, label) in enumerate(shown)]
        size = self.batch * self.accumulate
        for number, start in enumerate(range(0, len(draws), size)):
            part = draws[start : start + size]
            batches = tuple(tuple(part[i : i + self.batch]) for i in range(0, len(part), self.batch))
            yield Step(first_index + number, epoch, batches, start + size >= len(draws))
