"""What counts: the two protocols, and which detections they keep.

``coco`` measures the 100 best detections of a category in each image. ``lvis`` is federated (Gupta et al., LVIS,
CVPR 2019): an image says which categories are in it, which are certainly not (``neg_category_ids``) and which are not
annotated exhaustively; the 300 best detections of an image count, those of a category that nobody looked for are left
out, and unmatched ones of a category that is not exhaustive count neither for nor against.

``fixed`` AP (Dave et al., Evaluating Large-Vocabulary Object Detectors: The Devil is in the Details, 2021) keeps the
10,000 best detections of a category over all images instead of the best of an image, so that categories do not compete
for the places of an image.

Shapes: A annotations, D detections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np

from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_data.errors import DataError, RecipeError
from lt_train.evaluation.truth.columns import GroundTruth

Protocol = Literal["coco", "lvis"]
ProtocolChoice = Literal["auto", "coco", "lvis"]

LIMITS: Final[Mapping[Protocol, int]] = {"coco": 100, "lvis": 300}
FIXED_PER_CATEGORY: Final = 10_000
_WHERE: Final[Mapping[str, str]] = {"coco": "per image and category", "lvis": "per image"}


def choose_protocol(protocol: ProtocolChoice, ground_truth: GroundTruth) -> Protocol:
    """The protocol to use: that of the file, unless one is named.

    Raises:
        DataError: ``lvis`` for a file without its lists.
        RecipeError: Another name.
    """
    if protocol == "auto":
        return ground_truth.protocol
    if protocol not in LIMITS:
        raise RecipeError(f"evaluation protocol {protocol!r} is unknown; allowed are auto, coco, lvis")
    if protocol == "lvis" and ground_truth.protocol != "lvis":
        fault = f" ({ground_truth.list_fault})" if ground_truth.list_fault else ""
        raise DataError(
            f"{ground_truth.source}: not every image has neg_category_ids and not_exhaustive_category_ids{fault}, "
            "which the protocol lvis needs; give an LVIS annotation file, or choose the protocol coco"
        )
    return protocol


def describe(protocol: str, max_detections: int) -> str:
    """The protocol in words, e.g. ``coco (100 detections per image and category)``."""
    return f"{protocol} ({max_detections:,} detections {_WHERE[protocol]})"


def as_counted(ground_truth: GroundTruth, protocol: Protocol) -> GroundTruth:
    """The annotations as the official tool of the protocol takes them.

    The ``lvis`` package knows no crowds (LVIS has none) and leaves out what has no area.
    """
    if protocol == "coco" or not (ground_truth.crowd.any() or (ground_truth.areas <= 0).any()):
        return ground_truth
    kept = ground_truth.areas > 0
    segmentations = ground_truth.segmentations
    if segmentations is not None:
        segmentations = [segmentations[i] for i in np.flatnonzero(kept).tolist()]
    columns: dict[str, Any] = {name: getattr(ground_truth, name)[kept] for name in ("images", "categories", "areas")}
    boxes, crowd = ground_truth.boxes[kept], np.zeros(int(kept.sum()), bool)
    return replace(ground_truth, **columns, boxes=boxes, crowd=crowd, segmentations=segmentations)


def best_of_each(keys: IntArray, scores: FloatArray, limit: int) -> BoolArray:
    """The ``limit`` best-scored rows of every key; the earlier of two with the same score.

    Args:
        keys: Positions from 0, [D].
        scores: [D].
        limit: Rows to keep of each key.

    Returns:
        Rows to keep, [D].
    """
    kept = np.ones(len(keys), bool)
    counts = np.bincount(keys)
    rows = np.flatnonzero(counts[keys] > limit) if len(keys) else keys
    if len(rows):
        order = rows[np.lexsort((-scores[rows], keys[rows]))]
        size = counts[counts > limit]
        rank = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
        kept[order[rank >= limit]] = False
    return kept
