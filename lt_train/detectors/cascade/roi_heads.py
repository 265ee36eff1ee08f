"""RoI heads of several stages: each classifies boxes, refines them, and passes them on to the next.

Shapes: S stages, N images, R regions over the batch, C foreground classes, L logits, D features of a region.
Boxes are xyxy pixels of the resized images; labels are 0..C with 0 = background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from lt_train.calibration.base import Calibration
from lt_train.calibration.stages import OfStages
from lt_train.data.target import Target
from lt_train.detectors.regions.mask_predictor import masks_of_labels
from lt_train.detectors.regions.refining import mean_logits, refined, without_truth
from lt_train.detectors.regions.sampled import Regions
from lt_train.detectors.roi_heads import LongTailRoIHeads

Maps = dict[str, Tensor]
Shapes = list[tuple[int, int]]


@dataclass(frozen=True)
class SeenByStages:
    """What the stages know of proposals before anything is chosen.

    Attributes:
        proposals: N tensors [R_i, 4], the boxes that the last stage looked at.
        box_features: [R, D], what it saw there.
        logits: S tensors [R, L].
        calibration_features: S tensors [R, D'], or ``None`` where no calibration looks at any.
        second_logits: S tensors [R, C+1] of the second heads; none where these score nothing.
    """

    proposals: list[Tensor]
    box_features: Tensor
    logits: list[Tensor]
    calibration_features: list[Tensor | None]
    second_logits: Sequence[Tensor] = ()


class CascadeRoIHeads(nn.Module):
    """The stages, one after the other: :class:`~lt_train.detectors.roi_heads.LongTailRoIHeads` each.

    In training each stage matches and samples by itself, the ground truth added. It refines the boxes that it sampled,
    of which the next stage samples. At test the logits of all stages are averaged, and the last one's boxes are taken.

    Args:
        stages: In order; their weights are saved under ``stages.0``, ``stages.1``, ...
        loss_weights: What the losses of each stage are multiplied by.
        stage_scores: What is averaged at test: ``logits`` as in mmdetection and BAGS, or ``probabilities`` as in
            detectron2.

    Attributes:
        interleaved: Whether the masks of a stage are trained on the boxes that it has refined.
        calibration: What makes scores of logits in place of the heads, or ``None``.
    """

    interleaved: ClassVar[bool] = False
    calibration: Calibration | None

    def __init__(
        self, stages: Sequence[LongTailRoIHeads], loss_weights: Sequence[float], stage_scores: str = "logits"
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.loss_weights = tuple(loss_weights)
        self.stage_scores = stage_scores
        self.calibration = None

    @property
    def of_stages(self) -> list[LongTailRoIHeads]:
        """The RoI heads of each stage."""
        return [cast(LongTailRoIHeads, stage) for stage in self.stages]

    @property
    def pooled_divisors(self) -> bool:
        """See :class:`~lt_train.detectors.roi_heads.LongTailRoIHeads`; the same in all stages."""
        return self.of_stages[0].pooled_divisors

    @pooled_divisors.setter
    def pooled_divisors(self, pooled: bool) -> None:
        for stage in self.of_stages:
            stage.pooled_divisors = pooled

    def maps_for_pools(self, features: Maps, image_shapes: Shapes) -> Maps:
        """What regions are pooled from: the levels of the pyramid."""
        return features

    def has_mask(self) -> bool:
        """Whether the stages predict masks."""
        return bool(self.of_stages[0].has_mask())

    def forward(
        self,
        features: Maps,
        proposals: list[Tensor],
        image_shapes: Shapes,
        targets: list[Target] | None = None,
        *,
        trunk_trains: bool = True,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """As ``LongTailRoIHeads.forward``; the losses of stage i are named ``s{i}.`` and carry its weight."""
        if not self.training:
            return self._detect(features, proposals, image_shapes), {}
        assert targets is not None
        if any(stage.calibrated is not None for stage in self.of_stages):
            return [], self._second_head_losses(features, proposals, image_shapes, targets)
        losses: dict[str, Tensor] = {}
        boxes = proposals
        for index, stage in enumerate(self.of_stages):
            regions = stage.propose(boxes, targets)
            box_features = stage.pool(features, regions.boxes, image_shapes)
            found = stage.box_losses(box_features, regions, targets, trunk_trains=trunk_trains)
            boxes = without_truth(stage, regions, box_features, image_shapes, targets)
            if stage.trains_masks(trunk_trains=trunk_trains):
                if self.interleaved:
                    regions = stage.propose(boxes, targets, purpose="mask-roi")
                found["loss_mask"] = stage.mask_loss(features, regions.foreground(), image_shapes, targets)
            losses |= self.named_losses(index, found)
        return [], losses

    def _second_head_losses(
        self, features: Maps, proposals: list[Tensor], image_shapes: Shapes, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """The loss of the second head of each stage, all of weight 1: each of them is trained as if it were alone."""
        losses: dict[str, Tensor] = {}
        for index, (stage, regions) in enumerate(self._sampled(features, proposals, image_shapes, targets)):
            second = stage.calibrated
            assert second is not None, "internal error: some stages have a second head and some have none"
            found = stage.second_head_loss(second, features, regions, image_shapes, targets)
            losses |= {f"s{index}.{name}": value for name, value in found.items()}
        return losses

    def _sampled(
        self, features: Maps, proposals: list[Tensor], image_shapes: Shapes, targets: Sequence[Target]
    ) -> Iterator[tuple[LongTailRoIHeads, Regions]]:
        """Each stage and the regions that it is trained on: from those of the one before, which this one refined."""
        *stages, last = self.of_stages
        for stage in stages:
            regions = stage.propose(proposals, targets)
            yield stage, regions
            box_features = stage.pool(features, regions.boxes, image_shapes)
            proposals = without_truth(stage, regions, box_features, image_shapes, targets)
        yield last, last.propose(proposals, targets)

    def named_losses(self, stage: int, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a stage with its name and weight."""
        return {f"s{stage}.{name}": value * self.loss_weights[stage] for name, value in losses.items()}

    def look(self, features: Maps, proposals: list[Tensor], image_shapes: Shapes) -> SeenByStages:
        """What the stages see of proposals, each of the boxes that the one before has refined."""
        kind = "none" if self.calibration is None else self.calibration.features
        logits, kept, second, boxes, box_features = [], [], [], proposals, torch.empty(0)
        for index, stage in enumerate(self.of_stages):
            if index:
                boxes = refined(self.of_stages[index - 1], boxes, box_features, image_shapes)
            pooled = stage.box_roi_pool(features, boxes, image_shapes)
            box_features = stage.embed(pooled)
            logits.append(stage.classify(box_features))
            kept.append(stage.calibration_features(pooled, kind))
            if stage.calibrated is not None and stage.calibrated.is_asked:
                second.append(stage.calibrated(pooled))
        return SeenByStages(boxes, box_features, logits, kept, second)

    def scores_of(self, seen: SeenByStages) -> Tensor:
        """Scores [R, C+1], see :meth:`scores_from`; with those of the second heads, where there are any."""
        scores, second = self.scores_from(seen.logits, seen.calibration_features), self.of_stages[0].calibrated
        if second is None or not seen.second_logits:
            return scores
        averaged = self.stage_scores == "logits"
        logits = [mean_logits(seen.second_logits)] if averaged else seen.second_logits
        return second.merged(scores, torch.stack([part.float().softmax(dim=1) for part in logits]).mean(dim=0))

    def scores_from(self, logits: Sequence[Tensor], features: Sequence[Tensor | None]) -> Tensor:
        """Scores [R, C+1] of the averages over the stages, by the calibration if there is one.

        Args:
            logits: S tensors [R, L].
            features: S tensors [R, D'] that the calibration looks at, or ``None``.
        """
        calibration = self.calibration
        if self.stage_scores == "probabilities":
            return self._mean_of_scores(logits, features)
        if isinstance(calibration, OfStages):
            return calibration.scores_of_stages(logits, features)
        mean = mean_logits(logits)
        return self.of_stages[0].head.scores(mean) if calibration is None else calibration.scores(mean, None)

    def _mean_of_scores(self, logits: Sequence[Tensor], features: Sequence[Tensor | None]) -> Tensor:
        """[R, C+1], the average of what each stage would score alone."""
        if self.calibration is None:
            rows = zip(self.of_stages, logits, strict=True)
            return torch.stack([stage.head.scores(own) for stage, own in rows]).mean(dim=0)
        parts = [*self.calibration.parts]
        parts = parts if len(parts) > 1 else parts * len(self.stages)
        stages = zip(parts, logits, features, strict=True)
        return torch.stack([part.scores(own, seen) for part, own, seen in stages]).mean(dim=0)

    def detections_of(self, scores: Tensor, seen: SeenByStages, image_shapes: Shapes) -> list[dict[str, Tensor]]:
        """Detections by ``scores`` [R, C+1], with the boxes of the last stage."""
        return self.of_stages[-1].detections(scores, seen.box_features, seen.proposals, image_shapes)

    def _detect(self, features: Maps, proposals: list[Tensor], image_shapes: Shapes) -> list[dict[str, Tensor]]:
        seen = self.look(features, proposals, image_shapes)
        found = self.detections_of(self.scores_of(seen), seen, image_shapes)
        if self.has_mask():
            self.add_masks(found, features, image_shapes)
        return found

    def add_masks(self, found: list[dict[str, Tensor]], features: Maps, image_shapes: Shapes) -> None:
        """Gives detections their ``mask_probs``.

        Args:
            found: N detections in the resized images; changed.
            features: See :meth:`maps_for_pools`.
            image_shapes: (height, width) of the N resized images.
        """
        boxes, labels = [d["boxes"] for d in found], torch.cat([d["labels"] for d in found])
        probabilities = self.mask_probabilities(features, boxes, labels, image_shapes)
        for detection, masks in zip(found, probabilities.split([len(b) for b in boxes]), strict=True):
            detection["mask_probs"] = masks

    def mask_probabilities(self, features: Maps, boxes: list[Tensor], labels: Tensor, image_shapes: Shapes) -> Tensor:
        """Masks [R, M, M] of regions for their own labels [R]: the average of the stages', all of the same boxes."""
        pooled = self.of_stages[0].mask_roi_pool(features, boxes, image_shapes)
        total: Tensor | None = None
        for stage, hidden in zip(self.of_stages, self.mask_features(pooled), strict=True):
            found = masks_of_labels(stage.mask_predictor, hidden, labels).float().sigmoid()
            total = found if total is None else total + found
        assert total is not None
        return total / len(self.stages)

    def mask_features(self, pooled: Tensor) -> list[Tensor]:
        """What the mask predictor of each stage takes, of pooled feature maps [R, channels, P, P]."""
        return [stage.mask_head(pooled) for stage in self.of_stages]

    def labelled_features(
        self,
        features: Maps,
        proposals: list[Tensor],
        image_shapes: Shapes,
        targets: Sequence[Target],
        *,
        kind: str,
        regions: str,
    ) -> list[tuple[Tensor, Tensor]]:
        """Features and labels for each stage, of its own regions; the averaged logits of the first stage's."""
        if kind == "logits":
            boxes, labels = self.of_stages[0].boxes_to_fit(proposals, targets, regions)
            return [(mean_logits(self.look(features, boxes, image_shapes).logits), torch.cat(labels))]
        if regions == "ground-truth":
            boxes, labels = self.of_stages[0].boxes_to_fit(proposals, targets, regions)
            return [stage.features_of(features, boxes, labels, image_shapes, kind) for stage in self.of_stages]
        found = []
        for stage, sampled in self._sampled(features, proposals, image_shapes, targets):
            chosen = sampled.foreground() if regions == "proposals" else sampled
            found.append(stage.features_of(features, chosen.boxes, chosen.labels, image_shapes, kind))
        return found
