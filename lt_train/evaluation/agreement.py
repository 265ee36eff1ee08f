"""A small built-in case on which hotcoco must equal pycocotools before `auto` trusts it.

It has what evaluators differ on: crowds, tied scores, areas on the limits, a category without ground truth, an image
with nothing, more detections than are kept, boxes and masks.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from .detections import Detections, IouType
from .ground_truth import GroundTruth

_IMAGES, _SIZE, _CATEGORIES, _KEPT = 5, 160, 4, 6
_IOU_TYPES: tuple[IouType, ...] = ("bbox", "segm")


@functools.cache
def disagreement() -> str | None:
    """Why hotcoco cannot be trusted here, or None. Computed once per process."""
    from .engines import run_hotcoco, run_pycocotools

    for iou_type in _IOU_TYPES:
        truth, found = _case(iou_type)
        try:
            fast = run_hotcoco(truth, found, iou_type=iou_type, max_detections=_KEPT)
        except Exception as error:  # whatever goes wrong in a foreign engine, the official one remains
            return f"hotcoco failed its self-check ({type(error).__name__}: {error})"
        official = run_pycocotools(truth, found, iou_type=iou_type, max_detections=_KEPT)
        if any(a.shape != b.shape or np.abs(a - b).max() > 1e-12 for a, b in zip(fast, official, strict=True)):
            return f"hotcoco differs from pycocotools on its {iou_type} self-check"
    return None


def _case(iou_type: IouType) -> tuple[GroundTruth, Detections]:
    """Random boxes on four of five images; category 4 has no ground truth."""
    rng = np.random.default_rng(0)
    truths, founds = 40, 150
    boxes = np.concatenate([rng.integers(0, 50, (truths, 2)), rng.integers(8, 110, (truths, 2))], axis=1)
    boxes[:6, 2:] = [[32, 32], [96, 96], [32, 32], [96, 96], [31, 32], [96, 97]]
    source = rng.integers(0, truths, founds)
    moved = boxes[source] + rng.integers(-4, 5, (founds, 4))
    moved = np.concatenate([moved[:, :2].clip(0), moved[:, 2:].clip(1)], axis=1)
    images = rng.integers(1, _IMAGES, truths)
    categories = rng.integers(1, _CATEGORIES, truths)
    crowd = rng.random(truths) < 0.15
    truth = GroundTruth(
        source="self-check",
        image_ids=np.arange(1, _IMAGES + 1),
        image_sizes=np.full((_IMAGES, 2), _SIZE),
        category_ids=np.arange(1, _CATEGORIES + 1),
        category_names=tuple("abcd"),
        images=images,
        categories=categories,
        boxes=boxes.astype(np.float64),
        areas=boxes[:, 2:].prod(axis=1).astype(np.float64),
        crowd=crowd,
        segmentations=[[polygon] for polygon in _polygons(boxes)] if iou_type == "segm" else None,
    )
    other = rng.random(founds) < 0.2
    found = Detections(
        images=images[source],
        categories=np.where(other, rng.integers(1, _CATEGORIES + 1, founds), categories[source]),
        boxes=moved.astype(np.float64),
        scores=rng.integers(1, 8, founds) / 8.0,
        segmentations=_rles(moved) if iou_type == "segm" else None,
    )
    return truth, found


def _polygons(boxes: NDArray[np.int64]) -> list[list[float]]:
    x0, y0 = boxes[:, 0], boxes[:, 1]
    x1, y1 = x0 + boxes[:, 2], y0 + boxes[:, 3]
    return np.stack([x0, y0, x0, y1, x1, y1, x1, y0], axis=1).astype(np.float64).tolist()


def _rles(boxes: NDArray[np.int64]) -> list[dict[str, object]]:
    from pycocotools import mask as rle

    return [rle.frPyObjects([polygon], _SIZE, _SIZE)[0] for polygon in _polygons(boxes)]
