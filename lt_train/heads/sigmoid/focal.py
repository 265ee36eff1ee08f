"""Sigmoid focal loss at proposal level: every class and the background is a yes or no of its own.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_train.heads.shared.base import Around, Head, micro_batch_sum
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.shared.label_weights import label_weights
from lt_train.heads.sigmoid.channels import prior_bias
from lt_train.heads.sigmoid.options import FocalOptions


class FocalHead(Head):
    """Channel 0 is trained to say background, channel c to say class c.

    A class scores the sigmoid of its channel; the background's channel is column 0 and weakens no other score. With
    ``score="softmax"`` all channels share one softmax, as the released code of BAGS tests.

    Args:
        counts: Of the training file.
        options: ``gamma`` 0 plays nothing down. A region's own channel weighs ``alpha``, the others 1 - ``alpha``, so
            with 1 only positives are trained. ``normalise`` divides the sum over the channels by the regions, or by
            regions times L. Class weights are those of :class:`~lt_train.heads.softmax.reweight.ReweightHead`.

    Attributes:
        weights: [C+1] float32, weight of a region by its label.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5 and section 3.3 (prior); BAGS
    (CVPR 2020), models 8 and 9.
    """

    options: FocalOptions
    weights: Tensor

    def __init__(self, counts: TrainingCounts, options: FocalOptions) -> None:
        super().__init__(counts)
        self.options, self.scores_by = options, options.score
        self.initial_bias = prior_bias(options.prior)
        self.register_buffer("weights", label_weights(counts.instances, options.weighting, options))

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: the sum over all channels, over the number of regions (or elements); draws nothing."""
        per_region = self._per_channel(logits, labels).sum(dim=1) * self.weights.index_select(0, labels)
        if self.options.normalise == "elements":
            per_region = per_region / self.num_logits
        return {"loss_classifier": micro_batch_sum(per_region, around.micro_batch)}

    def _per_channel(self, logits: Tensor, labels: Tensor) -> Tensor:
        """[R, L] focal loss of every channel."""
        own = labels[:, None] == torch.arange(self.num_logits, device=labels.device)
        # with the sign of "no" turned round, one formula serves both: -log q_t = softplus(-z), 1 - q_t = sigmoid(-z)
        signed = torch.where(own, logits, -logits)
        alpha, gamma = self.options.alpha, self.options.gamma
        easy = torch.ones_like(signed) if gamma == 0 else (gamma * F.logsigmoid(-signed)).exp()
        return torch.where(own, alpha, 1 - alpha) * easy * F.softplus(-signed)

    def scores(self, logits: Tensor) -> Tensor:
        """[R, C+1] -> [R, C+1] float32, see the class."""
        logits = logits.float()
        return logits.sigmoid() if self.options.score == "sigmoid" else logits.softmax(dim=1)
