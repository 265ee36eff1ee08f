"""Balanced Group Softmax: classes of similar count compete among themselves, a gate separates objects from background.

Logits: ``[background, foreground | others, classes of group 1 | others, classes of group 2 | ...]``, classes ascending.
Shapes: R regions, C foreground classes, G groups, L = C + 2 + G logits; a "bin" is the position inside a slice.

Source: Li et al., "Overcoming Classifier Imbalance for Long-tail Object Detection with Balanced Group Softmax",
CVPR 2020, section 4 and the released code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_data.errors import DataError, RecipeError
from lt_data.groups import BAGS_EDGES, group_index
from lt_train.heads.base import Head, dense_rank, micro_batch_mean


class BagsHead(Head):
    """Balanced Group Softmax over the realised training counts.

    Args:
        instance_counts: Non-crowd training instances of classes 1..C; a class without instances is in group 1.
        edges: Ascending counts that part the groups; a count on an edge belongs to the upper group.
        others_ratio: Regions of other groups (and background) kept per region of the group; ``inf`` keeps all.

    Attributes:
        slices: (start, length) of the gate and of each group in the logits, G + 1 pairs.
        label_to_bin: [G+1, C+1] int64, bin of each label in each slice; row 0 is the gate (0 background, 1 foreground).
        class_logit: [C] int64, logit of each class.

    Raises:
        RecipeError: The edges are not ascending positive numbers, or the ratio is negative.
    """

    layout_buffers = ("label_to_bin",)
    label_to_bin: Tensor
    class_logit: Tensor

    def __init__(
        self, instance_counts: Sequence[int], *, edges: Sequence[int] = BAGS_EDGES, others_ratio: float = 8.0
    ) -> None:
        super().__init__(instance_counts)
        self.edges = tuple(int(edge) for edge in edges)
        self.others_ratio = float(others_ratio)
        if not self.others_ratio >= 0:
            raise RecipeError(f"head bags: others_ratio is {others_ratio}; allowed are numbers >= 0 and .inf")
        try:
            groups = torch.from_numpy(group_index(list(instance_counts), self.edges))
        except DataError as error:
            raise RecipeError(f"head bags: {problem}" for problem in error.problems) from None
        label_to_bin = _label_to_bin(groups, len(self.edges) + 1)
        lengths = [2, *(label_to_bin[1:].amax(dim=1) + 1).tolist()]
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        self.slices: tuple[tuple[int, int], ...] = tuple(zip(starts, lengths, strict=True))
        self.num_logits = sum(lengths)
        self.register_buffer("label_to_bin", label_to_bin)
        bins = label_to_bin[1:, 1:].amax(dim=0)
        self.register_buffer("class_logit", torch.tensor(starts)[groups + 1] + bins)

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        micro_batch: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """``loss_group_0`` (the gate) ... ``loss_group_G``, see :meth:`Head.loss`.

        Each is the mean cross-entropy over its kept regions. A group without a region in the micro-batch counts 0
        there: its "others" logit is not trained.
        """
        logits = logits.float()
        if len(labels) == 0:
            return {f"loss_group_{i}": logits.sum() * 0 for i in range(len(self.slices))}
        if micro_batch is not None:
            micro_batch = dense_rank(micro_batch)
        bins = self.label_to_bin.index_select(1, labels)
        kept = others_weights(bins[1:], self.others_ratio, micro_batch=micro_batch, generator=generator)
        weights = torch.cat([torch.ones_like(kept[:1]), kept])
        losses = {}
        for i, (start, length) in enumerate(self.slices):
            per_region = F.cross_entropy(logits[:, start : start + length], bins[i], reduction="none")
            losses[f"loss_group_{i}"] = micro_batch_mean(per_region, weights[i], micro_batch)
        return losses

    def scores(self, logits: Tensor) -> Tensor:
        """[R, L] -> [R, C+1]: softmax in the class's group times the gate's foreground probability.

        The "others" probabilities are dropped and nothing is normalised again: a row may sum to more than 1.
        """
        probabilities = torch.cat([part.softmax(dim=1) for part in logits.float().split(self._lengths, dim=1)], dim=1)
        foreground = probabilities.index_select(1, self.class_logit) * probabilities[:, 1:2]
        return torch.cat([probabilities[:, :1], foreground], dim=1)

    @property
    def _lengths(self) -> list[int]:
        return [length for _, length in self.slices]

    def extra_repr(self) -> str:
        """Options, for ``print(model)``."""
        return f"edges={self.edges}, others_ratio={self.others_ratio}, slices={self.slices}"


def _label_to_bin(groups: Tensor, num_groups: int) -> Tensor:
    """[C] group of each class -> [G+1, C+1] bin of each label in the gate and in each group."""
    member = groups[None] == torch.arange(num_groups)[:, None]
    table = torch.zeros(num_groups + 1, len(groups) + 1, dtype=torch.int64)
    table[0, 1:] = 1
    table[1:, 1:] = member.cumsum(dim=1) * member
    return table


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

    Source: ``_sample_others`` of the released BAGS code; nothing here waits for the device.
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
