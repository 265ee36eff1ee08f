"""A head for other frameworks, which put the background behind the classes instead of in front of them.

Shapes: R regions, C foreground classes, L logits. Labels here are 0..C-1 for the classes and C for the background.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lt_train.heads.shared.base import Head
from lt_train.heads.shared.draws import Draws


class BackgroundLast(nn.Module):
    """Losses and scores of a head, with labels and scores in the order of detectron2 and mmdetection.

    Where the head has one logit for each class and the background, the background's is the last one too, so that a
    classifier of theirs can be used as it is. Where it has other logits, they stay as the head has them.

    Args:
        head: Any head.

    Attributes:
        num_classes: C.
        num_logits: L, the width of the classifier in front of it.
    """

    logit_order: Tensor | None

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        self.num_classes, self.num_logits = head.num_classes, head.num_logits
        one_each = head.num_logits == head.num_classes + 1 and not head.layout_buffers
        order = torch.tensor([head.num_classes, *range(head.num_classes)]) if one_each else None
        self.register_buffer("logit_order", order, persistent=False)

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        micro_batch: Tensor | None = None,
        generator: Draws = None,
        objects: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """See :meth:`Head.loss`.

        Args:
            logits: [R, L].
            labels: [R] int64, 0..C-1 for the classes, C for the background.
            micro_batch: See :meth:`Head.loss`.
            generator: As above.
            objects: As above.
        """
        ours = torch.where(labels == self.num_classes, 0, labels + 1)
        return self.head.loss(
            self._ordered(logits), ours, micro_batch=micro_batch, generator=generator, objects=objects
        )

    def scores(self, logits: Tensor) -> Tensor:
        """[R, L] logits -> [R, C+1] float32 scores in 0..1; column C is background."""
        scores = self.head.scores(self._ordered(logits))
        return torch.cat([scores[:, 1:], scores[:, :1]], dim=1)

    def initialise(self, bias: Tensor) -> None:
        """Sets the bias [L] of a fresh classifier in front of the head."""
        ordered = torch.empty_like(bias)
        self.head.initialise(ordered)
        with torch.no_grad():
            if self.logit_order is None:
                bias.copy_(ordered)
            else:
                bias[self.logit_order] = ordered

    def _ordered(self, logits: Tensor) -> Tensor:
        self.head.check_width(logits)
        return logits if self.logit_order is None else logits.index_select(1, self.logit_order)
