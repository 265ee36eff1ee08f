"""COCO evaluation of a results list: precision and recall per class, from which every other number here follows.

Shapes: T IoU thresholds .50:.05:.95, R 101 recall points, K categories in ascending dataset id, A areas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_data.annotations import AnnotationFile

from .detections import IouType, Results, read_detections
from .engines import EngineName, choose_engine, engine_version, run_hotcoco, run_pycocotools
from .ground_truth import GroundTruth, load_ground_truth

AREAS = ("all", "small", "medium", "large")
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


@dataclass(frozen=True)
class Evaluation:
    """What was measured for boxes or for masks.

    Attributes:
        iou_type: ``bbox`` or ``segm``.
        engine: Package and version that measured, e.g. ``pycocotools 2.0.11``.
        max_detections: Best-scored detections of a category that count in one image.
        category_ids: [K] int64, ascending dataset ids.
        category_names: K names.
        precision: [T, R, K, A] float64 in 0..1; -1 where a category has no ground truth in the area.
        recall: [T, K, A] float64 in 0..1; -1 likewise.
        instances: [K] int64, non-crowd ground truth.
        images: Evaluated images.
        detections: Detections given, before ``max_detections``.
    """

    iou_type: IouType
    engine: str
    max_detections: int
    category_ids: NDArray[np.int64]
    category_names: tuple[str, ...]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    instances: NDArray[np.int64]
    images: int
    detections: int

    def class_ap(self, *, iou: float | None = None, area: str = "all") -> NDArray[np.float64]:
        """Average precision of each class, [K]; NaN without ground truth.

        Args:
            iou: One of the IoU thresholds; the mean over all of them if not given.
            area: ``all``, ``small``, ``medium`` or ``large``.
        """
        values = self.precision[..., AREAS.index(area)]
        if iou is not None:
            values = values[[IOU_THRESHOLDS.index(iou)]]
        return _class_means(values.reshape(-1, values.shape[-1]))

    def class_ar(self) -> NDArray[np.float64]:
        """Average recall of each class over the IoU thresholds, all areas, [K]; NaN without ground truth."""
        return _class_means(self.recall[..., AREAS.index("all")])


def evaluate_coco(
    annotations: Path | str | Mapping[str, Any] | AnnotationFile | GroundTruth,
    results: Results,
    *,
    iou_type: IouType,
    engine: EngineName = "auto",
    max_detections: int = 100,
) -> Evaluation:
    """Measure detections against annotations as COCO does.

    The area of a detected mask is that of the mask, not of the box beside it. Crowd annotations match any number of
    detections and count neither for nor against.

    Args:
        annotations: COCO (or LVIS-style) annotation file, the same as read, its content, or what
            :func:`load_ground_truth` returned.
        results: COCO results (``image_id``, ``category_id``, ``score``, ``bbox`` [x, y, width, height] in pixels,
            ``segmentation`` RLE for masks); may be empty. Not changed.
        iou_type: ``bbox`` or ``segm``.
        engine: See :func:`lt_train.evaluation.engines.choose_engine`.
        max_detections: Detections per image and category that count, best first.

    Raises:
        DataError: Annotations or results that cannot be evaluated.
        RecipeError: An engine that is unknown or not installed.
    """
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"iou_type must be 'bbox' or 'segm', got {iou_type!r}")
    if max_detections < 1:
        raise ValueError(f"max_detections must be at least 1, got {max_detections}")
    chosen = choose_engine(engine)
    if not isinstance(annotations, GroundTruth):
        annotations = load_ground_truth(annotations, masks=iou_type == "segm")
    detections = read_detections(results, annotations, iou_type=iou_type)
    run = run_hotcoco if chosen == "hotcoco" else run_pycocotools
    precision, recall = run(annotations, detections, iou_type=iou_type, max_detections=max_detections)
    return Evaluation(
        iou_type=iou_type,
        engine=engine_version(chosen),
        max_detections=max_detections,
        category_ids=annotations.category_ids,
        category_names=annotations.category_names,
        precision=precision,
        recall=recall,
        instances=annotations.instances(),
        images=len(annotations.image_ids),
        detections=len(results),
    )


def _class_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over rows of [n, K], NaN for columns that are -1 throughout."""
    means = values.mean(axis=0)
    means[(values < 0).any(axis=0)] = np.nan
    return means
