"""Cascade R-CNN and Cascade Mask R-CNN: trunk and proposals of Faster R-CNN, RoI heads of several stages."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from lt_data.errors import RecipeError
from lt_train.calibration import make_calibration
from lt_train.calibration.base import WithEvidence
from lt_train.calibration.stages import OfStages
from lt_train.detectors.cascade.roi_heads import CascadeRoIHeads
from lt_train.detectors.cascade.stages import LOSS_WEIGHTS, STAGES, make_stages
from lt_train.detectors.detector import LongTailDetector
from lt_train.detectors.foreign.names import CLASSIFIER, MASK_LOGITS
from lt_train.detectors.settings import RoISettings
from lt_train.heads.shared.base import Head

ROI_HEADS = "roi_heads."


def in_stage(name: str, index: int) -> str:
    """The name in a stage of what a detector of one stage calls ``name``."""
    return f"{ROI_HEADS}stages.{index}.{name.removeprefix(ROI_HEADS)}"


def in_stages(*names: str) -> tuple[str, ...]:
    """The names in all stages of what a detector of one stage calls so; what lies in no RoI head keeps its name."""
    found = [in_stage(name, i) if name.startswith(ROI_HEADS) else name for i in range(len(STAGES)) for name in names]
    return tuple(dict.fromkeys(found))


class CascadeDetector(LongTailDetector):
    """A detector whose RoI heads are a cascade; made by ``build_detector`` or :meth:`from_stock`.

    The weights of stage i are saved under ``roi_heads.stages.{i}``, by torchvision's names; its head's buffers too.
    """

    class_layers: ClassVar[tuple[str, ...]] = in_stages(CLASSIFIER, MASK_LOGITS)

    @classmethod
    def roi_heads_from_stock(
        cls, stock: GeneralizedRCNN, head: Head, settings: RoISettings, *, stage_scores: str = "logits"
    ) -> CascadeRoIHeads:
        """See :meth:`LongTailDetector.roi_heads_from_stock`.

        Args:
            stock: Torchvision's model.
            head: Loss and scores.
            settings: Of each stage.
            stage_scores: See :class:`~lt_train.detectors.cascade.roi_heads.CascadeRoIHeads`.
        """
        stages = make_stages(stock.roi_heads, head, settings)
        return CascadeRoIHeads(stages, LOSS_WEIGHTS, stage_scores)

    @property
    def head(self) -> Head:
        """The head of the first stage; those of the others have the same options."""
        return self.roi_heads.of_stages[0].head

    def heads(self) -> dict[str, Head]:
        """See :meth:`LongTailDetector.heads`."""
        return {in_stage("head", i): stage.head for i, stage in enumerate(self.roi_heads.of_stages)}

    def classifiers(self) -> dict[str, nn.Linear]:
        """See :meth:`LongTailDetector.classifiers`."""
        stages = enumerate(self.roi_heads.of_stages)
        return {in_stage(CLASSIFIER, i): stage.box_predictor.cls_score for i, stage in stages}

    def parts(self, train: str) -> tuple[str, ...]:
        """See :meth:`LongTailDetector.parts`."""
        return in_stages(*super().parts(train))

    def compilable(self) -> list[nn.Module]:
        """See :meth:`LongTailDetector.compilable`."""
        heads = [part for stage in self.roi_heads.of_stages for part in (stage.box_head, stage.mask_head)]
        return [self.backbone, self.rpn.head, *(part for part in heads if part is not None)]

    def add_calibration(self, name: str, **options: Any) -> None:
        """See :meth:`LongTailDetector.add_calibration`: one for each stage, or one of averages."""
        parts = [
            make_calibration(
                name,
                head=stage.head,
                classifier=stage.box_predictor.cls_score,
                feature_sizes=stage.calibration_sizes,
                **options,
            )
            for stage in self.roi_heads.of_stages
        ]
        if isinstance(parts[0], WithEvidence):
            self.roi_heads.calibration = OfStages([part for part in parts if isinstance(part, WithEvidence)])
            return
        if parts[0].features == "logits" and self.roi_heads.stage_scores == "probabilities":
            raise RecipeError(
                f"calibration {name}: goes by the averaged logits of the stages, and model.stage_scores=probabilities "
                "averages none; set model.stage_scores=logits"
            )
        self.roi_heads.calibration = parts[0]
