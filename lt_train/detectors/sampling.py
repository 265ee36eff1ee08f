"""torchvision's sampler of positive and negative boxes, drawing from one generator per image.

Shapes: N images, A boxes (anchors or proposals) of one image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from lt_train.randomness import keyed_generator


class KeyedSampler(BalancedPositiveNegativeSampler):
    """Balanced sampler; inside ``with sampler.keyed(generators):`` image i draws from ``generators[i]``.

    Outside, and where a generator is ``None``, it draws from PyTorch's global generator exactly as torchvision does.
    """

    def __init__(self, batch_size_per_image: int, positive_fraction: float) -> None:
        super().__init__(batch_size_per_image, positive_fraction)
        self._generators: Sequence[torch.Generator | None] | None = None

    @contextmanager
    def keyed(self, generators: Sequence[torch.Generator | None]) -> Iterator[None]:
        """Use these generators, one per image, for the calls inside the block."""
        self._generators = generators
        try:
            yield
        finally:
            self._generators = None

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Choose boxes.

        Args:
            matched_idxs: N tensors [A]: > 0 positive, 0 negative, < 0 ignored.

        Returns:
            N masks [A] uint8 of the positives chosen and N of the negatives.
        """
        generators = self._generators or [None] * len(matched_idxs)
        chosen = [self._choose(*pair) for pair in zip(matched_idxs, generators, strict=True)]
        return [positive for positive, _ in chosen], [negative for _, negative in chosen]

    def _choose(self, matched: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        positive = torch.where(matched >= 1)[0]
        negative = torch.where(matched == 0)[0]
        num_positive = min(len(positive), int(self.batch_size_per_image * self.positive_fraction))
        num_negative = min(len(negative), self.batch_size_per_image - num_positive)
        # positives are drawn first, as torchvision does
        chosen_positive = positive[_permutation(positive, generator)[:num_positive]]
        chosen_negative = negative[_permutation(negative, generator)[:num_negative]]
        masks = torch.zeros(2, len(matched), dtype=torch.uint8, device=matched.device)
        masks[0, chosen_positive] = 1
        masks[1, chosen_negative] = 1
        return masks[0], masks[1]


def _permutation(items: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.randperm(len(items), device=items.device)
    order = torch.randperm(len(items), generator=generator, device=generator.device)
    # from pinned memory the copy waits for nothing
    return order.pin_memory().to(items.device, non_blocking=True) if items.is_cuda else order.to(items.device)


def image_generators(targets: Sequence[Mapping[str, Any]], purpose: str) -> list[torch.Generator | None]:
    """One generator per image, keyed by its target's ``draw_seed`` and ``purpose``; ``None`` where it has none."""
    return [keyed_generator(t["draw_seed"], purpose) if "draw_seed" in t else None for t in targets]
