"""Detections in the COCO results format: read, checked, and kept as columns.

Shapes: D detections in the order of the list. Boxes are COCO ``[x, y, width, height]`` in pixels, scores lie in 0..1,
ids are dataset ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.records import without_cycle_collection
from lt_data.arrays import IntArray
from lt_data.errors import DataError
from lt_data.masks.rle import areas_of
from lt_train.evaluation.predictions.columns import IOU_TYPES, CheckedDetections, Detections, IouType, Problem, Results
from lt_train.evaluation.predictions.problems import find_problems
from lt_train.evaluation.predictions.records import decode_results
from lt_train.evaluation.truth.columns import GroundTruth, load_ground_truth
from lt_train.evaluation.truth.masks import require_sizes

__all__ = ["Detections", "IouType", "Predictions", "Results", "check_results", "read_detections"]


Predictions = Path | str | Results | Detections


def check_results(
    results: Predictions,
    annotations: Path | str | Mapping[str, Any] | AnnotationFile | GroundTruth,
    *,
    iou_types: Sequence[IouType] | None = ("bbox",),
    source: str | None = None,
) -> None:
    """Raises one DataError that names every kind of problem in the predictions; see :func:`read_detections`."""
    if not isinstance(annotations, GroundTruth):
        annotations = load_ground_truth(annotations, masks=False)
    read_detections(results, annotations, iou_types=iou_types, source=source)


def read_detections(
    predictions: Predictions,
    ground_truth: GroundTruth,
    *,
    iou_types: Sequence[IouType] | None = None,
    source: str | None = None,
    skip_invalid: bool = False,
) -> CheckedDetections:
    """Reads and checks predictions; what is given is not changed.

    Args:
        predictions: A COCO results file (JSON, may be ``.gz`` or ``.zip``), its records (``image_id``,
            ``category_id``, ``score`` and ``bbox`` or ``segmentation`` each), or columns. Image ids may be the names of
            image files, masks may be polygons; ``notes`` say so then.
        ground_truth: The annotations that they belong to.
        iou_types: What will be evaluated; what the first record has, or the columns have, if None.
        source: What to call the predictions in messages; the file name if not given.
        skip_invalid: Leave invalid predictions out instead of refusing all; ``skipped`` then says which kinds and
            how many of each (one that is wrong in two ways counts in both).

    Raises:
        DataError: The file cannot be read, is no list, or (one line for each kind) predictions lack a field, have a
            box or mask that the first record has not, name an unknown image or category, have a score outside 0..1, a
            box that is not finite or of negative size, a mask of another size than its image or that cannot be read,
            or repeat another one exactly; a file holds none, or all are invalid; images have no size, but masks are
            to be measured.
    """
    if source is None:
        source = Path(predictions).name if isinstance(predictions, str | Path) else "predictions"
    with without_cycle_collection():
        if isinstance(predictions, Detections):
            types = _given(predictions, iou_types, source)
            columns, total, problems, notes = predictions, len(predictions), list[Problem](), list[str]()
            warnings = list[str]()
        else:
            columns, total, problems, types, notes, warnings = decode_results(
                predictions, iou_types, truth=ground_truth, source=source
            )
        if isinstance(predictions, str | Path) and not total:
            raise DataError(f"{source}: holds no predictions at all; if the model really finds nothing, AP is 0")
        if "segm" in types:
            require_sizes(ground_truth.image_sizes, ground_truth.source)
        columns, pixels = _with_masks(columns, types)
        found, bad = find_problems(columns, ground_truth, types, mask_pixels=pixels, source=source, total=total)
    problems += found
    if problems and not skip_invalid:
        raise DataError([problem.line for problem in problems])
    if total and bad.all():
        nothing = f"{source}: none of {total:,} predictions is left without the invalid ones; mend or write them again"
        raise DataError([*(problem.line for problem in problems), nothing])
    kept = columns.take(~bad)
    return CheckedDetections(
        images=kept.images,
        categories=kept.categories,
        boxes=kept.boxes,
        scores=kept.scores,
        segmentations=kept.segmentations,
        mask_areas=kept.mask_areas,
        truth=ground_truth,
        iou_types=types,
        skipped=tuple(problems),
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def _given(columns: Detections, iou_types: Sequence[IouType] | None, source: str) -> tuple[IouType, ...]:
    """What columns are to be checked for.

    Raises:
        DataError: They are of different lengths, or masks were asked for that are not there.
    """
    lengths = {len(columns.images), len(columns.categories), len(columns.scores), len(columns.boxes)}
    if (
        len(lengths) != 1
        or columns.boxes.shape[1:] != (4,)
        or len(columns.segmentations or columns.images) not in lengths
    ):
        raise DataError(f"{source}: columns of different lengths; each detection needs a value in all of them")
    everything: tuple[IouType, ...] = ("bbox",) if columns.segmentations is None else IOU_TYPES
    types = tuple(iou_types or everything)
    if "segm" in types and columns.segmentations is None:
        raise DataError(f"{source}: no masks were read or given; measure boxes only")
    return types


def _with_masks(columns: Detections, iou_types: Sequence[IouType]) -> tuple[Detections, IntArray | None]:
    """The same with every mask compressed and its area counted, and the pixels that the runs of each add up to."""
    if "segm" not in iou_types or columns.segmentations is None:
        return columns, None
    masks = columns.segmentations
    texts = list(map(itemgetter("counts"), masks))
    if not set(map(type, texts)) <= {str}:
        masks = [{**mask, "counts": _as_text(mask["counts"], mask["size"])} for mask in masks]
        texts = list(map(itemgetter("counts"), masks))
    areas = areas_of(texts)
    return replace(columns, segmentations=masks, mask_areas=areas.inside), areas.pixels


def _as_text(counts: Any, size: Sequence[int]) -> str:
    """Compressed run lengths; an empty text, which no evaluator can read, for what is none."""
    from pycocotools import mask as rle

    if isinstance(counts, str):
        return counts
    if isinstance(counts, bytes):
        return counts.decode("ascii", "replace").replace("\ufffd", " ")
    runs = counts if isinstance(counts, list) else []
    if not all(type(run) is int and 0 <= run < 2**31 for run in runs) or sum(runs) != size[0] * size[1]:
        return ""
    return str(rle.frPyObjects({"size": list(size), "counts": runs}, *size)["counts"].decode("ascii"))
