"""What every head offers, and the averaging over micro-batches that heads share.

Shapes: R regions over the batch, C foreground classes, L logits. Labels are 0..C with 0 = background.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lt_train.global_batch import divisor, share, summed
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.shared.draws import Draws
from lt_train.options.section import Section


@dataclass(frozen=True)
class Around:
    """What a loss is told beside logits and labels.

    Attributes:
        micro_batch: [R] int64, which micro-batch a region belongs to, or ``None``: all are one.
        draws: Source of what the loss draws.
        objects: [R] int64, see :meth:`Head.loss`, or ``None``.
    """

    micro_batch: Tensor | None = None
    draws: Draws = None
    objects: Tensor | None = None


class Head(nn.Module, ABC):
    """A function of logits: losses for training, scores for detection. It has buffers and no parameters.

    Args:
        counts: Of the training file.

    Attributes:
        options: Options of the method.
        counts: Of the training file.
        num_classes: C.
        num_logits: L, the width of the classifier in front of this head.
        initial_bias: What the bias of a fresh classifier in front of this head starts from, see :meth:`initialise`.
        layout_buffers: Names of the buffers that say which logit stands for what; a classifier trained under other
            values of them has other columns.
        scores_by: What the scores are made by: one ``softmax`` over logit 0, the background, and C classes; a
            ``sigmoid`` for each class, whose logits are the last C, perhaps times what says that it is an object; or
            ``other``. Calibrations that change logits go by it.
        samples_in_batch: Whether the loss draws or counts regions among those of the whole (micro-)batch, beyond a
            divisor: a process that has a part of them alone cannot compute it.
        wants_objects: Whether the loss needs to know which object a region stands for.
        carries_state: Whether the loss depends on the batches before, through buffers that it changes.
        goes_by: Which counts the formula has, ``instances`` or ``images``; there, a class without any counts as 1.
            Empty where there is no such formula.
    """

    options: Section
    initial_bias: float = 0.0
    layout_buffers: ClassVar[tuple[str, ...]] = ()
    scores_by: Literal["softmax", "sigmoid", "other"] = "other"
    samples_in_batch: ClassVar[bool] = False
    wants_objects: ClassVar[bool] = False
    carries_state: ClassVar[bool] = False
    goes_by: ClassVar[str] = ""
    instance_counts: Tensor

    def __init__(self, counts: TrainingCounts) -> None:
        super().__init__()
        self.counts = counts
        self.num_classes = len(counts.instances)
        self.num_logits = self.num_classes + 1
        self.register_buffer("instance_counts", torch.tensor(counts.instances, dtype=torch.int64))

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Takes a saved state; one of another layout is an error of ``load_state_dict`` and leaves the head alone."""
        for name in self.layout_buffers:
            given, own = state_dict.get(prefix + name), getattr(self, name)
            # slices and order of the logits are not in the state
            if given is not None and (given.shape != own.shape or not torch.equal(given.cpu(), own.cpu())):
                error_msgs.append(
                    f"{prefix}{name}: the logits of the state stand for other groups of classes than those of this "
                    f"{type(self).__name__}; make it with the counts, groups and gate that the state was made with"
                )
                return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def state(self) -> dict[str, Tensor]:
        """A copy of what is saved of the head; empty where it carries nothing from batch to batch."""
        return {name: value.clone() for name, value in self.state_dict().items()} if self.carries_state else {}

    @contextmanager
    def state_kept(self) -> Iterator[None]:
        """Around losses that are computed to be looked at: the head carries over nothing of them."""
        before = self.state()
        yield
        for name, value in before.items():
            self.get_buffer(name).copy_(value)

    def initialise(self, bias: Tensor) -> None:
        """Sets the bias [L] of a fresh classifier in front of this head, all of it to ``initial_bias``."""
        nn.init.constant_(bias, self.initial_bias)

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        micro_batch: Tensor | None = None,
        generator: Draws = None,
        objects: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Named scalar losses, to be summed by the caller; 0 with a gradient path where R = 0.

        Args:
            logits: [R, L], any float type; the mathematics is float32.
            labels: [R] int64 in 0..C.
            micro_batch: [R] int64, which micro-batch a region belongs to: sampling and normalisation happen inside
                each, then the mean over them is taken. ``None`` is one micro-batch.
            generator: Source of what the loss draws, see :data:`~lt_train.heads.shared.draws.Draws`.
            objects: [R] int64, which object a region stands for: any numbers, each once in the batch; -1 for the
                background. Only heads that say so (``wants_objects``) look at it.

        Raises:
            ValueError: The logits are not L wide, or the head needs ``objects`` and there are none.
        """
        self.check_width(logits)
        if self.wants_objects and objects is None:
            raise ValueError(f"objects: missing; {type(self).__name__}.loss needs to know the object of each region")
        return self._losses(logits.float(), labels, Around(micro_batch, generator, objects))

    def check_width(self, logits: Tensor) -> None:
        """Refuses logits of another head: some widths would be computed with, and mean something else.

        Args:
            logits: [R, L].

        Raises:
            ValueError: They are not L wide.
        """
        if logits.dim() != 2 or logits.shape[1] != self.num_logits:
            raise ValueError(
                f"logits: got shape {list(logits.shape)}; {type(self).__name__} of {self.num_classes} classes needs "
                f"[R, {self.num_logits}], from a classifier as wide as head.num_logits"
            )

    @abstractmethod
    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """What :meth:`loss` gives, of float32 logits."""

    @abstractmethod
    def scores(self, logits: Tensor) -> Tensor:
        """[R, L] logits -> [R, C+1] float32 scores in 0..1; column 0 is background."""

    def extra_repr(self) -> str:
        """Options, for ``print(model)``."""
        return ", ".join(f"{key}={value!r}" for key, value in self.options if key != "name")


def dense_rank(ids: Tensor) -> Tensor:
    """Rank (from 0) of each id among the distinct ids, without waiting for the device.

    Args:
        ids: [R] int64.
    """
    ordered, order = ids.sort()
    step = torch.zeros_like(ordered)
    step[1:] = ordered[1:] != ordered[:-1]
    return torch.empty_like(ids).scatter_(0, order, step.cumsum(0))


def micro_batch_sum(losses: Tensor, micro_batch: Tensor | None) -> Tensor:
    """Sum over the number of regions in each micro-batch, then the mean over the micro-batches; 0 without regions.

    Args:
        losses: [R] loss of each region, weights included.
        micro_batch: [R] int64, any numbers, or ``None`` for one micro-batch.
    """
    if micro_batch is None and share().world == 1:
        # the fused mean, bit for bit torchvision's
        return losses.mean() if len(losses) else losses.sum()
    ranks = None if micro_batch is None else dense_rank(micro_batch)
    return (losses * shares(torch.ones_like(losses)[None], ranks)[0]).sum()


def micro_batch_mean(losses: Tensor, weights: Tensor, micro_batch: Tensor | None) -> Tensor:
    """Weighted mean over the regions of each micro-batch, then the mean over the micro-batches; 0 without regions.

    Args:
        losses: [R] loss of each region.
        weights: [R] >= 0, where a micro-batch with regions has a positive one.
        micro_batch: See :func:`micro_batch_sum`.
    """
    if micro_batch is None or share().pooled:
        total = summed(weights.sum())
        return (losses * weights).sum() * share().world / total.where(total > 0, 1)
    ranks = dense_rank(micro_batch)
    totals = torch.zeros_like(weights).index_add_(0, ranks, weights).index_select(0, ranks)
    number = divisor(ranks.max() + 1 if len(ranks) else torch.zeros((), device=weights.device))
    return (losses * weights / totals.where(totals > 0, 1)).sum() / number


def shares(weights: Tensor, micro_batch: Tensor | None) -> Tensor:
    """Weights over their sum in each micro-batch (at least 1), over the number of micro-batches of all processes.

    Args:
        weights: [S, R] >= 0.
        micro_batch: [R] ranks from :func:`dense_rank`, or ``None`` for one micro-batch, which all processes share.

    Source: the average over ranks in the released BAGS code, where a rank is a micro-batch.
    """
    if micro_batch is None or share().pooled:
        return weights / divisor(weights.sum(dim=1, keepdim=True))
    # a batch of R regions has at most R micro-batches; their number stays on the device
    number = divisor(micro_batch.max() + 1 if len(micro_batch) else torch.zeros((), device=weights.device))
    total = torch.zeros_like(weights).index_add_(1, micro_batch, weights)
    return weights / (total.clamp(min=1).index_select(1, micro_batch) * number)
