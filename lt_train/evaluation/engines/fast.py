"""hotcoco: columns in, precision and recall out. See :mod:`lt_train.evaluation.engines.choose` for the shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from lt_data.arrays import FloatArray, positions_of
from lt_train.evaluation.engines.curves import Curves, checked_curves, detected_areas
from lt_train.evaluation.engines.protocols import Protocol, best_of_each
from lt_train.evaluation.predictions.columns import Detections, IouType
from lt_train.evaluation.truth.columns import GroundTruth


def run_hotcoco(
    ground_truth: GroundTruth, detections: Detections, *, iou_type: IouType, protocol: Protocol, max_detections: int
) -> Curves:
    """Evaluates with hotcoco."""
    evaluator = hotcoco_evaluator(
        ground_truth, detections, iou_type=iou_type, protocol=protocol, max_detections=max_detections
    )
    evaluator.evaluate()
    evaluator.accumulate()
    result = evaluator.eval
    return checked_curves(result["precision"][..., 0], result["recall"][..., 0], ground_truth)


def hotcoco_evaluator(
    ground_truth: GroundTruth, detections: Detections, *, iou_type: IouType, protocol: Protocol, max_detections: int
) -> Any:
    """A ``hotcoco.COCOeval`` that has everything and has matched nothing yet.

    Images and categories go by their positions: hotcoco takes no negative ids. The limit of the protocol ``lvis`` is
    applied here, before detections without area are left out, as the ``lvis`` package does it.
    """
    import hotcoco

    if protocol == "lvis":
        detections = _as_lvis_takes_them(ground_truth, detections, iou_type, max_detections)
    masks: list[Any] | None = detections.segmentations if iou_type == "segm" else None
    truth = hotcoco.COCO.from_arrays(
        _images(ground_truth, protocol),
        [{"id": i, "name": name, "frequency": "f"} for i, name in enumerate(ground_truth.category_names)],
        positions_of(ground_truth.images, ground_truth.image_ids),
        positions_of(ground_truth.categories, ground_truth.category_ids),
        ground_truth.boxes,
        area=ground_truth.areas,
        iscrowd=ground_truth.crowd,
        segmentation=ground_truth.segmentations if iou_type == "segm" else None,
    )
    found = truth.load_res(_table(ground_truth, detections, iou_type), segmentation=masks)
    if masks:
        found.update_anns(ids=np.arange(1, len(masks) + 1), area=detected_areas(detections, "segm"))
    if protocol == "lvis":
        found = found.cap_detections_per_image(None)
    evaluator = hotcoco.COCOeval(truth, found, iou_type, lvis_style=protocol == "lvis")
    if protocol == "coco":
        evaluator.params.max_dets = [max_detections]
    return evaluator


def _as_lvis_takes_them(ground_truth: GroundTruth, detections: Detections, iou_type: IouType, limit: int) -> Detections:
    """The best of each image, without those that have no area."""
    images = positions_of(detections.images, ground_truth.image_ids)
    detections = detections.take(best_of_each(images, detections.scores, limit))
    return detections.take(detected_areas(detections, iou_type) > 0)


def _images(ground_truth: GroundTruth, protocol: Protocol) -> list[dict[str, Any]]:
    sizes = ground_truth.image_sizes.tolist()
    images: list[dict[str, Any]] = [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(sizes)]
    if protocol == "lvis":
        position = {category: i for i, category in enumerate(ground_truth.category_ids.tolist())}
        lists = zip(images, ground_truth.negatives or [], ground_truth.not_exhaustive or [], strict=True)
        for image, negatives, not_exhaustive in lists:
            image["neg_category_ids"] = [position[c] for c in negatives if c in position]
            image["not_exhaustive_category_ids"] = [position[c] for c in not_exhaustive if c in position]
    return images


def _table(ground_truth: GroundTruth, detections: Detections, iou_type: IouType) -> FloatArray:
    """Image, box, score and category of each detection, [D, 7]."""
    table = np.empty((len(detections), 7))
    table[:, 0] = positions_of(detections.images, ground_truth.image_ids)
    table[:, 1:5] = detections.boxes if iou_type == "bbox" else 0
    table[:, 5] = detections.scores
    table[:, 6] = positions_of(detections.categories, ground_truth.category_ids)
    return table
