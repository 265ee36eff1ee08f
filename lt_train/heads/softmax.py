"""Plain softmax over background and all classes: the baseline, equal to torchvision's classification loss.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from lt_train.global_batch import share
from lt_train.heads.base import Head, micro_batch_sum
from lt_train.heads.draws import Draws
from lt_train.heads.options.softmax import SoftmaxOptions


class SoftmaxHead(Head):
    """One softmax; logit 0 is background, logit c is class c.

    Args:
        instance_counts: Non-crowd training instances of classes 1..C.
        options: There are none.
    """

    def __init__(self, instance_counts: Sequence[int], options: SoftmaxOptions) -> None:
        super().__init__(instance_counts)
        self.options = options

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        micro_batch: Tensor | None = None,
        generator: Draws = None,
    ) -> dict[str, Tensor]:
        """``loss_classifier``: mean cross-entropy over the regions, see :meth:`Head.loss`; draws nothing."""
        if len(labels) and micro_batch is None and share().world == 1:
            # the fused mean, bit for bit torchvision's
            return {"loss_classifier": F.cross_entropy(logits.float(), labels)}
        losses = F.cross_entropy(logits.float(), labels, reduction="none")
        return {"loss_classifier": micro_batch_sum(losses, micro_batch)}

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax: [R, C+1] -> [R, C+1] float32."""
        return logits.float().softmax(dim=1)
