"""Which micro-batch of a forward pass a region belongs to, and what keys the draws of each.

Shapes: N images, R_i regions of image i, R of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from lt_train.data.target import Target
from lt_train.detectors.regions.sampling import batch_generator
from lt_train.heads.shared.draws import Draws, MicroBatchDraws
from lt_train.randomness import keyed_generator


def micro_batch_numbers(targets: Sequence[Target], size: int) -> list[int]:
    """Which micro-batch of ``size`` images each image is in, by its place in the forward pass."""
    return [target.get("place", i) // size for i, target in enumerate(targets)]


def micro_batch_of(labels: Sequence[Tensor], targets: Sequence[Target], size: int | None) -> Tensor | None:
    """[R] int64, which micro-batch a region belongs to; ``None`` where all are one.

    Args:
        labels: N tensors [R_i].
        targets: N targets.
        size: Images of a micro-batch; ``None`` is the whole batch.
    """
    if size is None:
        return None
    numbers = zip(micro_batch_numbers(targets, size), labels, strict=True)
    return torch.cat([torch.full_like(part, number) for number, part in numbers])


def draws_of(labels: Sequence[Tensor], targets: Sequence[Target], size: int | None, key: tuple[int, ...]) -> Draws:
    """What the draws of a head come from: keyed "others" by the first image of the batch, or of each micro-batch.

    Args:
        labels: N tensors [R_i].
        targets: N targets.
        size: Images of a micro-batch; ``None`` is the whole batch.
        key: Tells the draws of several heads apart.
    """
    if size is None or "draw_seed" not in targets[0]:
        return batch_generator(targets, "others", *key)
    first: dict[int, Target] = {}
    counts: Counter[int] = Counter()
    for number, target, part in zip(micro_batch_numbers(targets, size), targets, labels, strict=True):
        first.setdefault(number, target)
        counts[number] += len(part)
    generators = [keyed_generator(target["draw_seed"], "others", *key) for target in first.values()]
    return MicroBatchDraws(generators, [counts[number] for number in first])
