"""torchvision's RoI heads with a long-tail head in place of the softmax, as five methods that others reuse.

``propose -> pool -> classify -> (losses | detections) -> masks``; :meth:`LongTailRoIHeads.forward` calls them in order.

Shapes: N images, R regions over the batch, C foreground classes, L logits, D features of a region, M x M mask cells.
Boxes are xyxy pixels of the resized images; labels are 0..C with 0 = background.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import boxes as box_ops

from lt_data.errors import DataError
from lt_train.calibration.base import Calibration
from lt_train.data.mask_targets import mask_targets
from lt_train.data.target import Target
from lt_train.detectors.freeze import is_trainable
from lt_train.detectors.regions.box_loss import box_loss
from lt_train.detectors.regions.detections import after_nms, pairs_above
from lt_train.detectors.regions.ignore import ignore_negatives
from lt_train.detectors.regions.mask_predictor import masks_of_labels, mean_cross_entropy
from lt_train.detectors.regions.micro_batches import draws_of, micro_batch_of
from lt_train.detectors.regions.sampled import Candidates, Regions, Seen, objects_of
from lt_train.detectors.regions.sampling import BoxSampler, image_seeds
from lt_train.detectors.rpn import BOX_LOSS_BETA
from lt_train.detectors.second_head import SecondHead, balanced_regions
from lt_train.detectors.settings import USUAL, RoISettings
from lt_train.global_batch import pooled_divisors
from lt_train.heads.shared.base import Head


class LongTailRoIHeads(RoIHeads):
    """``RoIHeads`` whose classification loss and scores come from a :class:`~lt_train.heads.shared.base.Head`.

    Attributes:
        head: The head; its buffers are saved under ``roi_heads.head``.
        calibration: What makes scores of logits in place of the head, or ``None``; saved under
            ``roi_heads.calibration``.
        calibrated: A second classifier, which alone is trained then, or ``None``; saved under
            ``roi_heads.calibrated``.
        pre_nms_topk: See :class:`~lt_train.detectors.settings.RoISettings`.
        micro_batch_images: As above.
        mask_target: As above.
        pooled_divisors: Whether micro-batches draw by themselves, and divide by the counts of the whole batch.
        draw_key: Tells the draws of these heads from those of others in the same detector.
        box_loss_beta: Where the smooth L1 loss of the boxes turns linear.
    """

    head: Head
    calibration: Calibration | None
    calibrated: SecondHead | None
    pre_nms_topk: int | None
    micro_batch_images: int | None
    mask_target: str
    pooled_divisors: bool = False
    draw_key: tuple[int, ...] = ()
    box_loss_beta: float = BOX_LOSS_BETA

    @classmethod
    def from_stock(cls, stock: RoIHeads, head: Head, settings: RoISettings = USUAL) -> LongTailRoIHeads:
        """Takes over the modules and settings of ``stock``; the names of its weights stay.

        Args:
            stock: RoI heads whose ``box_predictor.cls_score`` is ``head.num_logits`` wide.
            head: Loss and scores.
            settings: What ``stock`` has no word for.
        """
        sampler, matcher = stock.fg_bg_sampler, stock.proposal_matcher
        roi_heads = cls(
            stock.box_roi_pool,
            stock.box_head,
            stock.box_predictor,
            matcher.high_threshold,
            matcher.low_threshold,
            sampler.batch_size_per_image,
            sampler.positive_fraction,
            stock.box_coder.weights,
            stock.score_thresh,
            stock.nms_thresh,
            stock.detections_per_img,
            stock.mask_roi_pool,
            stock.mask_head,
            stock.mask_predictor,
        )
        roi_heads.fg_bg_sampler = BoxSampler(sampler.batch_size_per_image, sampler.positive_fraction)
        roi_heads.head = head
        roi_heads.calibration = None
        roi_heads.calibrated = None
        roi_heads.pre_nms_topk = settings.pre_nms_topk
        roi_heads.micro_batch_images = settings.micro_batch_images
        roi_heads.mask_target = settings.mask_target
        return roi_heads

    @property
    def of_stages(self) -> list[LongTailRoIHeads]:
        """The RoI heads of each stage: of a detector that is no cascade these alone."""
        return [self]

    def maps_for_pools(self, features: dict[str, Tensor], image_shapes: list[tuple[int, int]]) -> dict[str, Tensor]:
        """What regions are pooled from: the levels of the pyramid."""
        return features

    def named_losses(self, stage: int, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a stage as :meth:`forward` gives them."""
        return losses

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
        *,
        trunk_trains: bool = True,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections in evaluation, losses in training.

        Args:
            features: Feature maps by level.
            proposals: N tensors [boxes, 4].
            image_shapes: (height, width) of the N resized images.
            targets: N targets with ``boxes``, ``labels``, ``masks`` (mask models), ``ignore`` if there are regions to
                ignore and ``draw_seed`` if keyed.
            trunk_trains: Whether a weight in front of this module is trainable. Box and mask loss are computed where
                a trainable weight depends on them; the classification loss always is.

        Returns:
            N detections (``boxes``, ``labels``, ``scores``, ``mask_probs``), empty in training; named losses, empty
            in evaluation.
        """
        if not self.training:
            return self._detect(features, proposals, image_shapes), {}
        assert targets is not None
        regions = self.propose(proposals, targets)
        if self.calibrated is not None:
            return [], self.second_head_loss(self.calibrated, features, regions, image_shapes, targets)
        box_features = self.pool(features, regions.boxes, image_shapes)
        losses = self.box_losses(box_features, regions, targets, trunk_trains=trunk_trains)
        if self.trains_masks(trunk_trains=trunk_trains):
            losses["loss_mask"] = self.mask_loss(features, regions.foreground(), image_shapes, targets)
        return [], losses

    def second_head_loss(
        self,
        second: SecondHead,
        features: dict[str, Tensor],
        regions: Regions,
        image_shapes: list[tuple[int, int]],
        targets: Sequence[Target],
    ) -> dict[str, Tensor]:
        """The loss of a second head, on as many regions of the background as of the drawn classes."""
        boxes, labels = regions.at(balanced_regions(regions.labels, targets, self.draw_key))
        return second.loss(self.box_roi_pool(features, boxes, image_shapes), torch.cat(labels))

    def box_losses(
        self, box_features: Tensor, regions: Regions, targets: Sequence[Target], *, trunk_trains: bool
    ) -> dict[str, Tensor]:
        """The losses of :meth:`losses`, that of the boxes where a trainable weight depends on it."""
        with_boxes = trunk_trains or is_trainable(self.box_head, self.box_predictor.bbox_pred)
        return self.losses(self.classify(box_features), box_features, regions, targets, with_boxes=with_boxes)

    def trains_masks(self, *, trunk_trains: bool) -> bool:
        """Whether a trainable weight depends on the loss of the masks, if there are any."""
        return self.has_mask() and (trunk_trains or is_trainable(self.mask_head, self.mask_predictor))

    def _detect(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        seen = self.look(features, proposals, image_shapes)
        found = self.detections_of(self.scores_of(seen), seen, image_shapes)
        if self.has_mask():
            self.add_masks(found, features, image_shapes)
        return found

    def look(self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]) -> Seen:
        """What scores and detections are made of."""
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        return Seen(proposals, pooled, self.embed(pooled))

    def scores_of(self, seen: Seen) -> Tensor:
        """Scores [R, C+1], see :meth:`scores`."""
        return self.scores(seen.box_features, seen.pooled)

    def detections_of(self, scores: Tensor, seen: Seen, image_shapes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """Detections, see :meth:`detections`."""
        return self.detections(scores, seen.box_features, seen.proposals, image_shapes)

    def labelled_features(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Sequence[Target],
        *,
        kind: str,
        regions: str,
    ) -> list[tuple[Tensor, Tensor]]:
        """Features and labels of regions for each classifier, see ``features_by_classifier`` of the detector.

        ``proposals`` are not looked at where ``regions`` is ``ground-truth``.
        """
        boxes, labels = self.boxes_to_fit(proposals, targets, regions)
        return [self.features_of(features, boxes, labels, image_shapes, kind)]

    def features_of(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        labels: list[Tensor],
        image_shapes: list[tuple[int, int]],
        kind: str,
    ) -> tuple[Tensor, Tensor]:
        """Features of a kind, or ``logits``, of the regions of all images; and their labels."""
        pooled = self.box_roi_pool(features, boxes, image_shapes)
        logits = kind == "logits"
        found = self.classify(self.embed(pooled)) if logits else self.calibration_features(pooled, kind)
        assert found is not None, f"internal error: no features are called {kind}"
        return found.float(), torch.cat(labels)

    def boxes_to_fit(
        self, proposals: list[Tensor], targets: Sequence[Target], regions: str
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The boxes of a kind of regions and their labels, by image."""
        if regions == "ground-truth":
            return [t["boxes"] for t in targets], [t["labels"] for t in targets]
        found = self.propose(proposals, targets)
        found = found.foreground() if regions == "proposals" else found
        return found.boxes, found.labels

    def add_masks(
        self, found: list[dict[str, Tensor]], features: dict[str, Tensor], image_shapes: list[tuple[int, int]]
    ) -> None:
        """Gives detections their ``mask_probs``.

        Args:
            found: N detections in the resized images, see :meth:`detections`; changed.
            features: Feature maps by level.
            image_shapes: (height, width) of the N resized images.
        """
        boxes, labels = [d["boxes"] for d in found], [d["labels"] for d in found]
        probabilities = self.masks(features, boxes, torch.cat(labels), image_shapes).float().sigmoid()
        for detection, masks in zip(found, probabilities.split([len(b) for b in boxes]), strict=True):
            detection["mask_probs"] = masks

    def propose(self, proposals: list[Tensor], targets: Sequence[Target], *, purpose: str = "roi") -> Regions:
        """Regions to train on: candidates, sampled by image with draws keyed by the purpose."""
        found = self.candidates(proposals, targets)
        chosen, positives = self.fg_bg_sampler.places(found.labels, image_seeds(targets, purpose, *self.draw_key))
        boxes, matched, labels = (
            [part[index] for part, index in zip(column, chosen, strict=True)]
            for column in (found.boxes, found.matched, found.labels)
        )
        # an image without ground truth encodes against a box of zeros, which no loss reads
        matched_truth = [(t if len(t) else t.new_zeros(1, 4))[m] for t, m in zip(found.truth, matched, strict=True)]
        return Regions(boxes, labels, matched, list(self.box_coder.encode(matched_truth, boxes)), positives)

    def candidates(self, proposals: list[Tensor], targets: Sequence[Target]) -> Candidates:
        """Proposals and ground truth, matched.

        Proposals in an ignore region of their target are never drawn, see :mod:`lt_train.detectors.regions.ignore`.
        """
        truth = [target["boxes"].to(proposals[0].dtype) for target in targets]
        boxes = self.add_gt_proposals(list(proposals), truth)
        matched, labels = self.assign_targets_to_proposals(boxes, truth, [target["labels"] for target in targets])
        return Candidates(boxes, ignore_negatives(labels, boxes, targets), matched, truth)

    def pool(self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Features [R, D] of the regions in front of classifier and box regressor."""
        return self.embed(self.box_roi_pool(features, boxes, image_shapes))

    def embed(self, pooled: Tensor) -> Tensor:
        """Pooled feature maps [R, channels, P, P] -> features [R, D]."""
        box_features: Tensor = self.box_head(pooled)
        return box_features.flatten(start_dim=1)

    def scores(self, box_features: Tensor, pooled: Tensor) -> Tensor:
        """Features [R, D] and the maps that they come from -> scores [R, C+1], by the calibration if there is one."""
        logits = self.classify(box_features)
        kind = "none" if self.calibration is None else self.calibration.features
        scores = self.scores_from([logits], [self.calibration_features(pooled, kind)])
        second = self.calibrated
        if self.calibration is not None or second is None or not second.is_asked:
            return scores
        return second.merged(scores, second(pooled).float().softmax(dim=1))

    def scores_from(self, logits: Sequence[Tensor], features: Sequence[Tensor | None]) -> Tensor:
        """Scores [R, C+1] of the one classifier.

        Args:
            logits: One tensor [R, L].
            features: What the calibration looks at, [R, D'], or ``None``.
        """
        ((own,), (seen,)) = logits, features
        return self.head.scores(own) if self.calibration is None else self.calibration.scores(own, seen)

    def calibration_features(self, pooled: Tensor, kind: str) -> Tensor | None:
        """Features that a calibration looks at.

        Args:
            pooled: Pooled feature maps [R, channels, P, P].
            kind: ``conv`` (the map, flattened), ``fc`` (the second fully connected layer in front of its ReLU, as in
                the released code of BAGS), ``fc-relu`` (behind it, what the classifier sees, as in its text) or
                ``none``.

        Returns:
            [R, size of the kind], or ``None``.
        """
        if kind in ("fc", "fc-relu"):
            hidden = self.hidden(pooled)
            return hidden if kind == "fc" else F.relu(hidden)
        return pooled.flatten(start_dim=1) if kind == "conv" else None

    def hidden(self, pooled: Tensor) -> Tensor:
        """Pooled feature maps [R, channels, P, P] -> the second fully connected layer in front of its ReLU, [R, D]."""
        hidden: Tensor = self.box_head.fc7(F.relu(self.box_head.fc6(pooled.flatten(start_dim=1))))
        return hidden

    @property
    def calibration_sizes(self) -> dict[str, int]:
        """Size of each kind of features that a calibration can look at."""
        hidden = self.box_head.fc7.out_features
        return {"fc": hidden, "fc-relu": hidden, "conv": self.box_head.fc6.in_features}

    def classify(self, box_features: Tensor) -> Tensor:
        """Features [R, D] -> logits [R, L]."""
        logits: Tensor = self.box_predictor.cls_score(box_features)
        return logits

    def losses(
        self,
        logits: Tensor,
        box_features: Tensor,
        regions: Regions,
        targets: Sequence[Target],
        *,
        with_boxes: bool = True,
    ) -> dict[str, Tensor]:
        """The head's losses, and ``loss_box_reg`` if wanted.

        Args:
            logits: [R, L].
            box_features: [R, D], for the box regressor.
            regions: Where the R regions come from.
            targets: N targets; the first one's ``draw_seed`` keys the head's draws ("others").
            with_boxes: Compute the box loss.
        """
        with pooled_divisors(self.pooled_divisors):
            losses = self.head.loss(
                logits,
                torch.cat(regions.labels),
                micro_batch=micro_batch_of(regions.labels, targets, self.micro_batch_images),
                generator=draws_of(regions.labels, targets, self.micro_batch_images, self.draw_key),
                objects=objects_of(regions, targets) if self.head.wants_objects else None,
            )
        if with_boxes:
            deltas = self.box_predictor.bbox_pred(box_features).float()
            losses["loss_box_reg"] = box_loss(deltas, regions, beta=self.box_loss_beta)
        return losses

    def decoded(self, codes: Tensor, boxes: Tensor, shape: tuple[int, int]) -> Tensor:
        """Boxes [n, 4] moved by deltas [n, 4], inside the image; in float32, since half precision rounds corners."""
        moved: Tensor = self.box_coder.decode_single(codes.float(), boxes).reshape(-1, 4)
        return box_ops.clip_boxes_to_image(moved, shape)

    def detections(
        self,
        scores: Tensor,
        box_features: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Scores above the threshold, NMS within each class, the best ``detections_per_img`` of an image.

        Args:
            scores: [R, C+1], column 0 is background.
            box_features: [R, D], for the box regressor.
            proposals: N tensors [R_i, 4].
            image_shapes: (height, width) of the N resized images.

        Returns:
            N dicts of ``boxes`` [n, 4], ``labels`` [n] and ``scores`` [n], best first.
        """
        sizes = [len(boxes) for boxes in proposals]
        deltas = self.box_predictor.bbox_pred(box_features).split(sizes)
        rows = zip(scores.split(sizes), deltas, proposals, image_shapes, strict=True)
        return [self._image_detections(*row) for row in rows]

    def _image_detections(
        self, scores: Tensor, deltas: Tensor, proposals: Tensor, shape: tuple[int, int]
    ) -> dict[str, Tensor]:
        """[R_i, C+1] scores, [R_i, 4(C+1)] or [R_i, 4] deltas and [R_i, 4] proposals of one image -> its detections."""
        # boxes are decoded for the pairs that can matter, not for all R_i * C
        region, label = pairs_above(scores, self.score_thresh, self.pre_nms_topk)
        # one box for all classes, as cascades have
        if deltas.shape[1] == 4:
            boxes = self.decoded(deltas, proposals, shape)[region]
        else:
            codes = deltas.reshape(len(deltas), deltas.shape[1] // 4, 4)[region, label]
            boxes = self.decoded(codes, proposals[region], shape)
        most = self.detections_per_img
        return after_nms(boxes, label, scores[region, label], overlap=self.nms_thresh, most=most)

    def masks(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        labels: Tensor,
        image_shapes: list[tuple[int, int]],
    ) -> Tensor:
        """Mask logits [R, M, M] of each region for its own label [R]."""
        mask_features = self.mask_head(self.mask_roi_pool(features, boxes, image_shapes))
        return masks_of_labels(self.mask_predictor, mask_features, labels)

    def mask_loss(
        self,
        features: dict[str, Tensor],
        regions: Regions,
        image_shapes: list[tuple[int, int]],
        targets: Sequence[Target],
    ) -> Tensor:
        """Mean binary cross-entropy over the mask cells of the foreground regions, on the label's channel.

        Raises:
            DataError: A target has no masks.
        """
        if any("masks" not in target for target in targets):
            raise DataError(
                "masks: missing in a training target; a mask model needs the segmentation of every instance"
            )
        logits = self.masks(features, regions.boxes, torch.cat(regions.labels), image_shapes)
        rows = zip(targets, regions.boxes, regions.matched, strict=True)
        wanted = [mask_targets(t["masks"], b, m, logits.shape[-1], self.mask_target) for t, b, m in rows]
        return mean_cross_entropy(logits.float(), torch.cat(wanted))
