"""Re-weighted softmax: the cross-entropy of a region counts by the weight of its class.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lt_train.heads.shared.base import Around, Head, micro_batch_mean, micro_batch_sum
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.shared.label_weights import label_weights
from lt_train.heads.softmax.options import ReweightOptions


class ReweightHead(Head):
    """One softmax; logit 0 is background, logit c is class c.

    Args:
        counts: Of the training file.
        options: How classes are weighed. The released code of BAGS has ``lower=0.1``, its supplement 0.01. With
            ``normalise=weights`` a loss is the weighted mean, as PyTorch's cross-entropy with weights computes it.

    Attributes:
        weights: [C+1] float32, weight of each label.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019; BAGS (CVPR 2020),
    models 6 and 7. Zhang et al., "Distribution Alignment", CVPR 2021, equation 8: ``power=0.8``, weighted mean.
    """

    scores_by = "softmax"
    options: ReweightOptions
    weights: Tensor

    def __init__(self, counts: TrainingCounts, options: ReweightOptions) -> None:
        super().__init__(counts)
        self.options = options
        self.register_buffer("weights", label_weights(counts.instances, options.weighting, options))

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: weighted cross-entropy over the number of regions, or their weights; draws nothing."""
        weights = self.weights.index_select(0, labels)
        losses = F.cross_entropy(logits, labels, reduction="none")
        if self.options.normalise == "regions":
            return {"loss_classifier": micro_batch_sum(losses * weights, around.micro_batch)}
        return {"loss_classifier": micro_batch_mean(losses, weights, around.micro_batch)}

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax: [R, C+1] -> [R, C+1] float32."""
        return logits.float().softmax(dim=1)
