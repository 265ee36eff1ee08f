"""Balanced Group Softmax: classes of similar count compete among themselves, a gate separates objects from background.

Logits: ``[background, foreground | others, classes of group 1 | others, classes of group 2 | ...]``, classes ascending.
Shapes: R regions, C foreground classes, G groups, L = C + 2 + G logits; a "bin" is the position inside a slice.
Without the gate the first two logits are missing: L = C + G.

Source: Li et al., "Overcoming Classifier Imbalance for Long-tail Object Detection with Balanced Group Softmax",
CVPR 2020, section 4 and the released code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_data.errors import RecipeError
from lt_data.groups import BAGS_EDGES, group_index
from lt_train.heads.groups.options import BagsOptions
from lt_train.heads.groups.region_weights import others_weights
from lt_train.heads.shared.base import Around, Head, dense_rank, shares
from lt_train.heads.shared.counts import TrainingCounts


class BagsHead(Head):
    """Balanced Group Softmax over groups of the realised training counts, or over any other groups.

    Args:
        counts: Of the training file; by bounds, one without instances is in group 1.
        options: A count on one of the ``edges`` belongs to the upper group; without edges they are 10, 100, 1000.
            ``groups`` are lists of labels that part 1..C, and stand for the edges.
            ``in_group=inverse`` weighs the classes of a group by the inverse count over the group's mean. For
            ``merge`` see :meth:`scores`.

    Attributes:
        slices: (start, length) of the gate, if there is one, and of each group in the logits.
        label_to_bin: [S, C+1] int64, bin of each label in each slice; the gate's row is 0 background, 1 foreground.
        class_logit: [C] int64, logit of each class.
        logit_label: [C] int64, label of each logit of a class, in the order of the logits; not saved.
        label_weights: [S, C+1] float32, in-group weight of each label in each slice.

    Raises:
        RecipeError: A class is in none of the ``groups``, or in more than one, or a label is no class.
    """

    layout_buffers = ("label_to_bin",)
    samples_in_batch = True
    options: BagsOptions
    label_to_bin: Tensor
    class_logit: Tensor
    logit_label: Tensor
    label_weights: Tensor

    def __init__(self, counts: TrainingCounts, options: BagsOptions) -> None:
        super().__init__(counts)
        self.options = options
        self.gate = options.gate
        self.edges = (options.edges or BAGS_EDGES) if options.groups is None else None
        groups, num_groups = _groups_of_classes(options, counts.instances)
        label_to_bin = _label_to_bin(groups, num_groups, gate=self.gate)
        lengths = (label_to_bin.amax(dim=1) + 1).tolist()
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        self.lengths: tuple[int, ...] = tuple(lengths)
        self.slices: tuple[tuple[int, int], ...] = tuple(zip(starts, lengths, strict=True))
        self.num_logits = sum(lengths)
        self.register_buffer("label_to_bin", label_to_bin)
        own = label_to_bin[int(self.gate) :, 1:]
        self.register_buffer("class_logit", torch.tensor(starts)[groups + int(self.gate)] + own.amax(dim=0))
        self.register_buffer("logit_label", self.class_logit.argsort() + 1, persistent=False)
        weights = torch.ones_like(label_to_bin, dtype=torch.float32)
        if options.in_group == "inverse":
            weights[int(self.gate) :, 1:] = _in_group_weights(self.instance_counts, own > 0).clamp(
                options.in_group_lower, options.in_group_upper
            )
        weights[label_to_bin == 0] = 1
        self.register_buffer("label_weights", weights)

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_group_0`` (the gate, if there is one) and ``loss_group_1`` ... ``loss_group_G``.

        Each is the mean cross-entropy over its kept regions. A group without a region in the micro-batch counts 0
        there: its "others" logit is not trained. See :meth:`Head.loss`.
        """
        first = 0 if self.gate else 1
        micro_batch = None if around.micro_batch is None else dense_rank(around.micro_batch)
        bins = self.label_to_bin.index_select(1, labels)
        groups = bins[1:] if self.gate else bins
        kept = others_weights(groups, self.options.others_ratio, micro_batch=micro_batch, generator=around.draws)
        weights = torch.cat([torch.ones_like(kept[:1]), kept]) if self.gate else kept
        if self.options.in_group != "none":
            weights = weights * self.label_weights.index_select(1, labels)
        # split, not slices: its backward joins the gradients once instead of padding and adding one for each slice
        slices = zip(logits.split(self.lengths, dim=1), bins, shares(weights, micro_batch), strict=True)
        losses = [(F.cross_entropy(part, row, reduction="none") * part_share).sum() for part, row, part_share in slices]
        return {f"loss_group_{first + i}": loss for i, loss in enumerate(losses)}

    def scores(self, logits: Tensor) -> Tensor:
        """[R, L] -> [R, C+1]; the "others" probabilities never become scores, and nothing is normalised again.

        - ``product``: probability in the class's group times the gate's foreground probability; a row may sum to more
          than 1. Without a gate: the probability in the group.
        - ``gated``: probability in the group where the gate's foreground is above 0.5, else 0.
        - ``softmax``: a softmax over the row of ``product``.
        - ``softmax-foreground``: a softmax over the probabilities in all groups, times the foreground probability.
        - ``best-group``: ``product``, kept only for the group that has the highest probability of a class.

        Column 0 is the gate's background probability (its own place in the row for ``softmax``); without a gate the
        smallest "others" probability over the groups that have a class: a region is background as far as every group
        says so. Of equally good groups the first is the best.
        """
        slices = logits.float().split(self.lengths, dim=1)
        if not self.gate:
            scores = self._in_groups(slices)
            return self._keep_best_group(scores) if self.options.merge == "best-group" else scores
        gate = slices[0].softmax(dim=1)
        scores, foreground = self._in_groups(slices[1:], background=gate[:, :1]), gate[:, 1:]
        classes = scores[:, 1:]
        if self.options.merge == "best-group":
            self._keep_best_group(scores)
        elif self.options.merge == "softmax-foreground":
            classes.copy_(classes.softmax(dim=1))
        # in place: the table is the largest tensor here
        classes.mul_(foreground > 0.5 if self.options.merge == "gated" else foreground)
        return scores.softmax(dim=1) if self.options.merge == "softmax" else scores

    def _in_groups(self, slices: Sequence[Tensor], background: Tensor | None = None) -> Tensor:
        """[R, C+1]: probability of each class in its group; column 0 is ``background`` or the smallest "others"."""
        regions = len(slices[0])
        scores = slices[0].new_empty(regions, self.num_classes + 1)
        others = scores.new_ones(regions, 1)
        labels = self.logit_label.split([part.shape[1] - 1 for part in slices])
        for part, columns in zip(slices, labels, strict=True):
            probability = part.softmax(dim=1)
            scores.scatter_(1, columns.expand(regions, -1), probability[:, 1:])
            if background is None:
                others = torch.minimum(others, probability[:, :1])
            # before the next is made, which then takes the memory that is still in the cache
            del probability
        scores[:, :1] = others if background is None else background
        return scores

    def _keep_best_group(self, scores: Tensor) -> Tensor:
        """``scores``, in place 0 for classes outside the group that has the highest."""
        groups, classes = self.label_to_bin[int(self.gate) :, 1:] > 0, scores[:, 1:]
        best = torch.stack([classes.where(group, 0).amax(dim=1) for group in groups]).argmax(dim=0)
        classes.mul_(groups.index_select(0, best))
        return scores

    def extra_repr(self) -> str:
        """Options and layout, for ``print(model)``; lists of labels would fill pages."""
        shown = [f"{key}={value!r}" for key, value in self.options if key not in ("name", "groups")]
        return ", ".join([*shown, f"slices={self.slices}"])


def _groups_of_classes(options: BagsOptions, instance_counts: Sequence[int]) -> tuple[Tensor, int]:
    """[C] int64 group of each class, from 0, and the number of groups."""
    if options.groups is None:
        edges = options.edges or BAGS_EDGES
        return torch.from_numpy(group_index(list(instance_counts), edges)), len(edges) + 1
    classes = len(instance_counts)
    listed = Counter(label for labels in options.groups for label in labels)
    wrong = {
        "are no classes": sorted(label for label in listed if label > classes),
        "are listed more than once": sorted(label for label, times in listed.items() if times > 1),
        "are in no group": sorted({*range(1, classes + 1)} - {*listed}),
    }
    problems = [f"labels {_some(labels)} {what}" for what, labels in wrong.items() if labels]
    if problems:
        raise RecipeError(
            f"head bags: groups: {'; '.join(problems)}; needed is every label from 1 to {classes} in exactly one list"
        )
    groups = torch.empty(classes, dtype=torch.int64)
    for number, labels in enumerate(options.groups):
        groups[torch.tensor(labels, dtype=torch.int64) - 1] = number
    return groups, len(options.groups)


def _some(labels: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, labels[:most])) + (", ..." if len(labels) > most else "")


def _label_to_bin(groups: Tensor, num_groups: int, *, gate: bool) -> Tensor:
    """[C] group of each class -> [S, C+1] bin of each label in the gate, if there is one, and in each group."""
    member = groups[None] == torch.arange(num_groups)[:, None]
    table = torch.zeros(num_groups + 1, len(groups) + 1, dtype=torch.int64)
    table[0, 1:] = 1
    table[1:, 1:] = member.cumsum(dim=1) * member
    return table if gate else table[1:]


def _in_group_weights(counts: Tensor, member: Tensor) -> Tensor:
    """[C] counts and [G, C] membership -> [G, C]: 1 / count over the group's mean; infinite without instances.

    Source: ``get_bin_weight`` of the released BAGS code.
    """
    inverse = 1 / counts.double()
    counted = member & (counts > 0)
    mean = inverse.where(counted, 0).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
    return (inverse / mean.where(mean > 0, 1)[:, None]).float()
