"""Seesaw loss: frequent classes push rare ones down less, and a pair of logits says whether a region is an object.

Shapes: R regions, C foreground classes, L = C + 2 logits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_train.global_batch import summed
from lt_train.heads.shared.base import Around, Head, micro_batch_sum
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.softmax.options import SeesawOptions


class SeesawHead(Head):
    """Logit 0 is background, logit c is class c, the last one is object.

    Logits 0 and C + 1 share a softmax, which all regions train; the classes share another, which only objects train. A
    class scores its part of the classes' softmax times the object's of the other.

    Args:
        counts: Of the training file; the loss goes by what it has seen instead.
        options: Exponents ``p`` of how much rarer a class is, and ``q`` of how much more likely it seems; ``eps`` is
            the least likely that the region's own class is taken to be.

    Attributes:
        seen: [C] int64, regions of each class so far, over all processes.

    Source: Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", CVPR 2021, equations 4 to 8.
    """

    carries_state = True
    options: SeesawOptions
    seen: Tensor

    def __init__(self, counts: TrainingCounts, options: SeesawOptions) -> None:
        super().__init__(counts)
        self.options = options
        self.num_logits = self.num_classes + 2
        self.register_buffer("seen", torch.zeros(self.num_classes, dtype=torch.int64))

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier`` of the classes and ``loss_foreground`` of the pair, each over the number of all regions.

        Draws nothing. The regions of this batch, of all its micro-batches together, are counted before the loss.
        """
        if torch.is_grad_enabled():
            self._count(labels)
        classes, own = logits[:, 1:-1], (labels - 1).clamp(min=0)
        is_object = (labels > 0).long()
        of_classes = F.cross_entropy(classes + self._margins(classes.detach(), own), own, reduction="none")
        of_pair = F.cross_entropy(_pair(logits), is_object, reduction="none")
        return {
            "loss_classifier": micro_batch_sum(of_classes * is_object, around.micro_batch),
            "loss_foreground": micro_batch_sum(of_pair, around.micro_batch),
        }

    def _count(self, labels: Tensor) -> None:
        new = torch.zeros(self.num_classes + 1, dtype=torch.int64, device=labels.device)
        new.index_add_(0, labels, torch.ones_like(labels))
        self.seen += summed(new[1:])

    def _margins(self, classes: Tensor, own: Tensor) -> Tensor:
        """[R, C] logarithms of both factors; 0 for the own class: it is not rarer, nor likelier, than itself.

        Args:
            classes: [R, C] logits.
            own: [R] int64 in 0..C-1.
        """
        seen = self.seen.clamp(min=1).float().log()
        rarer = (seen - seen.index_select(0, own)[:, None]).clamp(max=0)
        likely = classes.log_softmax(dim=1)
        likelier = (likely - likely.gather(1, own[:, None]).clamp(min=math.log(self.options.eps))).clamp(min=0)
        return self.options.p * rarer + self.options.q * likelier

    def scores(self, logits: Tensor) -> Tensor:
        """[R, C+2] -> [R, C+1] float32; the columns sum to 1."""
        logits = logits.float()
        pair = _pair(logits).softmax(dim=1)
        return torch.cat([pair[:, :1], logits[:, 1:-1].softmax(dim=1) * pair[:, 1:]], dim=1)


def _pair(logits: Tensor) -> Tensor:
    """[R, 2] logits of background and object."""
    return torch.stack([logits[:, 0], logits[:, -1]], dim=1)
