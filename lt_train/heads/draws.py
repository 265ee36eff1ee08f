"""Where the draws of a head come from, when each micro-batch has draws of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class MicroBatchDraws:
    """Draws that depend on the micro-batch a region is in, and not on which process or pass computes it.

    Args:
        generators: A CPU generator for each micro-batch, in the order of the regions.
        regions: How many regions each has; they lie side by side.
    """

    def __init__(self, generators: Sequence[torch.Generator], regions: Sequence[int]) -> None:
        self.generators = tuple(generators)
        self.regions = tuple(regions)

    def uniform(self, rows: int) -> Tensor:
        """Float64 draws in [0, 1), [rows, R], on the CPU."""
        pairs = zip(self.generators, self.regions, strict=True)
        parts = [torch.rand(rows, count, generator=g, dtype=torch.float64) for g, count in pairs]
        return torch.cat(parts, dim=1) if parts else torch.empty(rows, 0, dtype=torch.float64)


# PyTorch's global generator, one for all regions, or one for each micro-batch
Draws = torch.Generator | MicroBatchDraws | None
