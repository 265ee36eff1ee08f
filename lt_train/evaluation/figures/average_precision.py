"""Evaluation of detections: precision and recall per class, from which every other number here follows.

Shapes: T IoU thresholds .50:.05:.95, R 101 recall points, K categories in ascending dataset id, A areas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.records import without_cycle_collection
from lt_data.arrays import FloatArray, IntArray, positions_of
from lt_data.errors import DataError, RecipeError
from lt_train.evaluation.engines.choose import Engine, EngineName, choose_engine, engine_version, run_engine
from lt_train.evaluation.engines.protocols import (
    FIXED_PER_CATEGORY,
    LIMITS,
    Protocol,
    ProtocolChoice,
    as_counted,
    best_of_each,
    choose_protocol,
)
from lt_train.evaluation.predictions.columns import IOU_TYPES, CheckedDetections, IouType, Problem
from lt_train.evaluation.predictions.reading import Predictions, read_detections
from lt_train.evaluation.truth.columns import GroundTruth, load_ground_truth

AREAS: Final = ("all", "small", "medium", "large")
IOU_THRESHOLDS: Final = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


@dataclass(frozen=True)
class Evaluation:
    """What was measured for boxes or for masks.

    Attributes:
        iou_type: ``bbox`` or ``segm``.
        protocol: ``coco`` or ``lvis``.
        fixed: Whether detections were limited per category over all images instead of per image.
        engine: Package and version that measured, e.g. ``pycocotools 2.0.11``.
        max_detections: Best-scored detections that count: of a category in one image (``coco``), of one image
            (``lvis``), of a category over all images (``fixed``).
        category_ids: [K] int64, ascending dataset ids.
        category_names: K names.
        frequencies: K of ``r``, ``c`` and ``f``, as the annotation file says; None if it does not.
        precision: [T, R, K, A] float64 in 0..1; -1 where a category has no ground truth in the area.
        recall: [T, K, A] float64 in 0..1; -1 likewise.
        instances: [K] int64, ground truth that counts (no crowds).
        images: Evaluated images.
        detections: Detections given, before ``max_detections``.
        skipped: Invalid predictions that were left out.
    """

    iou_type: IouType
    protocol: Protocol
    fixed: bool
    engine: str
    max_detections: int
    category_ids: IntArray
    category_names: tuple[str, ...]
    frequencies: tuple[str, ...] | None
    precision: FloatArray
    recall: FloatArray
    instances: IntArray
    images: int
    detections: int
    skipped: tuple[Problem, ...] = ()

    def class_ap(self, *, iou: float | None = None, area: str = "all") -> FloatArray:
        """Average precision of each class, [K]; NaN without ground truth.

        Args:
            iou: One of the IoU thresholds; the mean over all of them if not given.
            area: ``all``, ``small``, ``medium`` or ``large``.
        """
        values = self.precision[..., AREAS.index(area)]
        if iou is not None:
            values = values[[IOU_THRESHOLDS.index(iou)]]
        return _class_means(values.reshape(-1, values.shape[-1]))

    def class_ar(self, *, area: str = "all") -> FloatArray:
        """Average recall of each class over the IoU thresholds, [K]; NaN without ground truth."""
        return _class_means(self.recall[..., AREAS.index(area)])


def evaluate(
    annotations: Path | str | Mapping[str, Any] | AnnotationFile | GroundTruth,
    results: Predictions,
    *,
    iou_type: IouType,
    protocol: ProtocolChoice = "auto",
    engine: EngineName = "auto",
    max_detections: int | None = None,
    fixed: bool = False,
    skip_invalid: bool = False,
) -> Evaluation:
    """Measures detections against annotations as COCO or LVIS does.

    The area of a detected mask is that of the mask, not of the box beside it. By ``coco``, crowd annotations match any
    number of detections and count neither for nor against; ``lvis`` knows no crowds.

    Args:
        annotations: COCO or LVIS annotation file, the same as read, its content, or what
            :func:`load_ground_truth` returned.
        results: COCO results (``image_id``, ``category_id``, ``score``, ``bbox`` [x, y, width, height] in pixels,
            ``segmentation`` RLE for masks): a file, its records, or columns. Not changed.
        iou_type: ``bbox`` or ``segm``.
        protocol: ``coco``, ``lvis``, or what the file is made for.
        engine: See :func:`lt_train.evaluation.engines.choose.choose_engine`.
        max_detections: Detections that count, best first: per image and category (``coco``, 100 unless given) or per
            image (``lvis``, 300 unless given).
        fixed: Let the best 10,000 detections of a category over all images count instead (Dave et al., 2021).
        skip_invalid: See :func:`read_detections`.

    Raises:
        DataError: Annotations or results that cannot be evaluated, or not by this protocol.
        RecipeError: An engine or protocol that is unknown, or an engine that is not installed.
    """
    if iou_type not in IOU_TYPES:
        raise RecipeError(f"IoU type {iou_type!r} is unknown; allowed are {', '.join(IOU_TYPES)}")
    with without_cycle_collection():
        if not isinstance(annotations, GroundTruth):
            annotations = load_ground_truth(annotations, masks=iou_type == "segm")
        way = _way(annotations, iou_type, protocol, engine, max_detections, fixed)
        given = read_detections(results, annotations, iou_types=(iou_type,), skip_invalid=skip_invalid)
        evaluation = _measured(given, way)
        # the collector, once it is on again, would look at every mask
        del given
        return evaluation


def evaluate_checked(
    detections: CheckedDetections,
    *,
    iou_type: IouType,
    protocol: ProtocolChoice = "auto",
    engine: EngineName = "auto",
    max_detections: int | None = None,
    fixed: bool = False,
) -> Evaluation:
    """Measures what :func:`read_detections` returned against the annotations that it was checked against.

    Args:
        detections: The detections; nothing of them is checked again.
        iou_type: One of those that they were checked for.
        protocol: See :func:`evaluate`, as for the other arguments.
        engine: Likewise.
        max_detections: Likewise.
        fixed: Likewise.

    Raises:
        DataError: The annotations were read without masks, or the protocol cannot be used.
        RecipeError: An engine or protocol that is unknown, or an engine that is not installed.
    """
    assert iou_type in detections.iou_types, "internal error: the detections were not checked for this IoU type"
    with without_cycle_collection():
        return _measured(detections, _way(detections.truth, iou_type, protocol, engine, max_detections, fixed))


@dataclass(frozen=True)
class _Way:
    """How to measure: what the caller chose, once it is known to be possible."""

    iou_type: IouType
    protocol: Protocol
    engine: Engine
    limit: int
    fixed: bool


def _way(
    ground_truth: GroundTruth,
    iou_type: IouType,
    protocol: ProtocolChoice,
    engine: EngineName,
    max_detections: int | None,
    fixed: bool,
) -> _Way:
    chosen = choose_protocol(protocol, ground_truth)
    limit = _limit(chosen, max_detections, fixed)
    name = choose_engine(engine, chosen)
    if iou_type == "segm" and ground_truth.segmentations is None:
        raise DataError(f"{ground_truth.source}: was read without masks; read it with masks=True, or evaluate boxes")
    return _Way(iou_type, chosen, name, limit, fixed)


def _measured(detections: CheckedDetections, way: _Way) -> Evaluation:
    """Runs the engine on what counts."""
    ground_truth = detections.truth
    counted, kept, of_engine = as_counted(ground_truth, way.protocol), detections, way.limit
    if way.fixed:
        categories = positions_of(detections.categories, ground_truth.category_ids)
        kept = detections.take(best_of_each(categories, detections.scores, way.limit))
        of_engine = max(len(kept), 1)
    precision, recall = run_engine(
        way.engine, counted, kept, iou_type=way.iou_type, protocol=way.protocol, max_detections=of_engine
    )
    return Evaluation(
        iou_type=way.iou_type,
        protocol=way.protocol,
        fixed=way.fixed,
        engine=engine_version(way.engine),
        max_detections=way.limit,
        category_ids=ground_truth.category_ids,
        category_names=ground_truth.category_names,
        frequencies=ground_truth.frequencies,
        precision=precision,
        recall=recall,
        instances=counted.instances(),
        images=len(ground_truth.image_ids),
        detections=len(detections),
        skipped=detections.skipped,
    )


def _limit(protocol: Protocol, given: int | None, fixed: bool) -> int:
    if fixed and given is not None:
        raise RecipeError("fixed AP has its own limit of 10,000 detections per category; leave out max_detections")
    if given is not None and given < 1:
        raise RecipeError(f"max_detections: got {given}; allowed are whole numbers from 1")
    if fixed:
        return FIXED_PER_CATEGORY
    return LIMITS[protocol] if given is None else given


def _class_means(values: FloatArray) -> FloatArray:
    """Mean over rows of [n, K], NaN for columns that are -1 throughout."""
    means = values.mean(axis=0)
    means[(values < 0).any(axis=0)] = np.nan
    return means
