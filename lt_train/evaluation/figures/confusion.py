"""What objects are taken for: a confusion matrix by class and by group, with a row and a column of the background.

Detections above a score are matched to objects of any category, see
:func:`lt_train.evaluation.figures.overlaps.match_greedily`. A detection that takes an object counts in the object's row
and its own column; one that takes none counts in the row of the background, and an object that nothing takes in the
column of the background.

Shapes: K categories in ascending dataset id, D detections, A annotations, n cells that are not 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lt_data.arrays import BoolArray, FloatArray, IntArray, positions_of
from lt_data.groups import Group, group_name_of
from lt_train.evaluation.engines.protocols import Protocol, as_counted
from lt_train.evaluation.figures.overlaps import FOUND_IOU, match_greedily, pairs_of_images, share_inside
from lt_train.evaluation.predictions.columns import Detections
from lt_train.evaluation.truth.columns import GroundTruth

LOWEST_SCORE: Final = 0.3
BACKGROUND: Final = "background"


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix without its zeros.

    Attributes:
        category_ids: [K] int64, ascending.
        category_names: K names.
        group_names: The group of each category, K; empty text for one that is in none.
        groups: Names of the groups in their order.
        true: [n] category index of the objects, K for the background.
        predicted: [n] category index of the detections, K for the background.
        counts: [n] int64, at least 1; never of the background in both.
        lowest_score: Detections above it were counted.
    """

    category_ids: IntArray
    category_names: tuple[str, ...]
    group_names: tuple[str, ...]
    groups: tuple[str, ...]
    true: IntArray
    predicted: IntArray
    counts: IntArray
    lowest_score: float


def confusion_of(
    truth: GroundTruth,
    detections: Detections,
    *,
    protocol: Protocol,
    groups: Sequence[Group] = (),
    lowest_score: float = LOWEST_SCORE,
) -> Confusion:
    """Counts what objects are taken for.

    Boxes are compared, those of the masks where there are no others. Crowds are no objects: a detection that takes none
    and lies at least half in a crowd of its category counts nowhere. By the protocol ``lvis``, neither does one whose
    category was not looked for in the image, nor one that takes no object where its category is not exhaustive.

    Args:
        truth: The annotations.
        detections: Of their images and categories.
        protocol: ``coco`` or ``lvis``.
        groups: Groups of the training set.
        lowest_score: Detections above it count.
    """
    truth = as_counted(truth, protocol)
    kept = detections.scores > lowest_score
    if protocol == "lvis":
        kept &= _looked_for(truth, detections)
    found = detections.take(kept)
    boxes, objects = boxes_of(found), np.flatnonzero(~truth.crowd)
    taken = match_greedily(found.images, boxes, found.scores, truth.images[objects], truth.boxes[objects])
    counted = (taken >= 0) | ~_in_crowd(truth, found, boxes)
    if protocol == "lvis":
        counted &= (taken >= 0) | ~_not_exhaustive(truth, found)
    size = len(truth.category_ids)
    object_class = positions_of(truth.categories[objects], truth.category_ids)
    predicted = positions_of(found.categories, truth.category_ids)
    missed = np.setdiff1d(np.arange(len(objects)), taken)
    # the last place is that of detections that take nothing
    rows = np.concatenate([np.append(object_class, size)[taken][counted], object_class[missed]])
    columns = np.concatenate([predicted[counted], np.full(len(missed), size)])
    cells, counts = np.unique(rows * (size + 1) + columns, return_counts=True)
    group_of = group_name_of(groups)
    return Confusion(
        category_ids=truth.category_ids,
        category_names=truth.category_names,
        group_names=tuple(group_of.get(category, "") for category in truth.category_ids.tolist()),
        groups=tuple(group.name for group in groups),
        true=cells // (size + 1),
        predicted=cells % (size + 1),
        counts=counts.astype(np.int64),
        lowest_score=lowest_score,
    )


def boxes_of(detections: Detections) -> FloatArray:
    """[D, 4]: the boxes, or those around the masks where only masks were read."""
    masks = detections.segmentations
    if masks is None or not len(detections) or not np.isnan(detections.boxes).any():
        return detections.boxes
    from pycocotools import mask as rle

    around: FloatArray = np.array(rle.toBbox(masks), np.float64).reshape(-1, 4)
    return np.where(np.isnan(detections.boxes), around, detections.boxes)


def confusion_csv(confusion: Confusion) -> str:
    """The cells that are not 0 as CSV, by true and predicted category; the background has no id and comes last."""
    ids = [*confusion.category_ids.tolist(), ""]
    names = [*confusion.category_names, BACKGROUND]
    groups = [*confusion.group_names, BACKGROUND]
    header = ("true_id", "true_name", "true_group", "predicted_id", "predicted_name", "predicted_group", "count")
    cells = zip(confusion.true.tolist(), confusion.predicted.tolist(), confusion.counts.tolist(), strict=True)
    rows = [(ids[t], names[t], groups[t], ids[p], names[p], groups[p], n) for t, p, n in cells]
    return _csv((*header, "score_above"), [(*row, confusion.lowest_score) for row in rows])


def confusion_groups_csv(confusion: Confusion) -> str:
    """The sums over the categories of each pair of groups as CSV, zeros included; ``same_category`` are right ones."""
    counts, right = group_confusion(confusion)
    names = group_labels(confusion)
    rows = [
        (true, predicted, int(counts[i, j]), int(right[i, j]), confusion.lowest_score)
        for i, true in enumerate(names)
        for j, predicted in enumerate(names)
        if not i == j == len(names) - 1
    ]
    return _csv(("true_group", "predicted_group", "count", "same_category", "score_above"), rows)


def group_labels(confusion: Confusion) -> tuple[str, ...]:
    """The groups, what is in none of them if there is any, and the background."""
    ungrouped = ("no group",) if "" in confusion.group_names else ()
    return (*confusion.groups, *ungrouped, BACKGROUND)


def group_confusion(confusion: Confusion) -> tuple[IntArray, IntArray]:
    """Counts of each pair of :func:`group_labels`, and how many of them are of the same category."""
    labels = {name: i for i, name in enumerate(group_labels(confusion))}
    index = np.array([*(labels[name or "no group"] for name in confusion.group_names), labels[BACKGROUND]])
    counts, right = (np.zeros((len(labels), len(labels)), np.int64) for _ in range(2))
    true, predicted = index[confusion.true], index[confusion.predicted]
    np.add.at(counts, (true, predicted), confusion.counts)
    np.add.at(right, (true, predicted), confusion.counts * (confusion.true == confusion.predicted))
    return counts, right


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _in_crowd(truth: GroundTruth, found: Detections, boxes: FloatArray) -> BoolArray:
    """Whether each detection lies at least half in a crowd of its category, [D]."""
    inside, crowds = np.zeros(len(found), bool), np.flatnonzero(truth.crowd)
    rows, others = pairs_of_images(found.images, truth.images[crowds])
    same = found.categories[rows] == truth.categories[crowds][others]
    rows, others = rows[same], crowds[others[same]]
    inside[rows[share_inside(boxes[rows], truth.boxes[others]) >= FOUND_IOU]] = True
    return inside


def _looked_for(truth: GroundTruth, found: Detections) -> BoolArray:
    """Whether the category of each detection was looked for in its image: it is annotated there, or certainly not."""
    there, listed = _keys(truth, truth.images, truth.categories), _keys_of_lists(truth, truth.negatives)
    return np.isin(_keys(truth, found.images, found.categories), np.concatenate([there, listed]))


def _not_exhaustive(truth: GroundTruth, found: Detections) -> BoolArray:
    """Whether the category of each detection is not annotated exhaustively in its image."""
    return np.isin(_keys(truth, found.images, found.categories), _keys_of_lists(truth, truth.not_exhaustive))


def _keys_of_lists(truth: GroundTruth, lists: Sequence[Sequence[int]] | None) -> IntArray:
    """Keys of the categories in a list of each image; those that the file lacks are nobody's."""
    lists = lists or []
    lengths = [len(part) for part in lists]
    categories = np.array([category for part in lists for category in part], np.int64)
    images = np.repeat(truth.image_ids[: len(lists)], lengths)
    known = np.isin(categories, truth.category_ids)
    return _keys(truth, images[known], categories[known])


def _keys(truth: GroundTruth, images: IntArray, categories: IntArray) -> IntArray:
    """A number for each pair of image and category."""
    places = positions_of(images, truth.image_ids), positions_of(categories, truth.category_ids)
    return places[0] * len(truth.category_ids) + places[1]
