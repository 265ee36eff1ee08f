"""torchvision's region proposal network with keyed draws, and without losses where nothing trains on them.

Shapes: N images; proposals are xyxy pixels of the resized images.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from lt_train.detectors.sampling import KeyedSampler, image_generators


class LongTailRPN(RegionProposalNetwork):
    """A ``RegionProposalNetwork`` whose sampler draws by image; made from a stock one by :meth:`from_stock`."""

    @classmethod
    def from_stock(cls, stock: RegionProposalNetwork) -> LongTailRPN:
        """Take over the modules and settings of ``stock``; the names of its weights stay."""
        sampler, matcher = stock.fg_bg_sampler, stock.proposal_matcher
        rpn = cls(
            stock.anchor_generator,
            stock.head,
            matcher.high_threshold,
            matcher.low_threshold,
            sampler.batch_size_per_image,
            sampler.positive_fraction,
            stock._pre_nms_top_n,
            stock._post_nms_top_n,
            stock.nms_thresh,
            score_thresh=stock.score_thresh,
        )
        rpn.fg_bg_sampler = KeyedSampler(sampler.batch_size_per_image, sampler.positive_fraction)
        return rpn

    def forward(
        self,
        images: Any,
        features: dict[str, Tensor],
        targets: list[dict[str, Any]] | None = None,
        *,
        with_losses: bool = True,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals, and in training the RPN losses.

        Args:
            images: ``ImageList`` of N images.
            features: Feature maps by level.
            targets: N targets with ``boxes`` and, where draws are keyed, ``draw_seed``.
            with_losses: ``False`` gives proposals alone, without autograd; their limits stay those of the mode.

        Returns:
            N tensors [boxes, 4], and ``loss_objectness`` and ``loss_rpn_box_reg`` (empty outside training).
        """
        if self.training and with_losses:
            with self.fg_bg_sampler.keyed(image_generators(targets or [], "rpn")):
                proposals, losses = super().forward(images, features, targets)
            return proposals, losses
        with torch.no_grad():
            return self.propose(images, features), {}

    def propose(self, images: Any, features: dict[str, Tensor]) -> list[Tensor]:
        """Proposals alone: the first half of torchvision's ``RegionProposalNetwork.forward``."""
        maps = list(features.values())
        objectness, deltas = self.head(maps)
        anchors = self.anchor_generator(images, maps)
        per_level = [level[0].numel() for level in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        boxes = self.box_coder.decode(deltas, anchors).view(len(anchors), -1, 4)
        proposals: list[Tensor] = self.filter_proposals(boxes, objectness, images.image_sizes, per_level)[0]
        return proposals
