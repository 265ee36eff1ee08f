"""Which detection stands for which object: each in falling score takes the free object that it overlaps most.

This is a plain rule for pictures and tables of confusions; AP has the matches of its engine.

Shapes: D detections, A objects, P pairs of a detection and an object of the same image. Boxes are COCO ``[x, y, width,
height]`` in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from lt_data.arrays import FloatArray, IntArray

# an object is found by a box that overlaps it by this much
FOUND_IOU: Final = 0.5
# pairs whose overlaps are computed at a time: some 100 bytes each
_PAIRS = 1_000_000


def match_greedily(
    images: IntArray, boxes: FloatArray, scores: FloatArray, object_images: IntArray, object_boxes: FloatArray
) -> IntArray:
    """The object that each detection takes.

    Args:
        images: [D] image of each detection, any numbers.
        boxes: [D, 4].
        scores: [D]; of equal scores the earlier detection comes first.
        object_images: [A].
        object_boxes: [A, 4].

    Returns:
        [D] index of an object, or -1. An object is taken once, with an IoU of at least 0.5; of equal IoUs the earlier
        object.
    """
    found = [_overlapping(*part, boxes, object_boxes) for part in _pairs(images, object_images)]
    detections = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in found)])
    objects = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in found)])
    overlaps = np.concatenate([np.zeros(0), *(part[2] for part in found)])
    order = np.lexsort((objects, -overlaps, detections, -scores[detections]))
    taken, free = np.full(len(images), -1, np.int64), np.ones(len(object_images), bool)
    for detection, thing in zip(detections[order].tolist(), objects[order].tolist(), strict=True):
        if free[thing] and taken[detection] < 0:
            taken[detection], free[thing] = thing, False
    return taken


def share_inside(boxes: FloatArray, regions: FloatArray) -> FloatArray:
    """Share of the area of each box that lies in the region beside it, both [P, 4]; 0 for a box without area."""
    area = boxes[:, 2] * boxes[:, 3]
    return _intersections(boxes, regions) / np.where(area > 0, area, np.inf)


def pairs_of_images(images: IntArray, object_images: IntArray) -> tuple[IntArray, IntArray]:
    """Every pair of a detection and an object of the same image, both [P]; for few objects."""
    parts = list(_pairs(images, object_images))
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *(part[0] for part in parts)]), np.concatenate([none, *(part[1] for part in parts)])


def _pairs(images: IntArray, object_images: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Detection and object of each pair of an image, some detections at a time."""
    order = np.argsort(object_images, kind="stable")
    first = np.searchsorted(object_images[order], images, side="left")
    numbers = np.searchsorted(object_images[order], images, side="right") - first
    runs = (np.cumsum(numbers) - numbers) // _PAIRS
    for run in np.unique(runs).tolist():
        rows = np.flatnonzero(runs == run)
        counts = numbers[rows]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        yield np.repeat(rows, counts), order[np.repeat(first[rows], counts) + within]


def _overlapping(
    detections: IntArray, objects: IntArray, boxes: FloatArray, object_boxes: FloatArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """The pairs that overlap enough, with their IoU."""
    own, others = boxes[detections], object_boxes[objects]
    shared = _intersections(own, others)
    union = own[:, 2] * own[:, 3] + others[:, 2] * others[:, 3] - shared
    iou = shared / np.where(union > 0, union, np.inf)
    kept = iou >= FOUND_IOU
    return detections[kept], objects[kept], iou[kept]


def _intersections(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """Area that two boxes [P, 4] share."""
    low = np.maximum(boxes[:, :2], others[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], others[:, :2] + others[:, 2:])
    sides: FloatArray = np.clip(high - low, 0, None)
    return sides[:, 0] * sides[:, 1]
