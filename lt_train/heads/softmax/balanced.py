"""Balanced softmax: trained with the instance counts as a prior, tested without.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_train.heads.shared.base import Around, Head, micro_batch_sum
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.softmax.options import BalancedSoftmaxOptions


class BalancedSoftmaxHead(Head):
    """One softmax; logit 0 is background, logit c is class c.

    In training, ``tau`` times the logarithm of its count is added to the logit of each class, so that the logits
    themselves need not learn which classes are frequent. The background gets nothing.

    Args:
        counts: Of the training file; a class without instances counts as having one.
        options: ``tau`` 0 is plain softmax, 1 the published loss.

    Attributes:
        prior: [C+1] float32, what is added in training.

    Source: Ren et al., "Balanced Meta-Softmax", NeurIPS 2020, equation 3; Menon et al., "Long-Tail Learning via Logit
    Adjustment", ICLR 2021, equation 10.
    """

    goes_by = "instances"
    scores_by = "softmax"
    options: BalancedSoftmaxOptions
    prior: Tensor

    def __init__(self, counts: TrainingCounts, options: BalancedSoftmaxOptions) -> None:
        super().__init__(counts)
        self.options = options
        # a background of 1 has the logarithm 0
        table = torch.tensor([1, *counts.at_least_one()], dtype=torch.float64)
        self.register_buffer("prior", (options.tau * table.log()).float())

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: cross-entropy with the prior, over the number of regions; draws nothing."""
        losses = F.cross_entropy(logits + self.prior, labels, reduction="none")
        return {"loss_classifier": micro_batch_sum(losses, around.micro_batch)}

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax without the prior: [R, C+1] -> [R, C+1] float32."""
        return logits.float().softmax(dim=1)
