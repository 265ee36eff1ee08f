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

    def for_each(self, columns: int) -> Tensor:
        """Float64 draws in [0, 1), [M, columns], a row for each of the M micro-batches with regions, on the CPU."""
        # regions are counted through the micro-batches that have any, so an empty one has no row
        pairs = zip(self.generators, self.regions, strict=True)
        rows = [torch.rand(columns, generator=g, dtype=torch.float64) for g, count in pairs if count]
        return torch.stack(rows) if rows else torch.empty(0, columns, dtype=torch.float64)


# PyTorch's global generator, one for all regions, or one for each micro-batch
Draws = torch.Generator | MicroBatchDraws | None


def uniform(rows: int, regions: int, device: torch.device, draws: Draws) -> Tensor:
    """Float64 draws [rows, R] in [0, 1) on ``device``, made where the generator lives."""
    if isinstance(draws, MicroBatchDraws):
        return _to(draws.uniform(rows), device)
    return _to(_drawn((rows, regions), device, draws), device)


def uniform_for_each(columns: int, most: int, device: torch.device, draws: Draws) -> Tensor:
    """Float64 draws [M, columns] in [0, 1) on ``device``: a row for each micro-batch, by its rank.

    Args:
        columns: What is drawn, such as classes.
        most: At least the number of micro-batches, where one generator draws for all of them; no more than R.
        device: Where to.
        draws: Their source.
    """
    if isinstance(draws, MicroBatchDraws):
        return _to(draws.for_each(columns), device)
    return _to(_drawn((most, columns), device, draws), device)


def _drawn(shape: tuple[int, int], device: torch.device, generator: torch.Generator | None) -> Tensor:
    source = device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=source, dtype=torch.float64)


def _to(draw: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and draw.device.type == "cpu":
        # from pinned memory the copy waits for nothing
        draw = draw.pin_memory()
    return draw.to(device, non_blocking=True)
