"""The masks of annotations, once every engine can read them.

The official tools end the whole process on some masks that make no sense, and measure others without a word.

Shapes: A annotations.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.records import CHUNK
from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_data.errors import DataError
from lt_data.masks.measure import EMPTY, MaskColumns, RunLengths, Segmentation, is_no_mask, measure_masks


class _MaskRecord(msgspec.Struct):
    segmentation: list[list[float]] | RunLengths | None = None


# for one that is of another type
_UNUSABLE: Final = ()
# how masks are left out, by whoever measures them
BOXES_ONLY: Final = "measure boxes only (lt-train eval --boxes-only; in a recipe another detector, or data.val=null)"
# pixels; drawing polygons that reach further overflows in pycocotools
FAR: Final = 1e6


class ReadMasks(NamedTuple):
    """A segmentations, polygons or run lengths, as evaluators take them, and their x1, y1, x2, y2, [A, 4]."""

    masks: list[Any]
    extents: FloatArray


def read_masks(file: AnnotationFile, source: str, rows: IntArray | None = None) -> ReadMasks:
    """The masks of annotations.

    Args:
        file: The annotations.
        source: What to call them.
        rows: Positions of the A annotations in the file; all unless given.

    Raises:
        DataError: Annotations without a mask or with one that cannot be read, or images without a size.
    """
    require_sizes(file.image_sizes, source)
    decoder = msgspec.json.Decoder(_MaskRecord)
    rows = np.arange(len(file.annotation_ids)) if rows is None else rows
    records = file.annotation_records
    masks = [_decoded(decoder, records[row]) for row in rows.tolist()]
    without = np.array([is_no_mask(mask) for mask in masks], bool)
    sizes, columns = file.image_sizes[file.image_index()[rows]][:, ::-1], _measured(masks)
    broken = ~without & _unreadable(masks, columns, sizes)
    empty = ~without & ~broken & _without_pixel(masks, columns, sizes)
    ids, problems = file.annotation_ids[rows], []
    if without.any():
        fix = f"{BOXES_ONLY}, or drop them"
        problems.append(_line(ids, source, without, f"have no segmentation (null, [] and [[]] are none); {fix}"))
    if broken.any():
        fix = (
            "polygons ([[x1, y1, x2, y2, ...]], a list of lists) have three points or more near the image, run lengths "
            "fill it; lt-data check says more"
        )
        problems.append(_line(ids, source, broken, f"have a segmentation that cannot be read; {fix}"))
    if empty.any():
        fix = "no detection can hit them; evaluate boxes only, or drop them"
        problems.append(_line(ids, source, empty, f"have a mask without a pixel; {fix}"))
    if problems:
        raise DataError(problems)
    return ReadMasks([_plain(mask) for mask in masks], columns.extents)


def require_sizes(image_sizes: IntArray, source: str) -> None:
    """Refuses images without a size before masks are compared with it.

    Args:
        image_sizes: [N, 2] pixels, 0 where the file says none.
        source: What to call the annotations.

    Raises:
        DataError: Some have none.
    """
    count = int((image_sizes < 1).any(axis=1).sum())
    if count:
        fix = f"masks cannot be read without; add them, or {BOXES_ONLY}"
        raise DataError(f"{source}: {count:,} of {len(image_sizes):,} images have no height and width; {fix}")


def _decoded(decoder: msgspec.json.Decoder[_MaskRecord], record: msgspec.Raw) -> Segmentation:
    try:
        return decoder.decode(record).segmentation
    except msgspec.ValidationError:
        return _UNUSABLE


def _measured(masks: list[Segmentation]) -> MaskColumns:
    columns = MaskColumns.empty(len(masks))
    for start in range(0, len(masks), CHUNK):
        part = slice(start, min(start + CHUNK, len(masks)))
        measure_masks(masks[part], columns.part(part))
    return columns


def _without_pixel(masks: list[Segmentation], columns: MaskColumns, sizes: IntArray) -> BoolArray:
    """Masks that are drawn without a pixel, [A]: of those whose outline has no area, as few as there are."""
    from pycocotools import mask as rle

    empty = np.zeros(len(masks), bool)
    for row in np.flatnonzero(columns.faults == EMPTY).tolist():
        mask = masks[row]
        height, width = sizes[row].tolist()
        drawn = rle.area(rle.merge(rle.frPyObjects(mask, height, width))) if isinstance(mask, list) else 0
        empty[row] = drawn == 0
    return empty


def _unreadable(masks: list[Segmentation], columns: MaskColumns, sizes: IntArray) -> BoolArray:
    """Masks that evaluators would take for something else, [A]; ``sizes`` [A, 2] are the images' heights and widths."""
    other_size = (columns.rle_sizes[:, 0] >= 0) & (columns.rle_sizes != sizes).any(axis=1)
    unusable = np.array([mask == _UNUSABLE for mask in masks], bool)
    far = (np.abs(columns.extents) > FAR).any(axis=1)
    faulty: BoolArray = (columns.faults & ~np.uint8(EMPTY)) > 0
    return faulty | other_size | unusable | far


def _line(ids: IntArray, source: str, bad: BoolArray, text: str) -> str:
    first = ", ".join(map(str, ids[bad][:3].tolist()))
    return f"{source}: {int(bad.sum()):,} of {len(bad):,} annotations (ids {first}) {text}"


def _plain(mask: Segmentation) -> Any:
    return {"size": list(mask.size), "counts": mask.counts} if isinstance(mask, RunLengths) else mask
