"""Equalization loss: the objects of other classes do not push rare classes down.

Shapes: R regions, C foreground classes, L = C logits: the background has none.
"""

from __future__ import annotations

from torch import Tensor

from lt_train.heads.shared.base import Around
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.sigmoid.channels import (
    ClassChannels,
    channel_losses,
    over_regions,
    own_channels,
    rare_classes,
)
from lt_train.heads.sigmoid.options import EqualizationOptions


class EqualizationHead(ClassChannels):
    """Channel c - 1 says whether a region is of class c; a rare class is taught "no" by background alone.

    Args:
        counts: Of the training file, images included.
        options: ``threshold`` is the share of the images below which a class is rare; 0 makes plain sigmoids.

    Attributes:
        rare: [C] bool.

    Raises:
        RecipeError: The counts of images are not known.

    Source: Tan et al., "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020, equations 3 to 5.
    """

    goes_by = "images"
    options: EqualizationOptions
    rare: Tensor

    def __init__(self, counts: TrainingCounts, options: EqualizationOptions) -> None:
        super().__init__(counts, options.prior)
        self.options = options
        self.register_buffer("rare", rare_classes(counts.image_shares(options.name), options.threshold))

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: the sum over the channels that count, over the number of regions; draws nothing."""
        own = own_channels(labels, self.num_logits)
        spared = self.rare & (labels > 0)[:, None] & ~own
        return over_regions(channel_losses(logits, own).masked_fill(spared, 0), around.micro_batch)
