"""The annotations that detections are measured against, as columns.

Shapes: N images, A annotations, K categories in ascending dataset id. Boxes
here are COCO ``[x, y, width, height]`` in pixels, areas px^2, ids are dataset ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from lt_data.annotations.file import AnnotationFile, parse_annotations, read_annotations
from lt_data.annotations.records import Id
from lt_data.annotations.unusable import has_size, left_out
from lt_data.arrays import BoolArray, FloatArray, IntArray, examples, sorted_unique
from lt_data.errors import DataError
from lt_train.evaluation.truth.masks import read_masks


class _ImageLists(msgspec.Struct):
    """What an LVIS image has beside its size."""

    neg_category_ids: list[Id] | None = None
    not_exhaustive_category_ids: list[Id] | None = None


class _Federated(NamedTuple):
    """Both lists of each image, how many images lack them though the file has some, and what is wrong with one."""

    negatives: list[list[int]] | None
    not_exhaustive: list[list[int]] | None
    without: int
    fault: str


@dataclass(frozen=True)
class GroundTruth:
    """Annotations as an evaluation wants them.

    Attributes:
        source: What to call the file in a message.
        image_ids: [N] int64, ascending.
        image_sizes: [N, 2] int64, height and width in pixels (0 where the file does not say).
        category_ids: [K] int64, ascending.
        category_names: K names in the order of ``category_ids``.
        images: [A] int64, image id of each annotation.
        categories: [A] int64, category id of each annotation.
        boxes: [A, 4] float64.
        areas: [A] float64; the box area where the file has none (LVIS and COCO files always have it).
        crowd: [A] bool.
        segmentations: A polygons or RLEs as in the file; None if they were not asked for.
        negatives: Ids of the categories that are certainly not in each of N images (LVIS); None unless every image
            has both this and the next list.
        not_exhaustive: Ids of the categories that are not annotated exhaustively in each of N images (LVIS).
        frequencies: ``r``, ``c`` or ``f`` of each of K categories (LVIS); None unless every category has one.
        file_names: N file names of the images.
        image_names: The N image ids as the file has them, where they are text; ``image_ids`` are 1..N then.
        images_without_lists: Images that lack one of the two lists, or both, or have no ids there, in a file that has
            any such list.
        list_fault: Where a list first holds no ids, and what; empty text where none does.
        rows: [A] int64, where the annotations stand in the file; None for all of it. Boxes of no size are left out,
            as in training.
        mask_extents: [A, 4] float64, x1, y1, x2, y2 of the masks in pixels; None if they were not asked for.
        notes: What of the file is not measured, one line each.
    """

    source: str
    image_ids: IntArray
    image_sizes: IntArray
    category_ids: IntArray
    category_names: tuple[str, ...]
    images: IntArray
    categories: IntArray
    boxes: FloatArray
    areas: FloatArray
    crowd: BoolArray
    segmentations: list[Any] | None
    negatives: list[list[int]] | None = None
    not_exhaustive: list[list[int]] | None = None
    frequencies: tuple[str, ...] | None = None
    file_names: tuple[str, ...] = ()
    image_names: tuple[str, ...] | None = None
    images_without_lists: int = 0
    list_fault: str = ""
    rows: IntArray | None = None
    mask_extents: FloatArray | None = None
    notes: tuple[str, ...] = ()

    @property
    def protocol(self) -> Literal["coco", "lvis"]:
        """``lvis`` if every image says what was looked for in it, else ``coco``."""
        return "coco" if self.negatives is None or self.not_exhaustive is None else "lvis"

    def instances(self) -> IntArray:
        """Non-crowd annotations per category, [K] int64."""
        index = np.searchsorted(self.category_ids, self.categories[~self.crowd])
        return np.bincount(index, minlength=len(self.category_ids)).astype(np.int64)


def load_ground_truth(
    annotations: Path | str | Mapping[str, Any] | AnnotationFile, *, masks: bool, source: str | None = None
) -> GroundTruth:
    """Reads a COCO or LVIS annotation file, or takes one that was read, or the same content as a dict.

    Args:
        annotations: Path of the JSON file, the file as read, or its content. A dict is not changed.
        masks: Keep the segmentations; every annotation must then have one.
        source: What to call the annotations in messages; the file name if not given.

    Raises:
        DataError: The file is missing, is no annotation file, or lacks something an evaluation needs.
    """
    if isinstance(annotations, Mapping):
        name = Path(source or "annotations")
        annotations = parse_annotations(
            msgspec.json.encode(annotations, enc_hook=plain_number), name, only_matched=True
        )
    elif not isinstance(annotations, AnnotationFile):
        annotations = read_annotations(Path(annotations), only_matched=True)
    source = source or annotations.path.name
    _require_boxes(annotations, source)
    return _columns(annotations, source, masks=masks)


def only_images(truth: GroundTruth, image_ids: IntArray) -> GroundTruth:
    """The same for some of the images, and without masks.

    Args:
        truth: All of it.
        image_ids: The images that stay.
    """
    images = np.flatnonzero(np.isin(truth.image_ids, image_ids))
    kept = np.isin(truth.images, image_ids)

    def of_images(values: Any) -> Any:
        return None if values is None else type(values)(values[i] for i in images.tolist())

    return replace(
        truth,
        image_ids=truth.image_ids[images],
        image_sizes=truth.image_sizes[images],
        images=truth.images[kept],
        categories=truth.categories[kept],
        boxes=truth.boxes[kept],
        areas=truth.areas[kept],
        crowd=truth.crowd[kept],
        segmentations=None,
        mask_extents=None,
        negatives=of_images(truth.negatives),
        not_exhaustive=of_images(truth.not_exhaustive),
        file_names=of_images(truth.file_names),
        image_names=of_images(truth.image_names),
        rows=None if truth.rows is None else truth.rows[kept],
    )


def with_masks(ground_truth: GroundTruth, file: AnnotationFile) -> GroundTruth:
    """The same with the masks of the file that it was read from; as it is if it has them.

    Raises:
        DataError: An annotation has no mask, or one that cannot be read.
    """
    if ground_truth.segmentations is not None:
        return ground_truth
    found = read_masks(file, ground_truth.source, ground_truth.rows)
    return replace(ground_truth, segmentations=found.masks, mask_extents=found.extents)


def _columns(file: AnnotationFile, source: str, *, masks: bool) -> GroundTruth:
    image_order, category_order = np.argsort(file.image_ids), np.argsort(file.categories.ids)
    lists = _federated_lists(file, image_order)
    frequencies = file.categories.frequencies
    sized = has_size(file.boxes[:, 2:])
    rows, boxes, areas = np.flatnonzero(sized), file.boxes[sized], file.areas[sized]
    found = read_masks(file, source, rows) if masks else None
    return GroundTruth(
        source=source,
        image_ids=file.image_ids[image_order],
        image_sizes=file.image_sizes[image_order][:, ::-1],
        category_ids=file.categories.ids[category_order],
        category_names=tuple(file.categories.names[i] for i in category_order),
        images=file.annotation_image_ids[sized],
        categories=file.annotation_category_ids[sized],
        boxes=boxes,
        areas=np.where(np.isnan(areas), boxes[:, 2:].prod(axis=1), areas),
        crowd=file.crowd[sized],
        segmentations=None if found is None else found.masks,
        mask_extents=None if found is None else found.extents,
        negatives=lists.negatives,
        not_exhaustive=lists.not_exhaustive,
        frequencies=None if frequencies is None else tuple(frequencies[i] for i in category_order),
        file_names=tuple(file.file_names[i] for i in image_order),
        # ids that are text are numbered in the order of the file
        image_names=file.image_names,
        images_without_lists=lists.without,
        list_fault=lists.fault,
        rows=rows,
        notes=left_out(source, file.annotation_ids, ~sized, "have a box of no size"),
    )


def _federated_lists(file: AnnotationFile, order: IntArray) -> _Federated:
    """Negative and not exhaustive categories of each image in this order; None unless every image has both.

    Lists that cannot be used stop nobody here: COCO's rules do not read them.
    """
    decoder = msgspec.json.Decoder(_ImageLists)
    records = file.image_records
    negatives: list[list[int]] = []
    not_exhaustive: list[list[int]] = []
    has_any, fault = False, ""
    for i in order.tolist():
        try:
            lists = decoder.decode(records[i])
        except msgspec.ValidationError as error:
            has_any, fault = True, fault or f"images[{i}]: {error}"
            continue
        pair = lists.neg_category_ids, lists.not_exhaustive_category_ids
        has_any |= pair != (None, None)
        if pair[0] is not None and pair[1] is not None:
            negatives.append([int(entry) for entry in pair[0]])
            not_exhaustive.append([int(entry) for entry in pair[1]])
    without = len(order) - len(negatives)
    if without or not negatives:
        return _Federated(None, None, without if has_any else 0, fault)
    return _Federated(negatives, not_exhaustive, 0, "")


def _require_boxes(file: AnnotationFile, source: str) -> None:
    without = np.flatnonzero(np.isnan(file.boxes).any(axis=1))
    if len(without):
        images = examples(sorted_unique(file.annotation_image_ids[without]))
        raise DataError(f"{source}: {len(without)} annotations have no bbox (in images {images}); add it")


def plain_number(value: Any) -> Any:
    """A numpy scalar or array as Python numbers, for msgspec.

    Raises:
        ValidationError: The value is of another type.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise msgspec.ValidationError(f"a value is of type {type(value).__name__}, which JSON cannot hold")
