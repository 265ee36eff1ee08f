"""Drawing the boxes to train on: positives up to a share, negatives for the rest, for all images at once.

torchvision draws image by image and looks at how many boxes there are each time, for which a GPU has to be waited for.
Here every box has a priority, the best ones are taken, and the result has a fixed shape: nothing waits.

Shapes: N images, A boxes (anchors or proposals) of one image, P positives and K boxes at most of one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lt_train.randomness import draw_seed, keyed_generator

_BITS = 32
_MASK = 2**_BITS - 1


@dataclass(frozen=True)
class Chosen:
    """Boxes that were drawn.

    Attributes:
        index: [N, P + K] int64, positions of boxes: P places for positives, then K for negatives.
        taken: [N, P + K] bool, whether a place is filled. Those of an image are filled from its first place and from
            place P on, each in ascending order.
        positives: P.
    """

    index: Tensor
    taken: Tensor
    positives: int


class BoxSampler:
    """Draws ``batch_size_per_image`` boxes of an image, at most ``positive_fraction`` of them positive.

    Args:
        batch_size_per_image: K.
        positive_fraction: P over K.
    """

    def __init__(self, batch_size_per_image: int, positive_fraction: float) -> None:
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction

    def __call__(self, labels: Tensor, seeds: Sequence[int | None]) -> Chosen:
        """Chooses boxes.

        Args:
            labels: [N, A], > 0 positive, 0 negative, < 0 neither.
            seeds: Keys of the N draws. An image whose key is ``None`` draws from PyTorch's global generator, as many
                numbers and the same boxes as torchvision's ``BalancedPositiveNegativeSampler``.
        """
        size = labels.shape[1]
        most = min(self.batch_size_per_image, size)
        quota = min(int(self.batch_size_per_image * self.positive_fraction), size)
        priority = _priorities(labels, seeds)
        positive = _best(priority, labels >= 1, quota)
        negative = _best(priority, labels == 0, most)
        # negatives fill up what positives leave
        rest = self.batch_size_per_image - (positive < size).sum(dim=1, keepdim=True)
        negative = negative.masked_fill_(torch.arange(most, device=labels.device) >= rest, size)
        index = torch.cat([positive.sort(dim=1).values, negative.sort(dim=1).values], dim=1)
        return Chosen(index.clamp(max=max(size - 1, 0)), index < size, quota)

    def places(self, labels: Sequence[Tensor], seeds: Sequence[int | None]) -> tuple[list[Tensor], tuple[int, ...]]:
        """The same for images with unequal numbers of boxes.

        Args:
            labels: N tensors [A_i], see :meth:`__call__`.
            seeds: Keys of the N draws.

        Returns:
            Positions of the chosen boxes, N tensors, positives first; and how many of each are positive.
        """
        found = self(pad_sequence(list(labels), batch_first=True, padding_value=-1), seeds)
        # how many regions there are shapes all that follows: the device is waited for here, once for the batch
        counts = torch.stack([part.sum(dim=1) for part in found.taken.tensor_split([found.positives], dim=1)])
        positives, negatives = counts.tolist()
        rows = zip(found.index, positives, negatives, strict=True)
        first = found.positives
        return [torch.cat([row[:p], row[first : first + n]]) for row, p, n in rows], tuple(positives)


def _best(priority: Tensor, chosen: Tensor, number: int) -> Tensor:
    """Positions [N, number] of the chosen boxes of highest priority, best first; A where there are no more."""
    found = priority.where(chosen, -1).topk(number, dim=1)
    return found.indices.masked_fill_(found.values < 0, priority.shape[1])


def _priorities(labels: Tensor, seeds: Sequence[int | None]) -> Tensor:
    """[N, A] int64, from 0 on; different for the boxes of an image that can be drawn together."""
    keyed = [seed for seed in seeds if seed is not None]
    if len(keyed) == len(seeds):
        return keyed_priorities(keyed, labels.shape[1], labels.device)
    rows = [
        torchvision_priorities(row) if seed is None else keyed_priorities([seed], len(row), row.device)[0]
        for row, seed in zip(labels, seeds, strict=True)
    ]
    return torch.stack(rows)


def keyed_priorities(seeds: Sequence[int], number: int, device: torch.device) -> Tensor:
    """A random order of ``number`` boxes for each key, the same on every device.

    Two rounds of an integer hash that maps 32 bits one to one: no two boxes of an image get the same number.

    Args:
        seeds: N keys of up to 63 bits.
        number: A, below 2^32.
        device: Where to.

    Returns:
        [N, A] int64 in 0..2^32 - 1.

    Source: the constants are Chris Wellons', hash-prospector ("lowbias32", second version).
    """
    parts = torch.tensor([[seed & _MASK, seed >> _BITS] for seed in seeds], dtype=torch.int64).view(-1, 2)
    if device.type == "cuda":
        # from pinned memory the copy waits for nothing
        parts = parts.pin_memory().to(device, non_blocking=True)
    low, high = parts.T[:, :, None]
    mixed = _mix(torch.arange(number, device=device)[None] ^ low)
    return _mix(mixed.add_(high).bitwise_and_(_MASK))


def _mix(x: Tensor) -> Tensor:
    """A one-to-one map of the numbers 0..2^32 - 1, in place; products stay below 2^63."""
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        x.bitwise_xor_(x >> shift).mul_(factor).bitwise_and_(_MASK)
    return x.bitwise_xor_(x >> 15)


def torchvision_priorities(labels: Tensor) -> Tensor:
    """[A] int64: priorities by which the boxes are chosen that torchvision draws from the global generator."""
    priority = torch.zeros_like(labels, dtype=torch.int64)
    # positives are drawn first, as torchvision does
    for chosen in (labels >= 1, labels == 0):
        places = torch.where(chosen)[0]
        order = torch.randperm(len(places), device=labels.device)
        priority[places[order]] = torch.arange(len(places) - 1, -1, -1, device=labels.device)
    return priority


def image_seeds(targets: Sequence[Mapping[str, Any]], purpose: str, *key: int) -> list[int | None]:
    """The key of each image's draw, of its target's ``draw_seed``, ``purpose`` and key; ``None`` where it has none."""
    return [draw_seed(t["draw_seed"], purpose, *key) if "draw_seed" in t else None for t in targets]


def batch_generator(targets: Sequence[Mapping[str, Any]], purpose: str, *key: int) -> torch.Generator | None:
    """The generator of what is drawn once for a batch, keyed as the draws of its first image are."""
    return keyed_generator(targets[0]["draw_seed"], purpose, *key) if "draw_seed" in targets[0] else None
