"""Gumbel activation: a class's yes comes from the Gumbel distribution, which is not symmetric as the sigmoid is.

Shapes: R regions, C foreground classes, L = C logits: the background has none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lt_train.heads.shared.base import Around, Head
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.sigmoid.channels import beside_background, over_regions, own_channels
from lt_train.heads.sigmoid.options import GumbelOptions

# beyond these the released code takes a logit for the bound, so that the loss is finite; nothing is learned there
LOWEST, HIGHEST = -4.0, 10.0


class GumbelHead(Head):
    """Channel c - 1 says with probability exp(-exp(-z)) that a region is of class c; needs no counts.

    Args:
        counts: Of the training file.
        options: See the options.

    Source: Alexandridis et al., "Long-tailed Instance Segmentation using Gumbel Optimized Loss", ECCV 2022,
    equations 4 and 6.
    """

    options: GumbelOptions

    def __init__(self, counts: TrainingCounts, options: GumbelOptions) -> None:
        super().__init__(counts)
        self.options = options
        self.num_logits = self.num_classes
        self.initial_bias = -math.log(-math.log(options.prior))

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: the sum over the channels, over the number of regions; draws nothing."""
        # -log p of "yes"; never 0, so that "no" has a finite one too: -log(1 - p)
        yes = (-logits.clamp(LOWEST, HIGHEST)).exp()
        no = -(-torch.expm1(-yes)).log()
        return over_regions(torch.where(own_channels(labels, self.num_logits), yes, no), around.micro_batch)

    def scores(self, logits: Tensor) -> Tensor:
        """exp(-exp(-z)): [R, C] -> [R, C+1] float32; column 0 is what the best class leaves of 1."""
        return beside_background((-(-logits.float()).exp()).exp())
