"""The two evaluators behind one signature: hotcoco (fast) and pycocotools (the official reference).

Both take the same columns and give ``(precision [T, R, K, A], recall [T, K, A])`` with -1 where nothing could be
measured: T IoU thresholds .50:.05:.95, R 101 recall points, K categories ascending, A areas all / small / medium /
large (limits 32^2 and 96^2 px^2). Annotation ids are numbered anew from 1: pycocotools takes a match with id 0 for no
match, and loses annotations whose id occurs twice.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lt_data.errors import RecipeError

from .detections import Detections, IouType
from .ground_truth import GroundTruth

EngineName = Literal["auto", "fast", "official"]
Curves = tuple[NDArray[np.float64], NDArray[np.float64]]

log = logging.getLogger(__name__)


def choose_engine(engine: EngineName) -> Literal["hotcoco", "pycocotools"]:
    """Name the evaluator to use.

    Args:
        engine: ``fast`` is hotcoco, ``official`` is pycocotools, ``auto`` is hotcoco when it is installed and agrees
            with pycocotools on a small built-in case (checked once per process), else pycocotools with a warning.

    Raises:
        RecipeError: Another name, or ``fast`` where hotcoco is not installed.
    """
    if engine not in ("auto", "fast", "official"):
        raise RecipeError(f"evaluation engine {engine!r} is unknown; allowed are auto, fast, official")
    if engine == "official":
        return "pycocotools"
    installed = importlib.util.find_spec("hotcoco") is not None
    if engine == "fast":
        if not installed:
            raise RecipeError(
                "evaluation engine 'fast' needs the package hotcoco: pip install 'lt-detection[eval]', or choose "
                "'official'"
            )
        return "hotcoco"
    from .agreement import disagreement

    reason = disagreement() if installed else "hotcoco is not installed"
    if reason:
        log.warning("Evaluating with pycocotools, which is slower and uses more memory: %s", reason)
        return "pycocotools"
    return "hotcoco"


def engine_version(engine: str) -> str:
    """Package name and version, as reports print it."""
    return f"{engine} {importlib.metadata.version(engine)}"


def run_hotcoco(ground_truth: GroundTruth, detections: Detections, *, iou_type: IouType, max_detections: int) -> Curves:
    """Evaluate with hotcoco, columns in and arrays out. See the module text for shapes."""
    import hotcoco

    masks = iou_type == "segm"
    truth = hotcoco.COCO.from_arrays(
        _image_records(ground_truth),
        _category_records(ground_truth),
        ground_truth.images,
        ground_truth.categories,
        ground_truth.boxes,
        area=ground_truth.areas,
        iscrowd=ground_truth.crowd,
        segmentation=ground_truth.segmentations if masks else None,
    )
    table = np.column_stack([detections.images, detections.boxes, detections.scores, detections.categories])
    found = truth.load_res(table, segmentation=list(detections.segmentations or []) if masks else None)
    if masks and len(table):
        found.update_anns(ids=np.arange(1, len(table) + 1), area=_mask_areas(detections))
    evaluator = hotcoco.COCOeval(truth, found, iou_type)
    evaluator.params.max_dets = [max_detections]
    evaluator.evaluate()
    evaluator.accumulate()
    return _curves(evaluator.eval, ground_truth)


def run_pycocotools(
    ground_truth: GroundTruth, detections: Detections, *, iou_type: IouType, max_detections: int
) -> Curves:
    """Evaluate with pycocotools; what it prints is dropped. See the module text for shapes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        for coco, records in ((truth, _truth_records(ground_truth)), (found, _found_records(detections))):
            coco.dataset = {
                "images": _image_records(ground_truth),
                "categories": _category_records(ground_truth),
                "annotations": records,
            }
            coco.createIndex()
        evaluator = COCOeval(truth, found, iou_type)
        evaluator.params.maxDets = [max_detections]
        evaluator.evaluate()
        evaluator.accumulate()
    return _curves(evaluator.eval, ground_truth)


def _curves(result: dict[str, Any] | None, ground_truth: GroundTruth) -> Curves:
    if result is None:
        raise RuntimeError("internal error: the evaluator returned nothing")
    precision, recall = result["precision"][..., 0], result["recall"][..., 0]
    if precision.shape[2] != len(ground_truth.category_ids):
        raise RuntimeError("internal error: the evaluator dropped categories")
    return np.asarray(precision, dtype=np.float64), np.asarray(recall, dtype=np.float64)


def _image_records(ground_truth: GroundTruth) -> list[dict[str, Any]]:
    rows = zip(ground_truth.image_ids.tolist(), ground_truth.image_sizes.tolist(), strict=True)
    return [{"id": i, "height": h, "width": w, "file_name": str(i)} for i, (h, w) in rows]


def _category_records(ground_truth: GroundTruth) -> list[dict[str, Any]]:
    rows = zip(ground_truth.category_ids.tolist(), ground_truth.category_names, strict=True)
    return [{"id": i, "name": name} for i, name in rows]


def _truth_records(ground_truth: GroundTruth) -> list[dict[str, Any]]:
    columns = {
        "image_id": ground_truth.images.tolist(),
        "category_id": ground_truth.categories.tolist(),
        "bbox": ground_truth.boxes.tolist(),
        "area": ground_truth.areas.tolist(),
        "iscrowd": ground_truth.crowd.astype(int).tolist(),
    }
    return _records(columns, ground_truth.segmentations)


def _found_records(detections: Detections) -> list[dict[str, Any]]:
    if detections.segmentations is None:
        areas = detections.boxes[:, 2] * detections.boxes[:, 3]
    else:
        areas = _mask_areas(detections)
    columns = {
        "image_id": detections.images.tolist(),
        "category_id": detections.categories.tolist(),
        "bbox": detections.boxes.tolist(),
        "area": areas.tolist(),
        "iscrowd": [0] * len(areas),
        "score": detections.scores.tolist(),
    }
    return _records(columns, detections.segmentations)


def _records(columns: dict[str, list[Any]], segmentations: list[Any] | None) -> list[dict[str, Any]]:
    if segmentations is not None:
        columns = {**columns, "segmentation": segmentations}
    names = tuple(columns)
    rows = zip(*columns.values(), strict=True)
    return [{"id": i, **dict(zip(names, row, strict=True))} for i, row in enumerate(rows, start=1)]


def _mask_areas(detections: Detections) -> NDArray[np.float64]:
    """Pixels of each detected mask, [D]."""
    from pycocotools import mask as rle

    # one by one: given a list of more than 255 masks, pycocotools 2.0 overflows on NumPy 2
    return np.array([rle.area(mask) for mask in detections.segmentations or []], dtype=np.float64)
