"""Hybrid Task Cascade: masks of refined boxes, mask heads that pass on what they found, and a semantic branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from lt_train.data.target import Target
from lt_train.detectors.cascade.detector import CascadeDetector
from lt_train.detectors.cascade.mask_flow import FlowMaskHead
from lt_train.detectors.cascade.roi_heads import CascadeRoIHeads, Maps, Shapes
from lt_train.detectors.cascade.semantic import SEMANTIC, SemanticBranch, WithSemantic
from lt_train.detectors.cascade.stages import LOSS_WEIGHTS, make_stages
from lt_train.detectors.freeze import is_trainable
from lt_train.detectors.settings import RoISettings
from lt_train.heads.shared.base import Head


class HTCRoIHeads(CascadeRoIHeads):
    """A cascade whose mask heads are :class:`~lt_train.detectors.cascade.mask_flow.FlowMaskHead`.

    Attributes:
        semantic: The semantic branch, or ``None``; with one, the pools of the stages are ``WithSemantic``.
    """

    interleaved: ClassVar[bool] = True
    semantic: SemanticBranch | None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.semantic = None

    def forward(
        self,
        features: Maps,
        proposals: list[Tensor],
        image_shapes: Shapes,
        targets: list[Target] | None = None,
        *,
        trunk_trains: bool = True,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """As ``CascadeRoIHeads.forward``, and ``loss_semantic`` where a trainable weight depends on it."""
        if self.semantic is None:
            return super().forward(features, proposals, image_shapes, targets, trunk_trains=trunk_trains)
        hidden = self.semantic.hidden(list(features.values()), image_shapes)
        features = {**features, SEMANTIC: self.semantic.features(hidden)}
        found, losses = super().forward(features, proposals, image_shapes, targets, trunk_trains=trunk_trains)
        if self.training and (trunk_trains or is_trainable(self.semantic)):
            losses["loss_semantic"] = self.semantic.loss(hidden, targets or [])
        return found, losses

    def look(self, features: Maps, proposals: list[Tensor], image_shapes: Shapes) -> Any:
        """See :meth:`CascadeRoIHeads.look`."""
        return super().look(self.maps_for_pools(features, image_shapes), proposals, image_shapes)

    def labelled_features(
        self, features: Maps, proposals: list[Tensor], image_shapes: Shapes, targets: Sequence[Target], **choice: str
    ) -> list[tuple[Tensor, Tensor]]:
        """See :meth:`CascadeRoIHeads.labelled_features`."""
        features = self.maps_for_pools(features, image_shapes)
        return super().labelled_features(
            features, proposals, image_shapes, targets, kind=choice["kind"], regions=choice["regions"]
        )

    def maps_for_pools(self, features: Maps, image_shapes: Shapes) -> Maps:
        """See :meth:`CascadeRoIHeads.maps_for_pools`; with the semantic features, where there is such a branch."""
        if self.semantic is None or SEMANTIC in features:
            return features
        hidden = self.semantic.hidden(list(features.values()), image_shapes)
        return {**features, SEMANTIC: self.semantic.features(hidden)}

    def mask_features(self, pooled: Tensor) -> list[Tensor]:
        """See :meth:`CascadeRoIHeads.mask_features`; each mask head is run once."""
        found: list[Tensor] = []
        for stage in self.of_stages:
            head: Any = stage.mask_head
            found.append(head.step(pooled, found[-1] if found else None))
        return found


class HTCDetector(CascadeDetector):
    """Hybrid Task Cascade; made by ``build_detector`` or :meth:`from_stock`.

    Source: Chen et al., "Hybrid Task Cascade for Instance Segmentation", CVPR 2019.
    """

    @classmethod
    def roi_heads_from_stock(
        cls,
        stock: GeneralizedRCNN,
        head: Head,
        settings: RoISettings,
        *,
        stage_scores: str = "logits",
        semantic: str = "none",
    ) -> HTCRoIHeads:
        """See :meth:`CascadeDetector.roi_heads_from_stock`; ``semantic`` is ``stuff`` or ``none``."""
        stages = make_stages(stock.roi_heads, head, settings)
        channels, previous = stock.backbone.out_channels, None
        for stage in stages:
            hidden = stage.mask_predictor.conv5_mask.in_channels
            previous = FlowMaskHead(stage.mask_head, channels, hidden, previous)
            stage.mask_head = previous
        roi_heads = HTCRoIHeads(stages, LOSS_WEIGHTS, stage_scores)
        if semantic == "stuff":
            roi_heads.semantic = SemanticBranch(channels, len(stock.rpn.anchor_generator.sizes))
            for stage in stages:
                stage.box_roi_pool = WithSemantic(stage.box_roi_pool)
                stage.mask_roi_pool = WithSemantic(stage.mask_roi_pool)
        return roi_heads
