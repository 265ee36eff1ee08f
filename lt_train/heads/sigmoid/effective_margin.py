"""Effective class margins: sigmoids with margins and weights that bound the error of ranking each class.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_train.heads.shared.base import Around, Head, micro_batch_sum
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.sigmoid.channels import prior_bias
from lt_train.heads.sigmoid.options import EffectiveMarginOptions


class EffectiveMarginHead(Head):
    """Every class and the background is a yes or no of its own; logit 0 is background, logit c is class c.

    Of n positives and m negatives, a class gives its positives the margin log(1 + (n/m)^(1/4)) and its negatives
    log(1 + (m/n)^(1/4)), and counts by (m/n) log(1 + n/m). Its probability is that of a softmax over z plus the first
    margin and -z plus the second: a sigmoid of 2z plus their difference.

    Args:
        counts: Of the training file; a class without instances counts as having one.
        options: The background counts as ``background_ratio`` times all instances.

    Attributes:
        positive_margins: [C+1] float32.
        negative_margins: [C+1] float32.
        class_weights: [C+1] float32.

    Source: Hyun Cho and Kraehenbuehl, "Long-tail Detection with Effective Class-Margins", ECCV 2022, section 4.
    """

    goes_by = "instances"
    scores_by = "sigmoid"
    options: EffectiveMarginOptions
    positive_margins: Tensor
    negative_margins: Tensor
    class_weights: Tensor

    def __init__(self, counts: TrainingCounts, options: EffectiveMarginOptions) -> None:
        super().__init__(counts)
        self.options = options
        self.initial_bias = prior_bias(options.prior)
        instances = counts.at_least_one()
        positives = torch.tensor([options.background_ratio * sum(instances), *instances], dtype=torch.float64)
        ratio = (positives.sum() - positives) / positives
        root = ratio**0.25
        self.register_buffer("positive_margins", torch.log1p(1 / root).float())
        self.register_buffer("negative_margins", torch.log1p(root).float())
        self.register_buffer("class_weights", (ratio * torch.log1p(1 / ratio)).float())

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: the weighted sum over all channels, over the number of regions; draws nothing."""
        own = labels[:, None] == torch.arange(self.num_logits, device=labels.device)
        shifted = 2 * logits + (self.positive_margins - self.negative_margins)
        per_channel = F.softplus(torch.where(own, -shifted, shifted)) * self.class_weights
        return {"loss_classifier": micro_batch_sum(per_channel.sum(dim=1), around.micro_batch)}

    def scores(self, logits: Tensor) -> Tensor:
        """[R, C+1] -> [R, C+1] float32: the sigmoid of a class times that of "not background", without margins."""
        logits = logits.float()
        background = logits[:, :1]
        return torch.cat([background.sigmoid(), logits[:, 1:].sigmoid() * (-background).sigmoid()], dim=1)
