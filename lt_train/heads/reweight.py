"""Re-weighted softmax: the cross-entropy of a region counts by the weight of its class.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_data.counts.class_weights import KINDS
from lt_train.heads.base import Head, micro_batch_sum
from lt_train.heads.label_weights import label_weights


class ReweightHead(Head):
    """One softmax; logit 0 is background, logit c is class c.

    Args:
        instance_counts: Non-crowd training instances of classes 1..C.
        weighting: ``inverse`` (1 / n) or ``effective-number``.
        beta: Of the effective number, 0..1; 1 is ``inverse``.
        lower: Smallest weight, or ``None``; 0.1 in the released code of BAGS, 0.01 in its supplement.
        upper: Largest weight, or ``None``.
        background: Weight of the background.
        background_ratio: Count the background as so many times all instances instead.

    Attributes:
        weights: [C+1] float32, weight of each label.

    Raises:
        RecipeError: An option is out of range.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019; BAGS (CVPR 2020),
    models 6 and 7.
    """

    weights: Tensor

    def __init__(
        self,
        instance_counts: Sequence[int],
        *,
        weighting: str = "inverse",
        beta: float = 0.999,
        lower: float | None = 0.1,
        upper: float | None = 5.0,
        background: float = 1.0,
        background_ratio: float | None = None,
    ) -> None:
        super().__init__(instance_counts)
        weights = label_weights(
            "reweight",
            instance_counts,
            weighting=weighting,
            allowed=KINDS,
            beta=beta,
            lower=lower,
            upper=upper,
            background=background,
            background_ratio=background_ratio,
        )
        self.register_buffer("weights", weights)

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        micro_batch: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """``loss_classifier``: weighted cross-entropy over the number of regions; draws nothing."""
        losses = F.cross_entropy(logits.float(), labels, reduction="none") * self.weights.index_select(0, labels)
        return {"loss_classifier": micro_batch_sum(losses, micro_batch)}

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax: [R, C+1] -> [R, C+1] float32."""
        return logits.float().softmax(dim=1)
