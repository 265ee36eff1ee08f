"""Building a detector: the stock torchvision model, a classifier as wide as the head wants, then our forward.

Shapes: C foreground classes, L logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from lt_data.errors import RecipeError
from lt_train.classifiers import make_classifier
from lt_train.detectors.backbone import SMALL_CHANNELS, SmallBackbone, resnet50_fpn
from lt_train.detectors.detector import LongTailDetector
from lt_train.detectors.norm import StoredStatsBatchNorm2d
from lt_train.detectors.roi_heads import PRE_NMS_TOPK
from lt_train.detectors.weights import load_weights
from lt_train.heads.base import Head

SMALL_FEATURES = 256
SMALL_MASK_LAYERS = (32, 32, 32, 32)
# boxes up to this side in pixels are pooled at stride 4, larger ones at stride 8
SMALL_LEVEL_SIDE = 32


@dataclass(frozen=True)
class DetectorSpec:
    """What a detector is made of.

    Attributes:
        backbone: ``resnet50_fpn`` or ``small``.
        masks: Whether it has a mask branch.
    """

    backbone: str
    masks: bool


DETECTORS: dict[str, DetectorSpec] = {
    "mask_rcnn_r50_fpn": DetectorSpec("resnet50_fpn", masks=True),
    "faster_rcnn_r50_fpn": DetectorSpec("resnet50_fpn", masks=False),
    "mask_rcnn_small": DetectorSpec("small", masks=True),
    "faster_rcnn_small": DetectorSpec("small", masks=False),
}


def build_detector(
    name: str,
    head: Head,
    *,
    weights: str | Path = "none",
    load_pretrained: bool = True,
    own_categories: Sequence[tuple[int, str]] | None = None,
    classifier: str = "linear",
    score_threshold: float = 0.0,
    num_detections: int = 300,
    pre_nms_topk: int | None = PRE_NMS_TOPK,
    min_size: Sequence[int] = (800,),
    max_size: int = 1333,
    micro_batch_images: int | None = None,
    mask_target: str = "exact",
    generator: torch.Generator | None = None,
) -> LongTailDetector:
    """A detector for the classes of ``head``, with everything trainable; see ``set_trainable``.

    Args:
        name: A key of ``DETECTORS``.
        head: Loss and scores; becomes part of the model.
        weights: ``none``, ``imagenet``, ``coco`` or a path, see :func:`~lt_train.detectors.weights.load_weights`.
            Unless it is ``none``, a ResNet normalises with stored statistics and counts as pretrained.
        load_pretrained: ``False`` builds the same modules without loading ``weights``, for a model whose checkpoint
            is loaded next.
        own_categories: Dataset id and name of labels 1..C; weights of other categories lose their class-dependent
            layers. ``None`` compares numbers of classes only.
        classifier: A key of ``lt_train.classifiers.CLASSIFIERS``.
        score_threshold: Detections score above it.
        num_detections: At most so many per image.
        pre_nms_topk: (region, class) pairs of an image that reach NMS; ``None`` is all.
        min_size: Short sides in pixels that training chooses from; evaluation takes the last.
        max_size: Largest long side in pixels.
        micro_batch_images: Images per micro-batch of the head's loss, to equal a run on several devices; ``None`` is
            the whole batch.
        mask_target: ``exact`` or ``polygon``, see :mod:`lt_train.data.mask_targets`.
        generator: Source of the initial weights; ``None`` draws from PyTorch's global generator.

    Returns:
        The detector in training mode; ``model.load_report`` says what was loaded.

    Raises:
        RecipeError: The name, the classifier or the weights do not exist for it.
        DataError: The weights do not fit.
    """
    if name not in DETECTORS:
        raise RecipeError(f"model.name: got {name!r}; allowed are {', '.join(sorted(DETECTORS))}")
    spec = DETECTORS[name]
    settings = {
        "min_size": tuple(min_size),
        "max_size": max_size,
        "box_score_thresh": score_threshold,
        "box_detections_per_img": num_detections,
    }
    pretrained = spec.backbone == "resnet50_fpn" and weights != "none"
    with _drawing_from(generator):
        stock = stock_model(spec, head.num_classes, pretrained=pretrained, **settings)
        predictor = stock.roi_heads.box_predictor
        predictor.cls_score = make_classifier(classifier, predictor.cls_score.in_features, head.num_logits)
        nn.init.constant_(predictor.cls_score.bias, head.initial_bias)
    model = LongTailDetector.from_stock(
        stock,
        head,
        pretrained=pretrained,
        pre_nms_topk=pre_nms_topk,
        micro_batch_images=micro_batch_images,
        mask_target=mask_target,
    )
    model.load_report = load_weights(model, weights if load_pretrained else "none", own_categories=own_categories)
    return model


def stock_model(spec: DetectorSpec, num_classes: int, *, pretrained: bool = False, **settings: Any) -> Any:
    """The torchvision model that a detector starts from.

    Args:
        spec: What it is made of.
        num_classes: C, without background.
        pretrained: Batch norms on stored statistics.
        **settings: Passed to torchvision's ``FasterRCNN`` or ``MaskRCNN``.
    """
    make = MaskRCNN if spec.masks else FasterRCNN
    if spec.backbone == "small":
        return make(SmallBackbone(), **_small_parts(num_classes, spec.masks), **settings)
    norm: Callable[..., nn.Module] = StoredStatsBatchNorm2d if pretrained else nn.BatchNorm2d
    return make(resnet50_fpn(norm), num_classes=num_classes + 1, **settings)


def _small_parts(num_classes: int, masks: bool) -> dict[str, Any]:
    """Parts and limits of the small models, sized for 128 pixel images and two CPU cores."""
    parts: dict[str, Any] = {
        "rpn_anchor_generator": AnchorGenerator(((20,), (40,)), ((1.0,), (1.0,))),
        "rpn_pre_nms_top_n_train": 300,
        "rpn_post_nms_top_n_train": 100,
        "rpn_pre_nms_top_n_test": 300,
        "rpn_post_nms_top_n_test": 100,
        "box_batch_size_per_image": 64,
        "box_roi_pool": _small_pool(7),
        "box_head": TwoMLPHead(SMALL_CHANNELS * 7 * 7, SMALL_FEATURES),
        "box_predictor": FastRCNNPredictor(SMALL_FEATURES, num_classes + 1),
    }
    if masks:
        width = SMALL_MASK_LAYERS[-1]
        parts["mask_roi_pool"] = _small_pool(14)
        parts["mask_head"] = MaskRCNNHeads(SMALL_CHANNELS, SMALL_MASK_LAYERS, 1)
        parts["mask_predictor"] = MaskRCNNPredictor(width, width, num_classes + 1)
    return parts


def _small_pool(size: int) -> Any:
    return MultiScaleRoIAlign(
        featmap_names=["0", "1"],
        output_size=size,
        sampling_ratio=2,
        canonical_scale=SMALL_LEVEL_SIDE,
        canonical_level=3,
    )


@contextmanager
def _drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Let PyTorch's initialisers draw from ``generator``; the global generator is left as it was."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
