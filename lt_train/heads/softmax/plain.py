"""Plain softmax over background and all classes: the baseline, equal to torchvision's classification loss.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lt_train.global_batch import share
from lt_train.heads.shared.base import Around, Head, micro_batch_sum
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.softmax.options import SoftmaxOptions


class SoftmaxHead(Head):
    """One softmax; logit 0 is background, logit c is class c.

    Args:
        counts: Of the training file.
        options: There are none.
    """

    scores_by = "softmax"

    def __init__(self, counts: TrainingCounts, options: SoftmaxOptions) -> None:
        super().__init__(counts)
        self.options = options

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: mean cross-entropy over the regions, see :meth:`Head.loss`; draws nothing."""
        if len(labels) and around.micro_batch is None and share().world == 1:
            # the fused mean, bit for bit torchvision's
            return {"loss_classifier": F.cross_entropy(logits, labels)}
        losses = F.cross_entropy(logits, labels, reduction="none")
        return {"loss_classifier": micro_batch_sum(losses, around.micro_batch)}

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax: [R, C+1] -> [R, C+1] float32."""
        return logits.float().softmax(dim=1)
