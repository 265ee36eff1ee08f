"""Softmaxes over neighbouring slices of the logits: their losses, and which regions take part in them.

Shapes: R regions, L logits, S slices that part the L columns, G groups. A "bin" is the position inside a slice.
Nothing here waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def slice_losses(logits: Tensor, lengths: Sequence[int], place: Tensor, share: Tensor) -> Tensor:
    """Cross-entropy of each slice, a weighted sum over the regions.

    Args:
        logits: [R, L] float32.
        lengths: S lengths that sum to L.
        place: [R, S] int64, column of the wanted bin of each slice.
        share: [S, R] float32, weight of each region in each slice; no gradient reaches it.

    Returns:
        [S] losses.
    """
    losses: Tensor = _SliceLosses.apply(logits, tuple(lengths), place, share)  # type: ignore[no-untyped-call]
    return losses


class _SliceLosses(torch.autograd.Function):
    """The gradient is (softmax - wanted) * share: one buffer, where autograd would pad and add one for each slice."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, lengths: tuple[int, ...], place: Tensor, share: Tensor) -> Tensor:
        """See :func:`slice_losses`."""
        sums = torch.stack([part.logsumexp(dim=1) for part in logits.split(lengths, dim=1)])
        ctx.save_for_backward(logits, sums, place, share)
        ctx.lengths = lengths
        return ((sums - logits.gather(1, place).T) * share).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Gradient for the logits."""
        logits, sums, place, share = ctx.saved_tensors
        scale = share * gradients[0][:, None]
        result = torch.empty_like(logits)
        columns = zip(logits.split(ctx.lengths, 1), result.split(ctx.lengths, 1), sums, scale, strict=True)
        for part, out, lse, factor in columns:
            torch.sub(part, lse[:, None], out=out).exp_().mul_(factor[:, None])
        return result.scatter_add_(1, place, -scale.T), None, None, None


def others_weights(
    bins: Tensor,
    ratio: float,
    *,
    micro_batch: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Which regions train each group: its own, and at most ``floor(ratio * own)`` others, drawn uniformly.

    Args:
        bins: [G, R] int64, bin of each region in each group; 0 = others.
        ratio: Others kept per own region, counted in each micro-batch; ``inf`` keeps all where there is an own one.
        micro_batch: [R] ranks from :func:`lt_train.heads.base.dense_rank`, or ``None`` for one micro-batch.
        generator: Source of the draw; a CPU generator serves regions on any device.

    Returns:
        [G, R] float32 of 0 and 1. Without an own region all weights of the group are 0.

    Source: ``_sample_others`` of the released BAGS code.
    """
    own = bins > 0
    if micro_batch is None:
        micro_batch = torch.zeros_like(bins[0])
    counts = torch.zeros_like(own, dtype=torch.float64).index_add_(1, micro_batch, own.double())
    own_count = counts.index_select(1, micro_batch)
    if math.isinf(ratio):
        return (own_count > 0).float()
    # one sort lays the micro-batches side by side, in each the others in random order and then the own regions
    draw = _uniform(own.shape, own.device, generator)
    order = (micro_batch + torch.where(own, 0.75, draw / 2)).argsort(dim=1)
    size = torch.zeros_like(micro_batch).index_add_(0, micro_batch, torch.ones_like(micro_batch))
    first = (size.cumsum(0) - size).index_select(0, micro_batch)
    place = torch.arange(len(micro_batch), device=own.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, place) - first
    return (own | (rank < (own_count * ratio).floor())).float()


def _uniform(shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Float64 draws in [0, 1) on ``device``, made where the generator lives."""
    source = device if generator is None else generator.device
    draw = torch.rand(shape, generator=generator, device=source, dtype=torch.float64)
    return draw.to(device, non_blocking=True)


def shares(weights: Tensor, micro_batch: Tensor | None) -> Tensor:
    """Weights over their sum in each micro-batch (at least 1), over the number of micro-batches.

    Args:
        weights: [S, R] >= 0.
        micro_batch: [R] ranks from :func:`lt_train.heads.base.dense_rank`, or ``None`` for one micro-batch.

    Source: the average over ranks in the released BAGS code, where a rank is a micro-batch.
    """
    if micro_batch is None:
        return weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
    # a batch of R regions has at most R micro-batches; their number stays on the device
    total = torch.zeros_like(weights).index_add_(1, micro_batch, weights)
    return weights / (total.clamp(min=1).index_select(1, micro_batch) * (micro_batch.max() + 1))
