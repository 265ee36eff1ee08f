"""Adaptive class suppression: an object pushes down only the classes that it is confused with.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_data.errors import RecipeError
from lt_train.heads.shared.base import Around, Head, dense_rank, micro_batch_sum
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.shared.draws import Draws, uniform
from lt_train.heads.sigmoid.channels import prior_bias
from lt_train.heads.sigmoid.options import AcslOptions


class AcslHead(Head):
    """Every class and the background is a yes or no of its own; logit 0 is background, logit c is class c.

    A region of an object trains the logit of its class, and of those others, background included, whose score is at
    least ``threshold``. A background region trains logit 0 and all frequent classes; a drawn share of the background
    regions trains the rare classes, another the common ones, whatever the scores.

    Args:
        counts: Of the training file, with images; a class without an image counts as having one.
        options: A class with at most ``rare`` images is rare, one with at most ``common`` images common.

    Attributes:
        keep: [C+1] float64, the share of the background regions that trains each logit.
        group: [C+1] int64, which draw that share is taken by: 0 for rare classes, 1 for all others.

    Raises:
        RecipeError: The counts of images are missing.

    Source: Wang et al., "Adaptive Class Suppression Loss for Long-Tail Object Detection", CVPR 2021, section 3, and the
    released code.
    """

    goes_by = "images"
    samples_in_batch = True
    scores_by = "sigmoid"
    options: AcslOptions
    keep: Tensor
    group: Tensor

    def __init__(self, counts: TrainingCounts, options: AcslOptions) -> None:
        super().__init__(counts)
        self.options = options
        self.initial_bias = prior_bias(options.prior)
        images = torch.tensor([0, *_images(counts)])
        is_rare, is_common = images <= options.rare, images <= options.common
        keep = torch.ones(self.num_logits, dtype=torch.float64)
        keep[is_common] = options.keep_common
        keep[is_rare] = options.keep_rare
        keep[0] = 1
        self.register_buffer("keep", keep)
        self.register_buffer("group", (~is_rare).long())

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: the sum over the trained channels, over the number of regions. See :meth:`Head.loss`."""
        own = labels[:, None] == torch.arange(self.num_logits, device=labels.device)
        confused = logits.detach().sigmoid() >= self.options.threshold
        trained = torch.where(labels[:, None] == 0, self._kept(labels, around), own | confused)
        per_channel = F.softplus(torch.where(own, -logits, logits)) * trained
        return {"loss_classifier": micro_batch_sum(per_channel.sum(dim=1), around.micro_batch)}

    def _kept(self, labels: Tensor, around: Around) -> Tensor:
        """[R, L] bool: which logits a background region trains; of a micro-batch's B of them, int(share * B)."""
        background = labels == 0
        micro_batch = torch.zeros_like(labels) if around.micro_batch is None else dense_rank(around.micro_batch)
        number = torch.zeros_like(labels).index_add_(0, micro_batch, background.long()).index_select(0, micro_batch)
        places = self._places(background, micro_batch, around.draws).index_select(0, self.group)
        return (places < (number * self.keep[:, None]).floor()).T

    def _places(self, background: Tensor, micro_batch: Tensor, draws: Draws) -> Tensor:
        """[2, R] int64: places from 0 of the background regions in their micro-batch, in two random orders.

        Args:
            background: [R] bool.
            micro_batch: [R] int64 ranks.
            draws: Source of the orders, for rare classes and for common ones.
        """
        draw = uniform(2, len(background), background.device, draws).masked_fill_(~background, 1.5)
        # one sort lays the micro-batches side by side, in each the background in random order and then the objects
        order = (2 * micro_batch + draw).argsort(dim=1)
        place = torch.arange(len(background), device=background.device).expand_as(order)
        size = torch.zeros_like(micro_batch).index_add_(0, micro_batch, torch.ones_like(micro_batch))
        first = (size.cumsum(0) - size).index_select(0, micro_batch)
        return torch.empty_like(order).scatter_(1, order, place) - first

    def scores(self, logits: Tensor) -> Tensor:
        """The sigmoid of every logit: [R, C+1] -> [R, C+1] float32; the background weakens no other score."""
        return logits.float().sigmoid()


def _images(counts: TrainingCounts) -> list[int]:
    """Images of each class, at least 1."""
    if counts.images is None:
        raise RecipeError(
            "head acsl: image_counts are missing; it goes by the images that hold a class, so give "
            "make_head(..., image_counts=[...], num_images=N)"
        )
    return [max(count, 1) for count in counts.images]
