"""torchvision's region proposal network with keyed draws, ignore regions, and no losses where nothing trains on them.

Shapes: N images, A anchors of one image; proposals and anchors are xyxy pixels of the resized images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from lt_train.data.target import Target
from lt_train.detectors.regions.ignore import ignore_negatives
from lt_train.detectors.regions.sampling import BoxSampler, image_seeds
from lt_train.global_batch import divisor

# where the smooth L1 loss of the boxes turns linear, as in torchvision
BOX_LOSS_BETA = 1 / 9


class LongTailRPN(RegionProposalNetwork):
    """A ``RegionProposalNetwork`` whose sampler draws by image; made from a stock one by :meth:`from_stock`."""

    @classmethod
    def from_stock(cls, stock: RegionProposalNetwork) -> LongTailRPN:
        """Takes over the modules and settings of ``stock``; the names of its weights stay."""
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
        rpn.fg_bg_sampler = BoxSampler(sampler.batch_size_per_image, sampler.positive_fraction)
        return rpn

    def forward(
        self,
        images: Any,
        features: dict[str, Tensor],
        targets: list[Target] | None = None,
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
        labels, matched = self.assign_targets_to_anchors(anchors, targets or [])
        return proposals, self.losses(objectness, deltas, anchors[0], labels, matched, targets or [])

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Labels of the anchors as torchvision gives them, with -1 for negatives in an ignore region.

        Args:
            anchors: N tensors [A, 4].
            targets: N targets with ``boxes``; ``ignore`` if any.

        Returns:
            N tensors [A] float: 1 positive, 0 negative, -1 ignored; and N tensors [A] int64, the position of the
            ground truth that an anchor overlaps most (0 where there is none).
        """
        found = [self._assign(part, target["boxes"]) for part, target in zip(anchors, targets, strict=True)]
        labels, matched = [list(column) for column in zip(*found, strict=True)]
        return ignore_negatives(labels, anchors, targets), matched

    def _assign(self, anchors: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Torchvision's ``Matcher`` without asking the device for places."""
        if not len(truth):
            return anchors.new_zeros(len(anchors)), anchors.new_zeros(len(anchors), dtype=torch.int64)
        matcher = self.proposal_matcher
        overlap = self.box_similarity(truth, anchors)
        best, matched = overlap.max(dim=0)
        # the anchors that overlap an object most are positive, however little that is
        own = (overlap == overlap.amax(dim=1, keepdim=True)).any(dim=0)
        negative = (best < matcher.low_threshold).float() - 1
        return negative.masked_fill_(own | (best >= matcher.high_threshold), 1.0), matched

    def losses(
        self,
        objectness: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        labels: Sequence[Tensor],
        matched: Sequence[Tensor],
        targets: Sequence[Target],
    ) -> dict[str, Tensor]:
        """The two losses of torchvision over the sampled anchors; 0 instead of NaN where the whole batch is ignored.

        Args:
            objectness: [N * A, 1] logits.
            deltas: [N * A, 4].
            anchors: [A, 4], the same for every image.
            labels: N tensors [A]: 1 positive, 0 negative, -1 ignored.
            matched: N tensors [A] int64, ground truth of each anchor.
            targets: N targets with ``boxes``, and ``draw_seed`` where draws are keyed.

        Returns:
            ``loss_objectness`` and ``loss_rpn_box_reg``.
        """
        chosen = self.fg_bg_sampler(torch.stack(list(labels)), image_seeds(targets, "rpn"))
        number = divisor(chosen.taken.sum())
        logits = objectness.view(len(targets), -1).gather(1, chosen.index)
        wanted = torch.zeros_like(logits)
        wanted[:, : chosen.positives] = 1
        distance = F.binary_cross_entropy_with_logits(logits, wanted, weight=chosen.taken.float(), reduction="sum")
        index, taken = chosen.index[:, : chosen.positives], chosen.taken[:, : chosen.positives, None]
        found = _rows(deltas.view(len(targets), -1, 4), index)
        # only these few anchors are encoded
        truth = _rows(_padded([t["boxes"] for t in targets]), torch.stack(list(matched)).gather(1, index))
        codes = self.box_coder.encode_single(truth.flatten(0, 1), anchors[index].flatten(0, 1)).view_as(found)
        box_distance = F.smooth_l1_loss(
            found.where(taken, 0), codes.where(taken, 0), beta=BOX_LOSS_BETA, reduction="sum"
        )
        return {"loss_objectness": distance / number, "loss_rpn_box_reg": box_distance / number}

    def propose(self, images: Any, features: dict[str, Tensor]) -> list[Tensor]:
        """Proposals alone: the first half of torchvision's ``RegionProposalNetwork.forward``."""
        anchors, objectness, deltas, per_level = self._predict(images, features)
        return self._filter(anchors, objectness, deltas, images.image_sizes, per_level)

    def _predict(self, images: Any, features: dict[str, Tensor]) -> tuple[list[Tensor], Tensor, Tensor, list[int]]:
        """Anchors of N images, logits [N * A, 1] and deltas [N * A, 4] in float32, and anchors of each level."""
        maps = list(features.values())
        objectness, deltas = self.head(maps)
        # anchors take their type from the maps, and half precision would round them by pixels; of the size of maps
        objectness = [level.float() for level in objectness]
        anchors: list[Tensor] = self.anchor_generator(images, objectness)
        per_level = [level[0].numel() for level in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        return anchors, objectness, deltas.float(), per_level

    def _filter(
        self, anchors: list[Tensor], objectness: Tensor, deltas: Tensor, sizes: Any, per_level: list[int]
    ) -> list[Tensor]:
        boxes = self.box_coder.decode(deltas, anchors).view(len(anchors), -1, 4)
        proposals: list[Tensor] = self.filter_proposals(boxes, objectness, sizes, per_level)[0]
        return proposals


def _padded(boxes: Sequence[Tensor]) -> Tensor:
    """N tensors [n, 4] as one [N, most, 4], at least one row each."""
    blank = boxes[0].new_zeros(1, 4)
    return pad_sequence([part if len(part) else blank for part in boxes], batch_first=True)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows [N, K, 4] at places [N, K] of tables [N, rows, 4]."""
    return table.gather(1, index[:, :, None].expand(-1, -1, table.shape[2]))
