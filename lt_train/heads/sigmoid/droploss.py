"""DropLoss: neither other objects nor most of the background push rare classes down.

Shapes: R regions, M micro-batches, C foreground classes, L = C logits: the background has none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_train.heads.shared.base import Around, dense_rank
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.shared.draws import Draws, uniform
from lt_train.heads.sigmoid.channels import (
    ClassChannels,
    channel_losses,
    over_regions,
    own_channels,
    rare_classes,
)
from lt_train.heads.sigmoid.options import DropLossOptions


class DropLossHead(ClassChannels):
    """Channel c - 1 says whether a region is of class c.

    A rare class is never taught "no" by another object, and by a background region with the chance that an object of
    the micro-batch is of a rare class. Without an object there is no such chance: all background counts.

    Args:
        counts: Of the training file, images included.
        options: ``threshold`` is the share of the images below which a class is rare.

    Attributes:
        rare: [C+1] bool, by label; the background is not rare.

    Raises:
        RecipeError: The counts of images are not known.

    Source: Hsieh et al., "DropLoss for Long-Tail Instance Segmentation", AAAI 2021, and its released code.
    """

    goes_by = "images"
    samples_in_batch = True
    options: DropLossOptions
    rare: Tensor

    def __init__(self, counts: TrainingCounts, options: DropLossOptions) -> None:
        super().__init__(counts, options.prior)
        self.options = options
        rare = rare_classes(counts.image_shares(options.name), options.threshold)
        self.register_buffer("rare", torch.cat([torch.zeros(1, dtype=torch.bool), rare]))

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: the sum over the channels that count, over the number of regions."""
        own = own_channels(labels, self.num_logits)
        background = (labels == 0)[:, None]
        keep = background & self._keep(self._rare_share(labels, around.micro_batch), around.draws)
        spared = self.rare[1:] & ~own & ~keep
        return over_regions(channel_losses(logits, own).masked_fill(spared, 0), around.micro_batch)

    def _keep(self, share: Tensor, draws: Draws) -> Tensor:
        """[R, C] bool: whether a background region counts for a rare class, with the chance ``share`` [R]."""
        return share[:, None] > uniform(self.num_classes, len(share), share.device, draws).T

    def _rare_share(self, labels: Tensor, micro_batch: Tensor | None) -> Tensor:
        """[R] float64: the share of the objects of a region's micro-batch that are of rare classes; 1 without any."""
        ranks = torch.zeros_like(labels) if micro_batch is None else dense_rank(micro_batch)
        objects = torch.stack([labels > 0, self.rare.index_select(0, labels)]).double()
        # a batch of R regions has at most R micro-batches
        every, rare = torch.zeros_like(objects).index_add_(1, ranks, objects).index_select(1, ranks)
        return torch.where(every > 0, rare / every.clamp(min=1), 1)
