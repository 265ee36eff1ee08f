"""Equilibrium loss: a softmax whose margins follow the mean score that each class has reached so far.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_train.global_batch import summed
from lt_train.heads.shared.base import Around, Head, dense_rank, micro_batch_sum
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.softmax.options import EquilibriumOptions


class EquilibriumHead(Head):
    """One softmax; logit 0 is background, logit c is class c.

    In training the logarithm of its mean score is added to the logit of each class: one that scores low so far is
    pushed down less by the others, and has to be pushed up further. The mean follows the scores of the objects of the
    batch, before the loss of that batch. Features are not kept in queues.

    Args:
        counts: Of the training file; nothing goes by them.
        options: ``momentum`` of the means for each object, what they ``start`` from, and the mean score of the
            ``background``, which stays.

    Attributes:
        mean_scores: [C+1] float32, the background first; changes in training.

    Source: Feng, Zhong and Huang, "Exploring Classification Equilibrium in Long-Tailed Object Detection" (LOCE),
    ICCV 2021, section 3.2 and the released code.
    """

    wants_objects = True
    carries_state = True
    scores_by = "softmax"
    options: EquilibriumOptions
    mean_scores: Tensor

    def __init__(self, counts: TrainingCounts, options: EquilibriumOptions) -> None:
        super().__init__(counts)
        self.options = options
        means = torch.full((self.num_logits,), options.start)
        means[0] = options.background
        self.register_buffer("mean_scores", means)

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: cross-entropy with the margins, over the number of regions; draws nothing."""
        if torch.is_grad_enabled() and around.objects is not None:
            self._follow(logits.detach(), labels, around.objects)
        # a mean that has sunk out of float32 counts as its smallest number
        margins = self.mean_scores.clamp(min=torch.finfo(torch.float32).tiny).log()
        losses = F.cross_entropy(logits + margins, labels, reduction="none")
        return {"loss_classifier": micro_batch_sum(losses, around.micro_batch)}

    @torch.no_grad()
    def _follow(self, logits: Tensor, labels: Tensor, objects: Tensor) -> None:
        """Takes the objects of all processes into the means.

        k objects of a class with the mean m act at once: s <- a^k s + (1 - a^k) m. Their order does not matter.
        """
        scores, number = summed(self._of_objects(logits, labels, objects))
        # scores that are not finite are of a step that changes no weight; a NaN here would stay for ever
        number = torch.where(scores.isfinite().all(), number, 0.0)
        scores = torch.where(number > 0, scores, 0.0)
        kept = self.options.momentum**number
        means = kept * self.mean_scores + (1 - kept) * scores / number.clamp(min=1)
        self.mean_scores.copy_(means)

    def _of_objects(self, logits: Tensor, labels: Tensor, objects: Tensor) -> Tensor:
        """[2, C+1] float64: of each class the sum of its objects' scores, and the number of these objects.

        The score of an object is the mean over its regions. The background has no object.
        """
        real = ((labels > 0) & (objects >= 0)).double()
        own = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0].double()
        # there are at most as many objects as regions
        place = dense_rank(objects)
        regions = torch.zeros_like(own).index_add_(0, place, real).index_select(0, place)
        # each region is a part of its object, in score and number alike
        part = real / regions.clamp(min=1)
        table = part.new_zeros(2, self.num_logits)
        return table.index_add_(1, labels, torch.stack([part * own, part]))

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax without the margins: [R, C+1] -> [R, C+1] float32."""
        return logits.float().softmax(dim=1)
