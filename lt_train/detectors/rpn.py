"""torchvision's region proposal network with keyed draws, ignore regions, and no losses where nothing trains on them.

Shapes: N images, A anchors of one image; proposals and anchors are xyxy pixels of the resized images.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from lt_train.detectors.ignore import ignore_negatives
from lt_train.detectors.sampling import KeyedSampler, image_generators

# where the smooth L1 loss of the boxes turns linear, as in torchvision
BOX_LOSS_BETA = 1 / 9


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
            targets: N targets with ``boxes``, ``ignore`` if there are regions to ignore, and ``draw_seed`` where
                draws are keyed.
            with_losses: ``False`` gives proposals alone, without autograd; their limits stay those of the mode.

        Returns:
            N tensors [boxes, 4], and ``loss_objectness`` and ``loss_rpn_box_reg`` (empty outside training).
        """
        if not (self.training and with_losses):
            with torch.no_grad():
                return self.propose(images, features), {}
        anchors, objectness, deltas, per_level = self._predict(images, features)
        proposals = self._filter(anchors, objectness.detach(), deltas.detach(), images.image_sizes, per_level)
        labels, matched_boxes = self.assign_targets_to_anchors(anchors, targets or [])
        wanted = self.box_coder.encode(matched_boxes, anchors)
        with self.fg_bg_sampler.keyed(image_generators(targets or [], "rpn")):
            loss_objectness, loss_boxes = self.compute_loss(objectness, deltas, labels, list(wanted))
        return proposals, {"loss_objectness": loss_objectness, "loss_rpn_box_reg": loss_boxes}

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Any]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Labels of the anchors as torchvision gives them, with -1 for negatives in an ignore region.

        Args:
            anchors: N tensors [A, 4].
            targets: N targets with ``boxes``; ``ignore`` if any.

        Returns:
            N tensors [A] float: 1 positive, 0 negative, -1 ignored; and N tensors [A, 4], the matched ground truth.
        """
        labels, matched_boxes = super().assign_targets_to_anchors(anchors, targets)
        return ignore_negatives(labels, anchors, targets), matched_boxes

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The two losses of torchvision over the sampled anchors; 0 instead of NaN where the whole batch is ignored.

        Args:
            objectness: [N * A, 1] logits.
            pred_bbox_deltas: [N * A, 4].
            labels: N tensors [A]: 1 positive, 0 negative, -1 ignored.
            regression_targets: N tensors [A, 4].

        Returns:
            ``loss_objectness`` and ``loss_rpn_box_reg``.
        """
        positive, negative = (torch.where(torch.cat(chosen))[0] for chosen in self.fg_bg_sampler(labels))
        sampled = torch.cat([positive, negative])
        if not len(sampled):
            return objectness.sum() * 0, pred_bbox_deltas.sum() * 0
        loss_objectness = F.binary_cross_entropy_with_logits(objectness.flatten()[sampled], torch.cat(labels)[sampled])
        wanted = torch.cat(regression_targets)[positive]
        distance = F.smooth_l1_loss(pred_bbox_deltas[positive], wanted, beta=BOX_LOSS_BETA, reduction="sum")
        return loss_objectness, distance / len(sampled)

    def propose(self, images: Any, features: dict[str, Tensor]) -> list[Tensor]:
        """Proposals alone: the first half of torchvision's ``RegionProposalNetwork.forward``."""
        anchors, objectness, deltas, per_level = self._predict(images, features)
        return self._filter(anchors, objectness, deltas, images.image_sizes, per_level)

    def _predict(self, images: Any, features: dict[str, Tensor]) -> tuple[list[Tensor], Tensor, Tensor, list[int]]:
        """Anchors of N images, logits [N * A, 1] and deltas [N * A, 4] in float32, and anchors of each level."""
        maps = list(features.values())
        objectness, deltas = self.head(maps)
        anchors: list[Tensor] = self.anchor_generator(images, maps)
        per_level = [level[0].numel() for level in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        # half precision would round corners to whole pixels and more
        return anchors, objectness.float(), deltas.float(), per_level

    def _filter(
        self, anchors: list[Tensor], objectness: Tensor, deltas: Tensor, sizes: Any, per_level: list[int]
    ) -> list[Tensor]:
        boxes = self.box_coder.decode(deltas, anchors).view(len(anchors), -1, 4)
        proposals: list[Tensor] = self.filter_proposals(boxes, objectness, sizes, per_level)[0]
        return proposals
