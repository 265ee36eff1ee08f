"""A small built-in case on which hotcoco must give the official figures before it is used.

It has what evaluators differ on: crowds (or, by LVIS, negative and not exhaustive categories), tied scores, areas on
the limits, a category without ground truth, an image with nothing, more detections than are kept, boxes and masks. By
COCO it is compared with pycocotools, which is always there; by LVIS with figures that the lvis package 0.5.3 gave.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from random import Random
from typing import Any, Final

import numpy as np

from lt_data.arrays import IntArray
from lt_train.evaluation.engines.curves import Curves
from lt_train.evaluation.engines.fast import run_hotcoco
from lt_train.evaluation.engines.official import run_pycocotools
from lt_train.evaluation.engines.protocols import Protocol
from lt_train.evaluation.predictions.columns import IOU_TYPES, Detections, IouType
from lt_train.evaluation.truth.columns import GroundTruth

_IMAGES, _SIZE, _CATEGORIES = 7, 160, 7
_TRUTHS, _FOUNDS = 40, 150
# detections that count: in an image and category, or in an image
KEPT: Final[Mapping[Protocol, int]] = {"coco": 3, "lvis": 15}
_TOLERANCE: Final = 1e-12
# of lvis 0.5.3: sums of precision and of recall where they were measured, for all, small, medium and large areas
LVIS_SUMS: Final[Mapping[IouType, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "bbox": (
        (1911.6194444444445, 687.5833333333333, 2430.328571428571, 3586.9999999999995),
        (27.743181818181817, 8.75, 31.249999999999996, 37.0),
    ),
    "segm": (
        (1755.216097791098, 596.3499999999999, 2301.223809523809, 3661.4999999999995),
        (26.09318181818182, 7.75, 29.833333333333332, 36.5),
    ),
}


@functools.cache
def disagreement(protocol: Protocol = "coco") -> str | None:
    """Why hotcoco cannot be trusted here, or None. Computed once per process and protocol."""
    for iou_type in IOU_TYPES:
        truth, found = built_in_case(iou_type, protocol)
        options: dict[str, Any] = {"iou_type": iou_type, "max_detections": KEPT[protocol]}
        try:
            fast = run_hotcoco(truth, found, protocol=protocol, **options)
        except Exception as error:  # whatever goes wrong in a foreign engine, the official one remains
            return f"hotcoco failed its self-check ({type(error).__name__}: {error})"
        if protocol == "lvis":
            if not np.allclose(sums(fast), LVIS_SUMS[iou_type], rtol=0, atol=1e-8):
                return f"hotcoco failed its self-check (its {iou_type} figures differ from those of lvis 0.5.3)"
        elif not _equal(fast, run_pycocotools(truth, found, **options)):
            return f"hotcoco failed its self-check (its {iou_type} figures differ from those of pycocotools)"
    return None


def _equal(curves: Curves, others: Curves) -> bool:
    pairs = zip(curves, others, strict=True)
    return all(a.shape == b.shape and bool((np.abs(a - b) <= _TOLERANCE).all()) for a, b in pairs)


def sums(curves: Curves) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Sums of the measured precisions and recalls of each area."""
    precision, recall = (
        tuple(float(values[..., area].clip(0).sum()) for area in range(values.shape[-1])) for values in curves
    )
    return precision, recall


def built_in_case(iou_type: IouType, protocol: Protocol) -> tuple[GroundTruth, Detections]:
    """Random boxes, the same with every version of Python and NumPy, none in the last image and category."""
    random = Random(0).random
    images, categories = 1 + _integers(random, _IMAGES - 1, _TRUTHS), 1 + _integers(random, _CATEGORIES - 1, _TRUTHS)
    boxes = np.stack([*_integers(random, 50, 2, _TRUTHS), *(8 + _integers(random, 100, 2, _TRUTHS))], axis=1)
    boxes[:6, 2:] = [[32, 32], [96, 96], [32, 32], [96, 96], [31, 32], [96, 97]]
    crowd = _integers(random, 7, _TRUTHS) == 0
    truth = GroundTruth(
        source="self-check",
        image_ids=np.arange(1, _IMAGES + 1),
        image_sizes=np.full((_IMAGES, 2), _SIZE),
        category_ids=np.arange(1, _CATEGORIES + 1),
        category_names=tuple("abcdefg"),
        images=images,
        categories=categories,
        boxes=boxes.astype(np.float64),
        areas=boxes[:, 2:].prod(axis=1).astype(np.float64),
        crowd=crowd if protocol == "coco" else np.zeros(_TRUTHS, bool),
        segmentations=[[polygon] for polygon in _polygons(boxes)] if iou_type == "segm" else None,
        negatives=_absent(images, categories) if protocol == "lvis" else None,
        not_exhaustive=[[1], [2, 3], [], [1], [4], [], [6]] if protocol == "lvis" else None,
    )
    source = _integers(random, _TRUTHS, _FOUNDS)
    moved = boxes[source] + _integers(random, 9, _FOUNDS, 4) - 4
    moved = np.concatenate([moved[:, :2].clip(0), moved[:, 2:].clip(1)], axis=1)
    other = _integers(random, 5, _FOUNDS) < 2
    found = Detections(
        images=images[source],
        categories=np.where(other, 1 + _integers(random, _CATEGORIES, _FOUNDS), categories[source]),
        boxes=moved.astype(np.float64),
        scores=(1 + _integers(random, 7, _FOUNDS)) / 8.0,
        segmentations=_rles(moved) if iou_type == "segm" else None,
    )
    return truth, found


def _absent(images: IntArray, categories: IntArray) -> list[list[int]]:
    """Of each image, half of the categories that are not in it."""
    pairs = set(zip(images.tolist(), categories.tolist(), strict=True))
    return [
        [k for k in range(1, _CATEGORIES + 1) if (image, k) not in pairs and (image + k) % 2]
        for image in range(1, _IMAGES + 1)
    ]


def _integers(random: Any, below: int, *shape: int) -> IntArray:
    """Whole numbers from 0 up to ``below``."""
    values = np.array([random() for _ in range(int(np.prod(shape)))])
    return (values * below).astype(np.int64).reshape(shape)


def _polygons(boxes: IntArray) -> list[list[float]]:
    """Boxes with one corner cut off."""
    x0, y0, width, height = boxes.T
    x1, y1 = x0 + width, y0 + height
    polygons: list[list[float]] = np.stack([x0, y0, x0, y1, x1, y1, x1, y0 + height // 3], axis=1).tolist()
    return polygons


def _rles(boxes: IntArray) -> list[dict[str, Any]]:
    from pycocotools import mask as rle

    masks = [rle.frPyObjects([polygon], _SIZE, _SIZE)[0] for polygon in _polygons(boxes)]
    return [{"size": [_SIZE, _SIZE], "counts": mask["counts"].decode("ascii")} for mask in masks]
