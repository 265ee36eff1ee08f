"""Building a detector: the stock torchvision model, a classifier as wide as the head wants, then our forward.

Shapes: C foreground classes, L logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lt_train.classifiers import make_classifier
from lt_train.detectors.detector import LongTailDetector
from lt_train.detectors.settings import USUAL, RoISettings
from lt_train.detectors.table import DetectorSpec, check_dcn, family_options, named_detector
from lt_train.detectors.trunks.deformable import use_deformable
from lt_train.detectors.weights import load_weights
from lt_train.heads.shared.base import Head
from lt_train.heads.shared.classifier_options import ClassifierOptions


def build_detector(
    name: str,
    head: Head,
    *,
    weights: str | Path = "none",
    load_pretrained: bool = True,
    own_categories: Sequence[tuple[int, str]] | None = None,
    score_threshold: float = 0.0,
    num_detections: int = 300,
    min_size: Sequence[int] = (800,),
    max_size: int = 1333,
    test_min_size: int | None = None,
    test_max_size: int | None = None,
    dcn: str = "none",
    roi: RoISettings = USUAL,
    stage_scores: str = "logits",
    semantic: str = "none",
    generator: torch.Generator | None = None,
) -> LongTailDetector:
    """A detector for the classes of ``head``, with everything trainable; see ``set_trainable``.

    Args:
        name: A detector and a trunk, such as ``mask_rcnn_r50_fpn``; see :mod:`lt_train.detectors.table`.
        head: Loss and scores; becomes part of the model.
        weights: ``none``, ``imagenet``, ``coco`` or a path, see :func:`~lt_train.detectors.weights.load_weights`.
            Unless it is ``none``, a trunk that there are weights for normalises with stored statistics, and its first
            stages are not trained.
        load_pretrained: ``False`` builds the same modules without loading ``weights``, for a model whose checkpoint
            is loaded next.
        own_categories: Dataset id and name of labels 1..C; weights of other categories lose their class-dependent
            layers. ``None`` compares numbers of classes only.
        score_threshold: Detections score above it.
        num_detections: At most so many per image.
        min_size: Short sides in pixels that training chooses from.
        max_size: Largest long side in pixels.
        test_min_size: Short side in evaluation; ``None`` is the last of ``min_size``.
        test_max_size: Largest long side in evaluation; ``None`` is ``max_size``.
        dcn: ``c3-c5`` for deformable convolutions in the last three stages of a ResNet, else ``none``.
        roi: Settings of the RoI heads.
        stage_scores: What a cascade averages over its stages: ``logits`` or ``probabilities``.
        semantic: Whether Hybrid Task Cascade has a branch for ``stuff``, or ``none``.
        generator: Source of the initial weights; ``None`` draws from PyTorch's global generator.

    Returns:
        The detector in training mode; ``model.load_report`` says what was loaded.

    Raises:
        RecipeError: The name or the weights do not exist for it.
        DataError: The weights do not fit.
    """
    spec = named_detector(name)
    check_dcn(name, dcn)
    pretrained = spec.trunk.pretrained and weights != "none"
    of_family = family_options(name, {"stage_scores": stage_scores, "semantic": semantic})
    with _drawing_from(generator):
        stock = _stock_for(
            head,
            spec,
            dcn,
            pretrained=pretrained,
            min_size=tuple(min_size),
            max_size=max_size,
            box_score_thresh=score_threshold,
            box_detections_per_img=num_detections,
        )
        frozen = spec.trunk.frozen if pretrained else ()
        model = _model_class(spec).from_stock(stock, head, frozen=frozen, settings=roi, **of_family)
    model.transform.test_min_size, model.transform.test_max_size = test_min_size, test_max_size
    model.load_report = load_weights(model, weights if load_pretrained else "none", own_categories=own_categories)
    return model


def _stock_for(head: Head, spec: DetectorSpec, dcn: str, **settings: Any) -> Any:
    """Torchvision's model with the classifier of a head, and deformable convolutions if they are wanted."""
    stock = stock_model(spec, head.num_classes, **settings)
    if dcn != "none":
        use_deformable(stock.backbone.body)
    predictor = stock.roi_heads.box_predictor
    predictor.cls_score = _classifier_of(head, predictor.cls_score.in_features)
    head.initialise(predictor.cls_score.bias)
    return stock


def _classifier_of(head: Head, in_features: int) -> nn.Linear:
    """The layer in front of a head, as its options say."""
    options = head.options
    if not isinstance(options, ClassifierOptions):
        return make_classifier("linear", in_features, head.num_logits)
    return make_classifier(
        options.classifier, in_features, head.num_logits, scale=options.scale, learn_scale=options.learn_scale
    )


def _model_class(spec: DetectorSpec) -> type[LongTailDetector]:
    """The class that makes detectors of a family."""
    module, _, attribute = spec.family.model.partition(":")
    found: type[LongTailDetector] = getattr(import_module(module), attribute)
    return found


def stock_model(spec: DetectorSpec, num_classes: int, *, pretrained: bool = False, **settings: Any) -> Any:
    """The torchvision model that a detector starts from.

    Args:
        spec: What it is made of.
        num_classes: C, without background.
        pretrained: Batch norms on stored statistics.
        **settings: Passed to torchvision's ``FasterRCNN`` or ``MaskRCNN``.
    """
    module, _, function = spec.trunk.maker.partition(":")
    make = getattr(import_module(module), function)
    body = {"body": spec.trunk.body} if spec.trunk.body else {}
    return make(num_classes, masks=spec.masks, pretrained=pretrained, **body, **settings)


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
