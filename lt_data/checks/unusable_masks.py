"""Masks that stop whoever trains on them, told from the raw records.

Shapes: n annotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from lt_data.annotations.records import UNREADABLE
from lt_data.arrays import BoolArray, IntArray
from lt_data.masks.measure import BROKEN, WRONG_SUM, MaskColumns, RunLengths, Segmentation, measure_masks

# records whose masks are measured at a time: few enough that their polygons stay in the processor's cache
_CHUNK: Final = 512


class _Masked(msgspec.Struct, gc=False):
    segmentation: list[list[float]] | RunLengths | None = None


_MANY = msgspec.json.Decoder(list[_Masked])
_ONE = msgspec.json.Decoder(_Masked)


def unusable_masks(records: Sequence[msgspec.Raw], sizes: IntArray) -> BoolArray:
    """Segmentations that are neither polygons nor run lengths, or run lengths that do not fit their image, [n].

    No mask is none of them, nor is a mask without a pixel.

    Args:
        records: Raw annotation records.
        sizes: Width and height of the image of each in pixels, 0 where not known, [n, 2].
    """
    unusable = np.zeros(len(records), bool)
    for start in range(0, len(records), _CHUNK):
        part = slice(start, start + _CHUNK)
        unusable[part] = _of_chunk(records[part], sizes[part])
    return unusable


def _of_chunk(records: Sequence[msgspec.Raw], sizes: IntArray) -> BoolArray:
    masks: list[Segmentation]
    try:
        masks = [row.segmentation for row in _MANY.decode(b"[" + b",".join(records) + b"]")]
    except UNREADABLE:
        masks = [_segmentation(record) for record in records]
    columns = MaskColumns.empty(len(masks))
    # polygons that could be decoded can be used
    measure_masks([None if isinstance(mask, list) else mask for mask in masks], columns)
    known = (columns.rle_sizes >= 0).all(1) & (sizes > 0).all(1)
    of_another_size = known & (columns.rle_sizes != sizes[:, ::-1]).any(1)
    of_another_type = np.array([isinstance(mask, tuple) for mask in masks], bool)
    return np.asarray(of_another_type | of_another_size | (columns.faults & (BROKEN | WRONG_SUM) > 0))


def _segmentation(record: msgspec.Raw) -> Segmentation:
    """``()`` for one of a wrong type."""
    try:
        return _ONE.decode(record).segmentation
    except UNREADABLE:
        return ()
