"""The official tools, ``pycocotools`` and ``lvis``: the reference. Shapes: see ``choose``.

Annotation ids are numbered anew from 1: both take a match with id 0 for no match, and lose annotations whose id occurs
twice.
"""

from __future__ import annotations

import contextlib
import io
import logging
from typing import Any

import numpy as np

from lt_data.arrays import FloatArray
from lt_train.evaluation.engines import lvis_package
from lt_train.evaluation.engines.curves import Curves, checked_curves
from lt_train.evaluation.predictions.columns import Detections, IouType
from lt_train.evaluation.truth.columns import GroundTruth


def run_pycocotools(
    ground_truth: GroundTruth, detections: Detections, *, iou_type: IouType, max_detections: int
) -> Curves:
    """Evaluates with pycocotools; what it prints is dropped."""
    evaluator = pycocotools_evaluator(ground_truth, detections, iou_type=iou_type, max_detections=max_detections)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()
    return checked_curves(evaluator.eval["precision"][..., 0], evaluator.eval["recall"][..., 0], ground_truth)


def pycocotools_evaluator(
    ground_truth: GroundTruth, detections: Detections, *, iou_type: IouType, max_detections: int
) -> Any:
    """A ``pycocotools.cocoeval.COCOeval`` that has everything and has matched nothing yet."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        results = _found_records(detections, iou_type)
        for coco, records in ((truth, _truth_records(ground_truth)), (found, results)):
            coco.dataset = {**_images_and_categories(ground_truth), "annotations": records}
            coco.createIndex()
        evaluator = COCOeval(truth, found, iou_type)
    evaluator.params.maxDets = [max_detections]
    return evaluator


def run_lvis(ground_truth: GroundTruth, detections: Detections, *, iou_type: IouType, max_detections: int) -> Curves:
    """Evaluates with the ``lvis`` package, without its messages.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    evaluator = lvis_evaluator(ground_truth, detections, iou_type=iou_type, max_detections=max_detections)
    with lvis_package.quiet():
        evaluator.evaluate()
        evaluator.accumulate()
    return checked_curves(evaluator.eval["precision"], evaluator.eval["recall"], ground_truth)


def lvis_evaluator(ground_truth: GroundTruth, detections: Detections, *, iou_type: IouType, max_detections: int) -> Any:
    """An ``lvis.LVISEval``, filled from memory, that has everything and has matched nothing yet."""
    package = lvis_package.lvis_eval()
    results = _found_records(detections, iou_type, area=False)
    if not results and len(ground_truth.image_ids):
        # it cannot take an empty list, and leaves out what has no area
        nothing = {"image_id": ground_truth.image_ids[0].item(), "category_id": ground_truth.category_ids[0].item()}
        results = [{**nothing, "score": 0.0, "bbox": [0.0, 0.0, 0.0, 0.0], "segmentation": [[0.0] * 6]}]
    truth = package.LVIS.__new__(package.LVIS)
    truth.logger = logging.getLogger("lvis.lvis")
    truth.dataset = {**_images_and_categories(ground_truth), "annotations": _truth_records(ground_truth)}
    with lvis_package.quiet():
        # all that its constructor does beside reading a file
        truth._create_index()
        found = package.LVISResults(truth, results, max_dets=max_detections)
        return package.LVISEval(truth, found, iou_type)


def _images_and_categories(ground_truth: GroundTruth) -> dict[str, Any]:
    rows = zip(ground_truth.image_ids.tolist(), ground_truth.image_sizes.tolist(), strict=True)
    images: list[dict[str, Any]] = [{"id": i, "height": h, "width": w} for i, (h, w) in rows]
    if ground_truth.negatives is not None and ground_truth.not_exhaustive is not None:
        for image, no, some in zip(images, ground_truth.negatives, ground_truth.not_exhaustive, strict=True):
            image |= {"neg_category_ids": no, "not_exhaustive_category_ids": some}
    names = zip(ground_truth.category_ids.tolist(), ground_truth.category_names, strict=True)
    # lvis wants a frequency for means that are not taken from it
    return {"images": images, "categories": [{"id": i, "name": name, "frequency": "f"} for i, name in names]}


def _truth_records(ground_truth: GroundTruth) -> list[dict[str, Any]]:
    columns = {
        "image_id": ground_truth.images.tolist(),
        "category_id": ground_truth.categories.tolist(),
        "bbox": ground_truth.boxes.tolist(),
        "area": ground_truth.areas.tolist(),
        "iscrowd": ground_truth.crowd.astype(int).tolist(),
    }
    return _records(columns, ground_truth.segmentations)


def _found_records(detections: Detections, iou_type: IouType, *, area: bool = True) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {
        "image_id": detections.images.tolist(),
        "category_id": detections.categories.tolist(),
        "score": detections.scores.tolist(),
    }
    # with a box beside the mask, the official tools take the box's area
    if iou_type == "bbox":
        columns["bbox"] = detections.boxes.tolist()
    if area:
        columns |= {"area": _areas(detections, iou_type).tolist(), "iscrowd": [0] * len(detections)}
    return _records(columns, detections.segmentations if iou_type == "segm" else None)


def _records(columns: dict[str, list[Any]], segmentations: list[Any] | None) -> list[dict[str, Any]]:
    if segmentations is not None:
        columns = {**columns, "segmentation": segmentations}
    names = tuple(columns)
    rows = zip(*columns.values(), strict=True)
    return [{"id": i, **dict(zip(names, row, strict=True))} for i, row in enumerate(rows, start=1)]


def _areas(detections: Detections, iou_type: IouType) -> FloatArray:
    """Areas [D], those of masks as pycocotools counts them."""
    from pycocotools import mask as rle

    if iou_type == "bbox":
        # areas beyond the largest float are infinite: large
        with np.errstate(over="ignore"):
            return detections.boxes[:, 2] * detections.boxes[:, 3]
    # one by one: given a list of more than 255 masks, pycocotools 2.0 overflows on NumPy 2
    return np.array([rle.area(mask) for mask in detections.segmentations or []], dtype=np.float64)
