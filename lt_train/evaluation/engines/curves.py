"""What every engine takes and gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from lt_data.arrays import FloatArray
from lt_data.masks.rle import areas_of
from lt_train.evaluation.predictions.columns import Detections, IouType
from lt_train.evaluation.truth.columns import GroundTruth

# precision [T, R, K, A] and recall [T, K, A]
Curves = tuple[FloatArray, FloatArray]


def checked_curves(precision: Any, recall: Any, ground_truth: GroundTruth) -> Curves:
    """An engine's arrays, once they have the expected number of categories.

    Raises:
        RuntimeError: The engine dropped some.
    """
    if precision.shape[2] != len(ground_truth.category_ids):
        raise RuntimeError("internal error: the evaluator dropped categories")
    return np.asarray(precision, dtype=np.float64), np.asarray(recall, dtype=np.float64)


def detected_areas(detections: Detections, iou_type: IouType) -> FloatArray:
    """Area of each detected box or mask in px^2, [D]; the area of a mask is not that of the box beside it."""
    if iou_type == "bbox":
        return detections.boxes[:, 2] * detections.boxes[:, 3]
    if detections.mask_areas is not None:
        return detections.mask_areas.astype(np.float64)
    return areas_of([mask["counts"] for mask in detections.segmentations or []]).inside.astype(np.float64)
