"""What heads share whose every channel answers yes or no by itself.

Shapes: R regions, C foreground classes, L channels: C, or C + 1 where the background has one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_train.heads.shared.base import Head, micro_batch_sum
from lt_train.heads.shared.counts import TrainingCounts


def prior_bias(prior: float) -> float:
    """The logit whose sigmoid is ``prior``: where a fresh classifier starts."""
    return -math.log((1 - prior) / prior)


def own_channels(labels: Tensor, channels: int, *, first: int = 1) -> Tensor:
    """[R, L] bool: which channel is the region's own; a label without a channel has none.

    Args:
        labels: [R] int64 in 0..C.
        channels: L.
        first: Label of channel 0: 1, or 0 where the background has a channel.
    """
    return labels[:, None] == torch.arange(first, first + channels, device=labels.device)


def channel_losses(logits: Tensor, own: Tensor) -> Tensor:
    """[R, L] binary cross-entropy of each channel, finite for every finite logit.

    Args:
        logits: [R, L] float32.
        own: [R, L] bool, where the answer is yes.
    """
    # -log sigmoid(z) = softplus(-z), and -log(1 - sigmoid(z)) = softplus(z)
    return F.softplus(torch.where(own, -logits, logits))


def over_regions(losses: Tensor, micro_batch: Tensor | None) -> dict[str, Tensor]:
    """``loss_classifier``: the sum over the channels, over the number of regions, see ``micro_batch_sum``.

    Args:
        losses: [R, L] loss of each channel, weights included.
        micro_batch: [R] int64 or ``None``.
    """
    return {"loss_classifier": micro_batch_sum(losses.sum(dim=1), micro_batch)}


def beside_background(classes: Tensor) -> Tensor:
    """[R, C] scores of the classes -> [R, C+1]; the background's, in column 0, is what the best class leaves of 1."""
    return torch.cat([1 - classes.amax(dim=1, keepdim=True), classes], dim=1)


def rare_classes(shares: list[float], threshold: float) -> Tensor:
    """[C] bool: classes that fewer than this share of the images hold."""
    return torch.tensor(shares, dtype=torch.float64) < threshold


class ClassChannels(Head):
    """A head with a sigmoid for each class and none for the background: channel c - 1 is class c, L = C.

    Args:
        counts: Of the training file.
        prior: Score that a fresh classifier starts from.
    """

    scores_by = "sigmoid"

    def __init__(self, counts: TrainingCounts, prior: float) -> None:
        super().__init__(counts)
        self.num_logits = self.num_classes
        self.initial_bias = prior_bias(prior)

    def scores(self, logits: Tensor) -> Tensor:
        """Sigmoids: [R, C] -> [R, C+1] float32; column 0 is what the best class leaves of 1."""
        return beside_background(logits.float().sigmoid())
