"""The stages of a cascade: what tells them apart, and how they are made of torchvision's RoI heads.

Source: Cai and Vasconcelos, "Cascade R-CNN", CVPR 2018, with the numbers of mmdetection, which the released code of
BAGS has too.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Final

from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads

from lt_train.classifiers import WEIGHT_STD
from lt_train.detectors.roi_heads import LongTailRoIHeads
from lt_train.detectors.settings import RoISettings
from lt_train.heads.shared.base import Head

# where the smooth L1 loss of the boxes turns linear
CASCADE_BOX_LOSS_BETA: Final = 1.0
# of the first weights of the box regressors: boxes that are refined by untrained layers stay where they are
REGRESSOR_STD: Final = 1e-3


@dataclass(frozen=True)
class StageNumbers:
    """What tells a stage from the others.

    Attributes:
        overlap: Intersection over union from which on a box stands for an object, and below which for none.
        spread: Standard deviations of the regression targets, of centres and of the logarithms of sides.
        weight: What each loss of the stage is multiplied by.
    """

    overlap: float
    spread: tuple[float, float]
    weight: float

    @property
    def codes(self) -> tuple[float, float, float, float]:
        """The weights of torchvision's ``BoxCoder``."""
        centre, side = 1 / self.spread[0], 1 / self.spread[1]
        return centre, centre, side, side


STAGES: Final = (
    StageNumbers(0.5, (0.1, 0.2), 1.0),
    StageNumbers(0.6, (0.05, 0.1), 0.5),
    StageNumbers(0.7, (0.033, 0.067), 0.25),
)
LOSS_WEIGHTS: Final = tuple(numbers.weight for numbers in STAGES)


def make_stages(stock: RoIHeads, head: Head, settings: RoISettings) -> list[LongTailRoIHeads]:
    """The RoI heads of each stage, with weights of their own; those of the first are ``stock``'s where it has some.

    Args:
        stock: RoI heads whose classifier is ``head.num_logits`` wide.
        head: Loss and scores; each stage has a copy, since it may carry something from batch to batch.
        settings: Of each stage.
    """
    return [_stage(stock, head, index, numbers, settings) for index, numbers in enumerate(STAGES)]


def _stage(stock: RoIHeads, head: Head, index: int, numbers: StageNumbers, settings: RoISettings) -> LongTailRoIHeads:
    parts = [stock.box_head, stock.mask_head, stock.mask_predictor]
    box_head, mask_head, mask_predictor = parts if index == 0 else [fresh_like(part) for part in parts]
    sampler = stock.fg_bg_sampler
    plain = RoIHeads(
        stock.box_roi_pool,
        box_head,
        _predictor(stock.box_predictor, index),
        numbers.overlap,
        numbers.overlap,
        sampler.batch_size_per_image,
        sampler.positive_fraction,
        numbers.codes,
        stock.score_thresh,
        stock.nms_thresh,
        stock.detections_per_img,
        stock.mask_roi_pool,
        mask_head,
        mask_predictor,
    )
    stage = LongTailRoIHeads.from_stock(plain, head if index == 0 else copy.deepcopy(head), settings)
    stage.draw_key, stage.box_loss_beta = (index,), CASCADE_BOX_LOSS_BETA
    return stage


def _predictor(stock: Any, index: int) -> FastRCNNPredictor:
    """A classifier like the stock one, and a regressor of one box for all classes."""
    classifier = stock.cls_score
    if index:
        classifier = copy.deepcopy(classifier)
        nn.init.normal_(classifier.weight, std=WEIGHT_STD)
    predictor = FastRCNNPredictor(classifier.in_features, 1)
    predictor.cls_score = classifier
    nn.init.normal_(predictor.bbox_pred.weight, std=REGRESSOR_STD)
    nn.init.zeros_(predictor.bbox_pred.bias)
    return predictor


def fresh_like(module: Any) -> Any:
    """A module of the same layers, with first weights of its own that are as large; ``None`` of ``None``."""
    fresh = copy.deepcopy(module)
    layers: list[Any] = [] if fresh is None else [*fresh.modules()]
    for layer in layers:
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            assert layer.bias is not None
            size, set_biases = layer.weight.detach().std(), layer.bias.detach() != 0
            layer.reset_parameters()
            # the layers differ in how they were first drawn
            layer.weight.data.mul_(size / layer.weight.detach().std())
            layer.bias.data.mul_(set_biases)
    return fresh
