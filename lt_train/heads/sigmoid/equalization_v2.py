"""Equalization loss v2: each class weighs its positives and negatives by the gradients that it has had of either.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_train.global_batch import summed
from lt_train.heads.shared.base import Around, Head, micro_batch_sum
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.sigmoid.channels import prior_bias
from lt_train.heads.sigmoid.options import EqualizationV2Options

# of positive to negative gradients, for a class that has had none: everything weighs 1
START: Final = 100.0
TINY: Final = 1e-10


class EqualizationV2Head(Head):
    """Logit 0 is trained to say background, logit c to say class c.

    A class scores the sigmoid of its logit times what the background's sigmoid leaves; column 0 is the latter.

    Args:
        counts: Of the training file; the loss goes by what it has seen instead.
        options: ``mu`` is the ratio of gradients at which negatives weigh half, ``gamma`` how steep that is, 1 +
            ``alpha`` the largest weight of a positive.

    Attributes:
        positive_gradient: [C] float32, sum of the weighted sizes of all gradients that regions of a class gave its own
            logit so far, over all processes; not divided by regions.
        negative_gradient: [C] float32, the same of all other regions.

    Source: Tan et al., "Equalization Loss v2: A New Gradient Balance Approach for Long-tailed Object Detection", CVPR
    2021, equations 5 to 8; the background's logit and the start are those of the released code.
    """

    carries_state = True
    scores_by = "sigmoid"
    options: EqualizationV2Options
    positive_gradient: Tensor
    negative_gradient: Tensor

    def __init__(self, counts: TrainingCounts, options: EqualizationV2Options) -> None:
        super().__init__(counts)
        self.options = options
        self.initial_bias = prior_bias(options.prior)
        self.register_buffer("positive_gradient", torch.zeros(self.num_classes))
        self.register_buffer("negative_gradient", torch.zeros(self.num_classes))

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: the weighted sum over all logits, over the number of regions; draws nothing.

        The weights come from the batches before this one, whose gradients are added afterwards, those of all its
        micro-batches together.
        """
        own = labels[:, None] == torch.arange(self.num_logits, device=labels.device)
        positive, negative = self._weights()
        weights = torch.where(own, positive, negative)
        # with the sign of "no" turned round, one formula serves both: -log q = softplus(-z), |gradient| = sigmoid(-z)
        signed = torch.where(own, logits, -logits)
        if torch.is_grad_enabled():
            self._collect((weights * signed.detach().neg().sigmoid())[:, 1:], own[:, 1:])
        return {"loss_classifier": micro_batch_sum((weights * F.softplus(-signed)).sum(dim=1), around.micro_batch)}

    def _weights(self) -> tuple[Tensor, Tensor]:
        """[L] weights of positives and of negatives; those of the background are 1."""
        had = (self.positive_gradient + self.negative_gradient) > 0
        ratio = torch.where(had, self.positive_gradient / (self.negative_gradient + TINY), START)
        fall = (self.options.gamma * (ratio - self.options.mu)).sigmoid()
        negative = F.pad(fall, (1, 0), value=1.0)
        return 1 + self.options.alpha * (1 - negative), negative

    def _collect(self, sizes: Tensor, own: Tensor) -> None:
        """Adds the sizes [R, C] of gradients up, of regions of the class itself and of others."""
        new = summed(torch.stack([(sizes * own).sum(dim=0), (sizes * ~own).sum(dim=0)]))
        # a step whose loss is not finite changes no weight; a NaN here would stay for ever
        new = torch.where(new.isfinite().all(), new, 0.0)
        self.positive_gradient += new[0]
        self.negative_gradient += new[1]

    def scores(self, logits: Tensor) -> Tensor:
        """[R, C+1] -> [R, C+1] float32, see the class."""
        logits = logits.float()
        background, classes = logits[:, :1], logits[:, 1:]
        return torch.cat([background.sigmoid(), classes.sigmoid() * (-background).sigmoid()], dim=1)
