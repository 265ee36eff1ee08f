"""What is wrong with predictions: every kind counted, with examples, in one line each.

Shapes: D predictions that have all their fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lt_data.arrays import BoolArray, IntArray, all_distinct, positions_of, row_keys
from lt_train.evaluation.predictions.columns import Problem

if TYPE_CHECKING:
    from lt_train.evaluation.predictions.columns import Detections, IouType
    from lt_train.evaluation.truth.columns import GroundTruth


class _Found(NamedTuple):
    """Bad rows [D], a value to show for each of D rows, and the two halves of the line."""

    kind: str
    bad: BoolArray
    values: npt.NDArray[Any]
    text: str
    fix: str


def find_problems(
    detections: Detections,
    ground_truth: GroundTruth,
    iou_types: Sequence[IouType],
    *,
    mask_pixels: IntArray | None,
    source: str,
    total: int,
) -> tuple[list[Problem], BoolArray]:
    """Look for everything that an evaluator would count silently as something else, or fail at.

    Args:
        detections: Columns; masks compressed.
        ground_truth: The annotations that they claim to belong to.
        iou_types: What will be evaluated.
        mask_pixels: Sum of the runs of each mask, -1 if they cannot be read, [D]; None without masks.
        source: What to call the predictions.
        total: Predictions given, with those that are no records.

    Returns:
        The kinds of problems, and the rows that have any, [D].
    """
    found = list(_identity(detections, ground_truth)) + list(_numbers(detections, iou_types))
    if mask_pixels is not None:
        found += _masks(detections, ground_truth, mask_pixels)
    found.append(_duplicates(detections, iou_types))
    problems = [_problem(each, source, total) for each in found if each.bad.any()]
    bad = np.zeros(len(detections), bool)
    for each in found:
        bad |= each.bad
    return problems, bad


def _problem(found: _Found, source: str, total: int) -> Problem:
    rows = np.flatnonzero(found.bad)
    shown = list(dict.fromkeys(str(value) for value in found.values[rows[:1000]].tolist()))[:3]
    line = f"{source}: {len(rows):,} of {total:,} predictions {found.text} ({', '.join(shown)}); {found.fix}"
    return Problem(found.kind, len(rows), line)


def _identity(detections: Detections, truth: GroundTruth) -> Iterator[_Found]:
    unknown = positions_of(detections.images, truth.image_ids) < 0
    fix = f"evaluate them with the file that they were made for; {truth.source} has {len(truth.image_ids):,} images"
    yield _Found("image", unknown, detections.images, f"name an image that {truth.source} does not list: image_id", fix)
    unknown = positions_of(detections.categories, truth.category_ids) < 0
    text = f"name a category that {truth.source} lacks: category_id"
    yield _Found("category", unknown, detections.categories, text, _category_fix(detections.categories, truth))


def _category_fix(given: IntArray, truth: GroundTruth) -> str:
    """Says so where all ids are labels of a model that nobody mapped back."""
    count = len(truth.category_ids)
    fix = f"allowed are the {count:,} ids of {truth.source}"
    for first in (0, 1):
        labels = np.arange(first, first + count)
        if len(given) and given.min() >= first and given.max() < first + count and (labels != truth.category_ids).any():
            return f"all ids lie in {first}..{first + count - 1}, so they look like labels; write dataset ids: {fix}"
    return f"write ids of this data set, not of another: {fix}"


def _numbers(detections: Detections, iou_types: Sequence[IouType]) -> Iterator[_Found]:
    scores = detections.scores
    fix = "scores are numbers from 0 to 1; a model whose training diverged gives nan"
    yield _Found("score", ~((scores >= 0) & (scores <= 1)), scores, "have a score outside 0..1", fix)
    if "bbox" in iou_types:
        finite, (width, height) = np.isfinite(detections.boxes), detections.boxes[:, 2:].T
        bad = ~(finite[:, 0] & finite[:, 1] & finite[:, 2] & finite[:, 3] & (width >= 0) & (height >= 0))
        text, fix = "have a box that is not finite or of negative size", "boxes are [x, y, width, height] in pixels"
        yield _Found("box", bad, detections.boxes, text, fix)


def _masks(detections: Detections, truth: GroundTruth, pixels: IntArray) -> Iterator[_Found]:
    masks = detections.segmentations or []
    numbers = chain.from_iterable(map(itemgetter("size"), masks))
    sizes = np.fromiter(numbers, np.int64, 2 * len(masks)).reshape(-1, 2)
    image = positions_of(detections.images, truth.image_ids)
    expected = truth.image_sizes[image] if len(truth.image_ids) else sizes
    wrong = (image >= 0) & (sizes != expected).any(axis=1)
    fix = f"size is [height, width], as {truth.source} gives them for the image"
    yield _Found("mask_size", wrong, sizes, "have a mask of another size than their image: size", fix)
    unreadable = ~wrong & (pixels != sizes.prod(axis=1))
    fix = "counts are compressed run lengths that add up to height x width"
    if any(_is_text_of_bytes(masks[row]["counts"]) for row in np.flatnonzero(unreadable).tolist()):
        fix = "counts is text of Python bytes (b'...'); write rle['counts'].decode()"
    yield _Found("mask", unreadable, detections.images, "have a mask whose counts cannot be read: image_id", fix)


def _is_text_of_bytes(counts: object) -> bool:
    """Whether a writer took the text of Python's bytes for the bytes."""
    return isinstance(counts, str) and counts.startswith(("b'", 'b"'))


def _duplicates(detections: Detections, iou_types: Sequence[IouType]) -> _Found:
    """Records that repeat an earlier one in image, category, score and box or mask."""
    repeated = np.zeros(len(detections), bool)
    keys = _keys(detections, iou_types)
    if not all_distinct(keys):
        order = np.argsort(keys, kind="stable")
        near = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        same = [_same(detections, order[i], order[i + 1], iou_types) for i in near.tolist()]
        repeated[order[near + 1]] = same
    fix = "an image was predicted twice, or files were joined twice; keep one of each"
    return _Found("duplicate", repeated, detections.images, "repeat an earlier one exactly: image_id", fix)


def _keys(detections: Detections, iou_types: Sequence[IouType]) -> npt.NDArray[np.uint64]:
    """A number for each row, [D]; equal rows have equal numbers."""
    columns = [detections.images, detections.categories, detections.scores]
    if "bbox" in iou_types:
        columns += list(detections.boxes.T)
    if "segm" in iou_types:
        texts = map(itemgetter("counts"), detections.segmentations or [])
        columns.append(np.fromiter(map(hash, texts), np.int64, len(detections)))
    return row_keys(columns)


def _same(detections: Detections, one: int, other: int, iou_types: Sequence[IouType]) -> bool:
    equal = all(
        column[one] == column[other] for column in (detections.images, detections.categories, detections.scores)
    )
    if equal and "bbox" in iou_types:
        equal = bool((detections.boxes[one] == detections.boxes[other]).all())
    if equal and "segm" in iou_types and detections.segmentations is not None:
        equal = detections.segmentations[one] == detections.segmentations[other]
    return equal
