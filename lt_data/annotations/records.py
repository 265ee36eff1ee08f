"""The records of an annotation file: what is decoded of each, and where each begins and ends.

A validating parser does both; nothing here looks for brackets by itself, so nothing that a string holds can mislead it.

Shapes: N images, A annotations.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np

from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_data.errors import DataError
from lt_data.files.image_files import url_path
from lt_data.files.reading import Bytes, why_no_json

# beyond it JSON readers do not keep whole numbers exactly
LARGEST_ID: Final = 2**53
LISTS: Final = ("images", "annotations", "categories")
# records decoded at a time: few enough that their objects stay in the processor's cache
CHUNK: Final = 4096
# records nested too deeply end in a RecursionError
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# what means yes in ``ignore``
IGNORED: Final = (1, "1", "true", "True")
_NO_BOX: Final = (float("nan"),) * 4

# writers that keep all numbers as floats write 100.0
WholeFloat = Annotated[float, msgspec.Meta(multiple_of=1, ge=-LARGEST_ID, le=LARGEST_ID)]
Id = Annotated[int, msgspec.Meta(ge=-LARGEST_ID, le=LARGEST_ID)] | WholeFloat


class ImageRecord(msgspec.Struct, gc=False):
    """What is read of an image; ``null`` means as much as a field that is not there."""

    id: Id
    width: int | WholeFloat | None = 0
    height: int | WholeFloat | None = 0
    file_name: str | None = ""
    coco_url: str | None = ""

    def name(self) -> str:
        """LVIS v1 names its images only by ``coco_url``: the file is what follows the last slash of its path."""
        if self.file_name or not self.coco_url:
            return self.file_name or ""
        return url_path(self.coco_url).rpartition("/")[2]


class AnnotationRecord(msgspec.Struct, gc=False):
    """What counting and choosing need of an annotation."""

    id: Id
    image_id: Id
    category_id: Id
    iscrowd: int | bool | WholeFloat | None = 0


class GeometryRecord(msgspec.Struct, gc=False):
    """Where an annotation is, and whether some program's own field says to ignore it."""

    area: float | None = None
    bbox: tuple[float, float, float, float] | None = None
    ignore: Any = None


class CategoryRecord(msgspec.Struct):
    """What is read of a category; LVIS has the frequency and the counts."""

    id: Id
    name: str | None = ""
    frequency: str | None = None
    image_count: int | WholeFloat | None = None
    instance_count: int | WholeFloat | None = None
    supercategory: Any = None


class UrlRecord(msgspec.Struct):
    """The URL of an image alone; what is no text is none."""

    coco_url: Any = ""


class SegmentationRecord(msgspec.Struct):
    """The segmentation of an annotation alone."""

    segmentation: Any = None


class Records(msgspec.Struct):
    """The decoded records of the three lists."""

    images: list[ImageRecord]
    annotations: list[AnnotationRecord]
    categories: list[CategoryRecord]


class _RawFile(msgspec.Struct):
    images: list[msgspec.Raw] | None = None
    annotations: list[msgspec.Raw] | None = None
    categories: list[msgspec.Raw] | None = None


class ImageColumns(NamedTuple):
    """Ids [N], widths and heights in pixels (0 where missing) [N, 2], N file names."""

    ids: IntArray
    sizes: IntArray
    names: list[str]


class AnnotationColumns(NamedTuple):
    """Annotation, image and category ids and crowd flags, [A] each."""

    ids: IntArray
    image_ids: IntArray
    category_ids: IntArray
    crowd: BoolArray


@contextmanager
def without_cycle_collection() -> Iterator[None]:
    """Millions of small objects make the collector look for cycles that cannot be there."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def decode_records(path: Path, data: Bytes) -> Records:
    """The decoded records of the three lists, in one pass over the file.

    Raises:
        DataError: Something is wrong; ``lt_data.annotations.problems`` finds out what and where.
    """
    try:
        return msgspec.json.decode(data, type=Records)
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read ({error}); give a COCO or LVIS annotation file") from None


def split_records(path: Path, data: Bytes) -> dict[str, list[msgspec.Raw]]:
    """The raw records of the three lists, after one validating pass over the file.

    Raises:
        DataError: The file is no JSON object with these lists, or has a member twice.
    """
    try:
        file = msgspec.json.decode(data, type=_RawFile)
    except msgspec.ValidationError as error:
        raise DataError(f"{path}: not an annotation file ({error}); give a COCO or LVIS annotation file") from None
    except UNREADABLE as error:
        kind = why_no_json(data) or f"not a JSON object ({error}); give a COCO or LVIS annotation file"
        raise DataError(f"{path}: {kind}") from None
    records: dict[str, list[msgspec.Raw]] = {}
    for key in LISTS:
        found: list[msgspec.Raw] | None = getattr(file, key)
        if found is None:
            raise DataError(f"{path}: member '{key}' is missing; a COCO or LVIS file has it")
        records[key] = found
    twice = repeated_members(data, [span_of(data, found) for found in records.values() if found])
    if twice:
        raise DataError(f"{path}: more than one member is called {', '.join(map(repr, twice))}; keep one of each")
    return records


def repeated_members(data: Bytes, spans: Iterable[tuple[int, int]]) -> list[str]:
    """Names that occur twice among the top-level members; JSON readers keep only the last of these.

    Args:
        data: A sound JSON object.
        spans: First byte and the byte after the last, of values that need not be looked into: the members as a
            parser found them, or the records in them. What such a span does not cover is a lost value.
    """
    parts, done = [], 0
    for first, end in sorted(spans):
        parts += [bytes(data[done:first]), b"0"]
        done = end
    text = b"".join([*parts, bytes(data[done:])]).decode("utf-8", "surrogateescape")
    names: list[str] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        # objects within come first, the outermost last
        names[:] = [name for name, _ in pairs]

    try:
        json.JSONDecoder(object_pairs_hook=keep, parse_int=len, strict=False).decode(text)
    except (ValueError, RecursionError):
        return []
    return [name for name, count in Counter(names).items() if count > 1]


def image_columns(rows: Sequence[ImageRecord]) -> ImageColumns:
    """The columns of N images."""
    sizes = np.empty((len(rows), 2), np.int64)
    for i, side in enumerate(("width", "height")):
        try:
            sizes[:, i] = _column(rows, side)
        except (TypeError, OverflowError):
            sizes[:, i] = [whole(getattr(row, side)) for row in rows]
    return ImageColumns(_column(rows, "id"), sizes, [row.file_name or row.name() for row in rows])


def annotation_columns(rows: Sequence[AnnotationRecord]) -> AnnotationColumns:
    """The columns of A annotations."""
    crowd = np.fromiter(map(attrgetter("iscrowd"), rows), bool, len(rows))
    return AnnotationColumns(_column(rows, "id"), _column(rows, "image_id"), _column(rows, "category_id"), crowd)


def _column(rows: Sequence[Any], field: str) -> IntArray:
    return np.fromiter(map(attrgetter(field), rows), np.int64, len(rows))


def whole(number: float | None) -> int:
    """A size or a count as 64 bits hold it; 0 for none."""
    return min(max(int(number or 0), 1 - 2**63), 2**63 - 1)


class Geometry(NamedTuple):
    """Areas [A] and boxes [A, 4], NaN where missing, and whether ``ignore`` is 1 [A]."""

    areas: FloatArray
    boxes: FloatArray
    ignored: BoolArray


def geometry(path: Path, data: Bytes, records: Sequence[msgspec.Raw]) -> Geometry:
    """Areas, boxes and ``ignore`` of raw annotation records.

    Raises:
        DataError: A record has an area or a box of a wrong type.
    """
    columns = _empty_geometry(len(records))
    decoder = msgspec.json.Decoder(list[GeometryRecord])
    for start in range(0, len(records), CHUNK):
        part = slice(start, min(start + CHUNK, len(records)))
        first, end = span_of(data, records[part])
        try:
            # the records of a chunk stand side by side in the file: one call decodes them all
            rows = decoder.decode(b"[" + bytes(data[first:end]) + b"]")
        except UNREADABLE as error:
            raise DataError(f"{path}: annotations: a bbox or area cannot be read ({error}); mend it") from None
        _put_geometry(columns, part, rows)
    return columns


def readable_geometry(records: Sequence[msgspec.Raw]) -> tuple[Geometry, BoolArray]:
    """The geometry of any raw annotation records, missing where it cannot be read, and where that is so, [A].

    For those who go on with such records and say so.
    """
    columns, unreadable = _empty_geometry(len(records)), np.zeros(len(records), bool)
    many, one = msgspec.json.Decoder(list[GeometryRecord]), msgspec.json.Decoder(GeometryRecord)
    for start in range(0, len(records), CHUNK):
        chunk = records[start : start + CHUNK]
        try:
            rows = many.decode(b"[" + b",".join(chunk) + b"]")
        except UNREADABLE:
            rows = []
            for place, record in enumerate(chunk, start):
                try:
                    rows.append(one.decode(record))
                except UNREADABLE:
                    rows.append(GeometryRecord())
                    unreadable[place] = True
        _put_geometry(columns, slice(start, start + len(rows)), rows)
    return columns, unreadable


def _empty_geometry(count: int) -> Geometry:
    return Geometry(np.empty(count), np.empty((count, 4)), np.zeros(count, bool))


def _put_geometry(columns: Geometry, part: slice, rows: Sequence[GeometryRecord]) -> None:
    columns.areas[part] = [row.area for row in rows]
    columns.ignored[part] = [row.ignore in IGNORED for row in rows]
    numbers = chain.from_iterable(row.bbox or _NO_BOX for row in rows)
    columns.boxes[part] = np.fromiter(numbers, np.float64, 4 * len(rows)).reshape(-1, 4)


def span_of(data: Bytes, records: Sequence[msgspec.Raw]) -> tuple[int, int]:
    """First byte of the first record and the byte after the last."""
    return _place_of(data, records[0]), _place_of(data, records[-1]) + len(memoryview(records[-1]))


def _place_of(data: Bytes, record: msgspec.Raw) -> int:
    """Offset of a record's first byte."""
    first = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    place: int = np.frombuffer(record, np.uint8).__array_interface__["data"][0] - first
    return place


def places_of(data: Bytes, records: Sequence[msgspec.Raw]) -> tuple[IntArray, IntArray]:
    """First byte of each record of a list, and the byte after its last, [A] each.

    Args:
        data: The bytes that a parser found the records in.
        records: All elements of a JSON array of objects, in order.
    """
    if not records:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    lengths = np.fromiter((len(memoryview(record)) for record in records), np.int64, len(records))
    first = _place_of(data, records[0])
    gap = _place_of(data, records[1]) - first - int(lengths[0]) if len(records) > 1 else 0
    start = first + np.cumsum(lengths + gap) - (lengths + gap)
    content = np.frombuffer(data, np.uint8)
    # writers put the same bytes between all records; if the first ones' are found everywhere, every start is right
    if start[-1] + lengths[-1] <= len(content):
        between = np.stack([content[start[1:] - gap + i] for i in range(gap)] + [content[start[1:]]])
        if (between == between[:, :1]).all():
            return start, start + lengths
    start = np.array([_place_of(data, record) for record in records], np.int64)
    return start, start + lengths
