"""Regions of the images of a batch: those that training can draw from, those it draws, and what is seen of them.

Shapes: N images, R regions over the batch, A_i and R_i of image i, D features of a region. Boxes are xyxy pixels of the
resized images; labels are 0..C with 0 = background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lt_train.data.target import Target


@dataclass(frozen=True)
class Candidates:
    """Regions that training draws from: proposals, then ground truth; one entry per image, A_i each.

    Attributes:
        boxes: N tensors [A_i, 4].
        labels: N tensors [A_i] int64 in 0..C, -1 for one that is not drawn.
        matched: N tensors [A_i] int64, index of the ground truth (0 where there is none).
        truth: N tensors [n_i, 4], the ground truth.
    """

    boxes: list[Tensor]
    labels: list[Tensor]
    matched: list[Tensor]
    truth: list[Tensor]


@dataclass(frozen=True)
class Regions:
    """Regions sampled for training; one entry per image, R_i regions each, those that stand for an object first.

    Attributes:
        boxes: N tensors [R_i, 4].
        labels: N tensors [R_i] int64 in 0..C.
        matched: N tensors [R_i] int64, index of the ground truth (0 where there is none).
        box_targets: N tensors [R_i, 4], encoded regression targets.
        positives: How many regions of each image stand for an object.
    """

    boxes: list[Tensor]
    labels: list[Tensor]
    matched: list[Tensor]
    box_targets: list[Tensor]
    positives: tuple[int, ...]

    def foreground(self) -> Regions:
        """The regions that stand for an object."""

        def first(column: list[Tensor]) -> list[Tensor]:
            return [part[:n] for part, n in zip(column, self.positives, strict=True)]

        return Regions(
            first(self.boxes), first(self.labels), first(self.matched), first(self.box_targets), self.positives
        )

    def at(self, places: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Boxes and labels of some of the regions.

        Args:
            places: N tensors of positions.
        """
        boxes, labels = (
            [part[index] for part, index in zip(column, places, strict=True)] for column in (self.boxes, self.labels)
        )
        return boxes, labels


@dataclass(frozen=True)
class Seen:
    """What is known of proposals before anything is chosen.

    Attributes:
        proposals: N tensors [R_i, 4].
        pooled: Their feature maps [R, channels, P, P].
        box_features: [R, D].
    """

    proposals: list[Tensor]
    pooled: Tensor
    box_features: Tensor


def objects_of(regions: Regions, targets: Sequence[Target]) -> Tensor:
    """[R] int64: which object of the batch a region stands for, counted over all images; -1 for the background."""
    first, numbers = 0, []
    for labels, matched, target in zip(regions.labels, regions.matched, targets, strict=True):
        numbers.append((matched + first).where(labels > 0, -1))
        first += len(target["labels"])
    return torch.cat(numbers)
