"""Which regions take part in the softmax of each slice of the logits, and how much they count.

Shapes: R regions, S slices of the logits, G groups. A "bin" is the position inside a slice.
Nothing here waits for the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lt_train.heads.shared.draws import Draws, uniform


def others_weights(
    bins: Tensor,
    ratio: float,
    *,
    micro_batch: Tensor | None = None,
    generator: Draws = None,
) -> Tensor:
    """Which regions train each group: its own, and at most ``floor(ratio * own)`` others, drawn uniformly.

    Args:
        bins: [G, R] int64, bin of each region in each group; 0 = others.
        ratio: Others kept per own region, counted in each micro-batch; ``inf`` keeps all where there is an own one.
        micro_batch: [R] ranks from :func:`lt_train.heads.shared.base.dense_rank`, or ``None`` for one micro-batch.
        generator: Source of the draw, see :data:`Draws`; a CPU generator serves regions on any device.

    Returns:
        [G, R] float32 of 0 and 1. Without an own region all weights of the group are 0.

    Source: ``_sample_others`` of the released BAGS code.
    """
    own = bins > 0
    if micro_batch is None:
        own_count, first = own.sum(dim=1, keepdim=True), None
    else:
        counts = torch.zeros_like(own, dtype=torch.int64).index_add_(1, micro_batch, own.long())
        own_count = counts.index_select(1, micro_batch)
        size = torch.zeros_like(micro_batch).index_add_(0, micro_batch, torch.ones_like(micro_batch))
        first = (size.cumsum(0) - size).index_select(0, micro_batch)
    if math.isinf(ratio):
        return (own_count > 0).float().expand(own.shape)
    # one sort lays the micro-batches side by side, in each the others in random order and then the own regions
    draw = uniform(own.shape[0], own.shape[1], own.device, generator).masked_fill_(own, 1.5)
    order = (draw if micro_batch is None else 2 * micro_batch + draw).argsort(dim=1)
    place = torch.arange(own.shape[1], device=own.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, place)
    kept = (own_count.double() * ratio).floor()
    return (own | ((rank if first is None else rank - first) < kept)).float()
