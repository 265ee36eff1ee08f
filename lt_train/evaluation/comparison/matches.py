"""What each detection counts as: true positive, false positive or ignored, at every IoU threshold, over all areas.

The evaluators match; here their matches become columns, from which AP can be computed for any weighting of the images
without matching again.

Shapes: N images and K categories in ascending dataset id, D detections that the protocol keeps, ordered by category,
then falling score, ties as the evaluators order them (image, then place in the results); T IoU thresholds
.50:.05:.95; P pairs of category and image with ground truth.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from lt_data.annotations.records import without_cycle_collection
from lt_data.arrays import BoolArray, FloatArray, IntArray, positions_of
from lt_train.evaluation.engines.choose import Engine, EngineName, choose_engine
from lt_train.evaluation.engines.fast import hotcoco_evaluator
from lt_train.evaluation.engines.lvis_package import quiet
from lt_train.evaluation.engines.official import lvis_evaluator, pycocotools_evaluator
from lt_train.evaluation.engines.protocols import Protocol, as_counted
from lt_train.evaluation.figures.average_precision import IOU_THRESHOLDS
from lt_train.evaluation.predictions.columns import Detections, IouType
from lt_train.evaluation.truth.columns import GroundTruth

IOU_50: Final = 0
# detections that are matched at a time: what an evaluator says of one takes about 3 kB
_CHUNK: Final = 100_000


@dataclass(frozen=True)
class CategoryMatches:
    """Detections of one category in falling score.

    Attributes:
        images: [n] image index.
        hits: [T, n] bool, true positive.
        ignored: [T, n] bool, counts neither way; never a true positive.
    """

    images: IntArray
    hits: BoolArray
    ignored: BoolArray


@dataclass(frozen=True)
class Matches:
    """Matches of one system on one annotation file.

    Attributes:
        iou_type: ``bbox`` or ``segm``.
        protocol: ``coco`` or ``lvis``.
        max_detections: The protocol's limit.
        image_ids: [N] int64, ascending.
        category_ids: [K] int64, ascending.
        category_names: K names.
        categories: [D] category index, ascending.
        images: [D] image index.
        scores: [D] float64.
        hits: [T, D] bool, true positive.
        ignored: [T, D] bool, counts neither way.
        truth_categories: [P] category index, ascending.
        truth_images: [P] image index, ascending within a category.
        truth_counts: [P] int64, annotations that count, at least 1.
    """

    iou_type: IouType
    protocol: Protocol
    max_detections: int
    image_ids: IntArray
    category_ids: IntArray
    category_names: tuple[str, ...]
    categories: IntArray
    images: IntArray
    scores: FloatArray
    hits: BoolArray
    ignored: BoolArray
    truth_categories: IntArray
    truth_images: IntArray
    truth_counts: IntArray

    def detections_of(self, category: int) -> CategoryMatches:
        """Detections of the category with this index."""
        start, end = np.searchsorted(self.categories, [category, category + 1])
        return CategoryMatches(self.images[start:end], self.hits[:, start:end], self.ignored[:, start:end])

    def truth_of(self, category: int) -> tuple[IntArray, IntArray]:
        """Images with ground truth of the category with this index, and how many annotations each has."""
        start, end = np.searchsorted(self.truth_categories, [category, category + 1])
        return self.truth_images[start:end], self.truth_counts[start:end]


class _Columns(NamedTuple):
    """Detections and ground truth of some categories by dataset id, in any order; hits and ignored are [T, n]."""

    categories: IntArray
    images: IntArray
    scores: FloatArray
    hits: BoolArray
    ignored: BoolArray
    truth_categories: IntArray
    truth_images: IntArray
    truth_counts: IntArray


class _Names(NamedTuple):
    """How an evaluator calls what is read from it."""

    categories: str
    areas: str
    area_names: str
    cells: str
    scores: str
    matches: str
    ignored: str
    truth_ignored: str


# hotcoco answers to the names of pycocotools
_COCO: Final = _Names("catIds", "areaRng", "areaRngLbl", "evalImgs", "dtScores", "dtMatches", "dtIgnore", "gtIgnore")
_LVIS: Final = _Names(
    "cat_ids", "area_rng", "area_rng_lbl", "eval_imgs", "dt_scores", "dt_matches", "dt_ignore", "gt_ignore"
)


def match(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou_type: IouType,
    protocol: Protocol,
    max_detections: int,
    engine: EngineName = "auto",
) -> Matches:
    """Matches detections to annotations with an evaluator and keeps the outcome per detection.

    Args:
        ground_truth: The annotations, with segmentations if masks are matched.
        detections: What :func:`lt_train.evaluation.predictions.reading.read_detections` returned.
        iou_type: ``bbox`` or ``segm``.
        protocol: ``coco`` or ``lvis``; the latter needs the negative lists of the annotations.
        max_detections: Limit per image and category (coco) or per image (lvis).
        engine: See :func:`lt_train.evaluation.engines.choose.choose_engine`.

    Raises:
        RecipeError: An engine that is unknown or not installed.
    """
    chosen = choose_engine(engine, protocol)
    ground_truth = as_counted(ground_truth, protocol)
    evaluator, ids = _evaluator(
        chosen, ground_truth, detections, iou_type=iou_type, protocol=protocol, max_detections=max_detections
    )
    names = _LVIS if chosen == "lvis" else _COCO
    parts = [_columns([], names)]
    for categories in _chunks(ground_truth, detections):
        parts.append(_columns(_cells(evaluator, ids.categories[categories].tolist(), names), names))
    found = _Columns(*(np.concatenate(column, axis=-1) for column in zip(*parts, strict=True)))
    images, categories = positions_of(found.images, ids.images), positions_of(found.categories, ids.categories)
    order = np.lexsort((images, -found.scores, categories))
    truth_images = positions_of(found.truth_images, ids.images)
    truth_categories = positions_of(found.truth_categories, ids.categories)
    truth_order = np.lexsort((truth_images, truth_categories))
    return Matches(
        iou_type=iou_type,
        protocol=protocol,
        max_detections=max_detections,
        image_ids=ground_truth.image_ids,
        category_ids=ground_truth.category_ids,
        category_names=ground_truth.category_names,
        categories=categories[order],
        images=images[order],
        scores=found.scores[order],
        hits=found.hits[:, order],
        ignored=found.ignored[:, order],
        truth_categories=truth_categories[truth_order],
        truth_images=truth_images[truth_order],
        truth_counts=found.truth_counts[truth_order],
    )


class _Ids(NamedTuple):
    """What an evaluator calls the images [N] and the categories [K], in the order of the annotations."""

    images: IntArray
    categories: IntArray


def _evaluator(
    engine: Engine,
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou_type: IouType,
    protocol: Protocol,
    max_detections: int,
) -> tuple[Any, _Ids]:
    """The engine's evaluator, which has matched nothing yet; hotcoco's goes by positions, the others by dataset ids."""
    if engine == "hotcoco":
        evaluator = hotcoco_evaluator(
            ground_truth, detections, iou_type=iou_type, protocol=protocol, max_detections=max_detections
        )
        return evaluator, _Ids(np.arange(len(ground_truth.image_ids)), np.arange(len(ground_truth.category_ids)))
    make = lvis_evaluator if engine == "lvis" else pycocotools_evaluator
    evaluator = make(ground_truth, detections, iou_type=iou_type, max_detections=max_detections)
    return evaluator, _Ids(ground_truth.image_ids, ground_truth.category_ids)


def _chunks(ground_truth: GroundTruth, detections: Detections) -> list[IntArray]:
    """Category indices in runs of about ``_CHUNK`` detections."""
    index = positions_of(detections.categories, ground_truth.category_ids)
    counts = np.bincount(index, minlength=len(ground_truth.category_ids))
    runs = (np.cumsum(counts) - counts) // _CHUNK
    return [np.flatnonzero(runs == run) for run in np.unique(runs)]


def _cells(evaluator: Any, categories: list[int], names: _Names) -> list[dict[str, Any]]:
    """What the evaluator says of each image of these categories, over all areas."""
    parameters = evaluator.params
    setattr(parameters, names.categories, categories)
    for name in (names.areas, names.area_names):
        setattr(parameters, name, getattr(parameters, name)[:1])
    with contextlib.redirect_stdout(io.StringIO()), quiet():
        evaluator.evaluate()
    # millions of lists come at once, none of them garbage: looking for some takes longer than all else here
    with without_cycle_collection():
        return [cell for cell in getattr(evaluator, names.cells) if cell is not None]


def _columns(cells: list[dict[str, Any]], names: _Names) -> _Columns:
    lengths = [len(cell[names.scores]) for cell in cells]
    cell_categories = np.array([cell["category_id"] for cell in cells], dtype=np.int64)
    cell_images = np.array([cell["image_id"] for cell in cells], dtype=np.int64)
    counts = np.array([len(cell[names.truth_ignored]) - sum(cell[names.truth_ignored]) for cell in cells], np.int64)
    matched, ignored = _flags(cells, names.matches), _flags(cells, names.ignored)
    with_truth = counts > 0
    return _Columns(
        categories=np.repeat(cell_categories, lengths),
        images=np.repeat(cell_images, lengths),
        scores=np.array([score for cell in cells for score in cell[names.scores]], dtype=np.float64),
        hits=matched & ~ignored,
        ignored=ignored,
        truth_categories=cell_categories[with_truth],
        truth_images=cell_images[with_truth],
        truth_counts=counts[with_truth],
    )


def _flags(cells: list[dict[str, Any]], name: str) -> BoolArray:
    """[T, n]; matches are ids from 1, so an id that is not 0 is a match."""
    empty = np.zeros((len(IOU_THRESHOLDS), 0), dtype=np.bool_)
    flags = (np.asarray(cell[name], dtype=np.bool_).reshape(len(IOU_THRESHOLDS), -1) for cell in cells)
    return np.concatenate([empty, *flags], axis=1)
