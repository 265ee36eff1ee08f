"""Re-weighted softmax: the cross-entropy of a region counts by the weight of its class.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from lt_train.heads.base import Head, micro_batch_sum
from lt_train.heads.draws import Draws
from lt_train.heads.label_weights import label_weights
from lt_train.heads.options.reweight import ReweightOptions


class ReweightHead(Head):
    """One softmax; logit 0 is background, logit c is class c.

    Args:
        instance_counts: Non-crowd training instances of classes 1..C.
        options: How classes are weighed. The released code of BAGS has ``lower=0.1``, its supplement 0.01.

    Attributes:
        weights: [C+1] float32, weight of each label.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019; BAGS (CVPR 2020),
    models 6 and 7.
    """

    options: ReweightOptions
    weights: Tensor

    def __init__(self, instance_counts: Sequence[int], options: ReweightOptions) -> None:
        super().__init__(instance_counts)
        self.options = options
        self.register_buffer("weights", label_weights(instance_counts, options.weighting, options))

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        micro_batch: Tensor | None = None,
        generator: Draws = None,
    ) -> dict[str, Tensor]:
        """``loss_classifier``: weighted cross-entropy over the number of regions; draws nothing."""
        losses = F.cross_entropy(logits.float(), labels, reduction="none") * self.weights.index_select(0, labels)
        return {"loss_classifier": micro_batch_sum(losses, micro_batch)}

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax: [R, C+1] -> [R, C+1] float32."""
        return logits.float().softmax(dim=1)
