"""Federated loss: only the classes of the batch and a few drawn ones are trained; the rest are not said to be absent.

Shapes: R regions, M micro-batches, C foreground classes, L = C logits: the background has none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_train.heads.shared.base import Around, dense_rank
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.shared.draws import Draws, uniform_for_each
from lt_train.heads.sigmoid.channels import (
    ClassChannels,
    channel_losses,
    over_regions,
    own_channels,
)
from lt_train.heads.sigmoid.options import FederatedOptions


class FederatedHead(ClassChannels):
    """Channel c - 1 says whether a region is of class c, and is trained in micro-batches that have or draw c.

    Args:
        counts: Of the training file, images included.
        options: ``classes`` are the labels of a micro-batch, background included where it occurs, filled up by draws
            without replacement. More labels than that are all trained; fewer classes than that are all drawn.

    Attributes:
        chances: [C] float64, share of the images with a class to the power ``power``: its weight in the draw.

    Raises:
        RecipeError: The counts of images are not known.

    Source: Zhou, Koltun, Krähenbühl, "Probabilistic two-stage detection", 2021, section 5; detectron2's form.
    """

    goes_by = "images"
    samples_in_batch = True
    options: FederatedOptions
    chances: Tensor

    def __init__(self, counts: TrainingCounts, options: FederatedOptions) -> None:
        super().__init__(counts, options.prior)
        self.options = options
        shares = torch.tensor(counts.image_shares(options.name), dtype=torch.float64)
        self.register_buffer("chances", shares**options.power)

    def _losses(self, logits: Tensor, labels: Tensor, around: Around) -> dict[str, Tensor]:
        """``loss_classifier``: the sum over the trained channels, over the number of all regions."""
        ranks = torch.zeros_like(labels) if around.micro_batch is None else dense_rank(around.micro_batch)
        most = 1 if around.micro_batch is None else max(len(labels), 1)
        trained = self._trained(labels, ranks, self._draw(most, labels.device, around.draws))
        losses = channel_losses(logits, own_channels(labels, self.num_logits))
        return over_regions(losses.masked_fill(~trained.index_select(0, ranks), 0), around.micro_batch)

    def _draw(self, most: int, device: torch.device, draws: Draws) -> Tensor:
        """[M or more, C] in [0, 1), a row for each micro-batch; a class with a higher draw comes sooner."""
        return uniform_for_each(self.num_classes, most, device, draws)

    def _trained(self, labels: Tensor, ranks: Tensor, draw: Tensor) -> Tensor:
        """[M or more, C] bool: the classes among the labels, and those drawn.

        Args:
            labels: [R] int64.
            ranks: [R] int64, micro-batch of each region, from 0.
            draw: See :meth:`_draw`.
        """
        width = self.num_classes + 1
        present = torch.zeros(len(draw) * width, dtype=torch.bool, device=labels.device)
        present = present.scatter(0, ranks * width + labels, torch.ones_like(labels, dtype=torch.bool)).view(-1, width)
        # waiting times at rates w: to take the shortest is to draw in proportion to w, without replacement
        waiting = (-draw.log() / self.chances).masked_fill(present[:, 1:], -1)
        place = waiting.argsort(dim=1).argsort(dim=1)
        drawn = place < self.options.classes - present[:, :1].long()
        return present[:, 1:] | drawn
