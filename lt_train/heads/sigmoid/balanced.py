"""Balanced sigmoid: in training, the logits of objects are shifted by how many images hold a class.

Shapes: R regions, C foreground classes, L = C logits: the background has none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_train.heads.shared.base import Around
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.sigmoid.channels import (
    ClassChannels,
    channel_losses,
    over_regions,
    own_channels,
)
from lt_train.heads.sigmoid.options import BalancedSigmoidOptions


class BalancedSigmoidHead(ClassChannels):
    """Channel c - 1 says whether a region is of class c; scores are the plain sigmoids.

    Args:
        counts: Of the training file, images included.
        options: See the options.

    Attributes:
        shift: [C] float32, log((1 - f) / f) of the share f of images with the class. Of a class that every image
            holds it would be infinite; half an image is taken to be without it.

    Raises:
        RecipeError: The counts of images are not known.

    Source: Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, the released code
    for instance segmentation.
    """

    goes_by = "images"
    options: BalancedSigmoidOptions
    shift: Tensor

    def __init__(self, counts: TrainingCounts, options: BalancedSigmoidOptions) -> None:
        super().__init__(counts, options.prior)
        self.options = options
        shares = torch.tensor(counts.image_shares(options.name), dtype=torch.float64)
        # image_shares has made sure that there is a number of images
        shares = shares.clamp(max=1 - 0.5 / (counts.num_images or 1))
        self.register_buffer("shift", ((1 - shares) / shares).log().float())

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: the sum over the channels, over the number of regions; draws nothing.

        Background is no object of any class, whatever the frequencies: its logits are not shifted.
        """
        shifted = logits - torch.where((labels > 0)[:, None], self.shift, 0)
        losses = channel_losses(shifted, own_channels(labels, self.num_logits))
        return over_regions(losses, around.micro_batch)
