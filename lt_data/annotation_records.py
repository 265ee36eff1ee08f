"""The raw records of an annotation file: where each begins and ends, and what a chunk of them decodes to.

A validating parser splits the lists into records; nothing here looks for brackets by itself, so nothing that a string
holds can mislead it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from lt_data.errors import DataError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Bytes = bytes | memoryview
# bytes done, bytes in all
Progress = Callable[[int, int], None]

LARGEST_ID = 2**53
LISTS = ("images", "annotations", "categories")
# records decoded at a time: few enough that their objects stay in the processor's cache
CHUNK = 4096
# records nested too deeply end in a RecursionError
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NO_BOX = (float("nan"),) * 4
# writers that keep all numbers as floats write 100.0
WholeFloat = Annotated[float, msgspec.Meta(multiple_of=1, ge=-LARGEST_ID, le=LARGEST_ID)]


class _File(msgspec.Struct):
    images: list[msgspec.Raw] | None = None
    annotations: list[msgspec.Raw] | None = None
    categories: list[msgspec.Raw] | None = None


class ImageRecord(msgspec.Struct, gc=False):
    """What is read of an image; ``null`` means as much as a field that is not there."""

    id: int
    width: int | WholeFloat | None = 0
    height: int | WholeFloat | None = 0
    file_name: str | None = ""
    coco_url: str | None = ""


class AnnotationRecord(msgspec.Struct, gc=False):
    """What counting and choosing need of an annotation."""

    id: int
    image_id: int
    category_id: int
    iscrowd: int | bool | WholeFloat | None = 0


class GeometryRecord(msgspec.Struct, gc=False):
    """Where an annotation is."""

    area: float | None = None
    bbox: tuple[float, float, float, float] | None = None


class CategoryRecord(msgspec.Struct):
    """What is read of a category; LVIS has the last three."""

    id: int
    name: str | None = ""
    frequency: str | None = None
    image_count: int | None = None
    instance_count: int | None = None


class SegmentationRecord(msgspec.Struct):
    """The segmentation of an annotation alone."""

    segmentation: Any = None


class _TypedFile(msgspec.Struct):
    images: list[ImageRecord] | None = None
    annotations: list[AnnotationRecord] | None = None
    categories: list[CategoryRecord] | None = None


Record = TypeVar("Record", ImageRecord, AnnotationRecord, GeometryRecord, CategoryRecord)


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


def split_records(path: Path, data: Bytes) -> dict[str, list[msgspec.Raw]]:
    """The raw records of the three lists, after one validating pass over the file."""
    try:
        file = msgspec.json.decode(data, type=_File)
    except msgspec.ValidationError as error:
        raise DataError(f"{path}: not an annotation file ({error}); give a COCO or LVIS annotation file") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON object ({error}); give a COCO or LVIS annotation file") from None
    records: dict[str, list[msgspec.Raw]] = {}
    for key in LISTS:
        found: list[msgspec.Raw] | None = getattr(file, key)
        if found is None:
            raise DataError(f"{path}: member '{key}' is missing; a COCO or LVIS file has it")
        records[key] = found
    return records


def decode_typed(data: Bytes) -> dict[str, list[Any]] | None:
    """The decoded records of the three lists in one pass, about half the work of splitting and then decoding.

    Returns:
        ``None`` if anything is wrong: :func:`split_records` and :class:`Columns` then find out where.
    """
    try:
        file = msgspec.json.decode(data, type=_TypedFile)
    except UNREADABLE:
        return None
    if file.images is None or file.annotations is None or file.categories is None:
        return None
    return {"images": file.images, "annotations": file.annotations, "categories": file.categories}


def place_of(data: Bytes, record: msgspec.Raw) -> int:
    """Offset of a record's first byte."""
    first = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    place: int = np.frombuffer(record, np.uint8).__array_interface__["data"][0] - first
    return place


class Columns:
    """Columns of one list, a chunk at a time; its records may be decoded or raw."""

    def __init__(
        self,
        path: Path,
        data: Bytes,
        key: str,
        records: Sequence[Any],
        progress: Progress | None = None,
    ) -> None:
        self.path, self.data, self.key, self.records = path, data, key, records
        self.progress = progress

    def images(self) -> dict[str, Any]:
        """Ids, sizes and file names."""
        ids = np.empty(len(self.records), np.int64)
        sizes = np.empty((len(self.records), 2), np.int64)
        names: list[str] = []
        for part, rows in self.chunks(ImageRecord):
            ids[part] = self.ids_of(rows)
            sizes[part, 0] = _integers([int(row.width or 0) for row in rows])
            sizes[part, 1] = _integers([int(row.height or 0) for row in rows])
            names += [_file_name(row) for row in rows]
        check_unique(self.path, self.key, ids)
        return {"image_ids": ids, "image_sizes": sizes, "file_names": names}

    def annotations(self) -> dict[str, Any]:
        """Ids and crowd flags."""
        count = len(self.records)
        ids, image_ids, category_ids = (np.empty(count, np.int64) for _ in range(3))
        crowd = np.empty(count, bool)
        for part, rows in self.chunks(AnnotationRecord):
            ids[part] = self.ids_of(rows)
            image_ids[part] = _integers([row.image_id for row in rows])
            category_ids[part] = _integers([row.category_id for row in rows])
            crowd[part] = [bool(row.iscrowd) for row in rows]
        check_unique(self.path, self.key, ids)
        return {
            "annotation_ids": ids,
            "annotation_image_ids": image_ids,
            "annotation_category_ids": category_ids,
            "crowd": crowd,
        }

    def geometry(self) -> tuple[FloatArray, FloatArray]:
        """Areas [A] and boxes [A, 4], NaN where missing."""
        areas, boxes = np.empty(len(self.records)), np.empty((len(self.records), 4))
        for part, rows in self.chunks(GeometryRecord):
            areas[part] = [row.area for row in rows]
            numbers = chain.from_iterable(row.bbox or _NO_BOX for row in rows)
            boxes[part] = np.fromiter(numbers, np.float64, 4 * len(rows)).reshape(-1, 4)
        return areas, boxes

    def chunks(self, kind: type[Record]) -> Iterator[tuple[slice, list[Record]]]:
        """Slices of the list with their decoded records.

        Raises:
            DataError: A record has a wrong field; it is named by its place in the list.
        """
        decoder = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
        for start in range(0, len(self.records), CHUNK):
            part = slice(start, min(start + CHUNK, len(self.records)))
            if isinstance(self.records[start], kind):
                yield part, list(self.records[part])
                continue
            end = place_of(self.data, self.records[part.stop - 1]) + len(memoryview(self.records[part.stop - 1]))
            # the records of a chunk stand side by side in the file: one call decodes them all
            text = bytes(self.data[place_of(self.data, self.records[start]) : end])
            try:
                yield part, decoder.decode(b"[" + text + b"]")
            except UNREADABLE:
                self._raise_first(kind, start)
            if self.progress is not None:
                self.progress(end, len(self.data))

    def _raise_first(self, kind: type[Record], start: int) -> NoReturn:
        """Names the first record of a chunk that cannot be decoded."""
        for index in range(start, len(self.records)):
            try:
                msgspec.json.decode(self.records[index], type=kind)
            except UNREADABLE as error:
                raise DataError(f"{self.path}: {self.key}[{index}]: {error}; mend this record") from None
        raise DataError(f"{self.path}: {self.key}: the records cannot be read together; check the list's separators")

    def ids_of(self, rows: Sequence[Any]) -> IntArray:
        """The ids of a chunk.

        Raises:
            DataError: One is beyond what JSON readers keep exactly.
        """
        try:
            ids = np.array([row.id for row in rows], np.int64)
        except OverflowError:
            ids = np.array([LARGEST_ID + 1])
        if len(ids) and (ids.max() > LARGEST_ID or ids.min() < -LARGEST_ID):
            large = next(row.id for row in rows if abs(row.id) > LARGEST_ID)
            raise DataError(
                f"{self.path}: {self.key}: id {large} is beyond 2^53, which JSON readers do not keep exactly"
            )
        return ids


def _integers(values: list[int]) -> IntArray:
    """References; one that does not fit becomes one that no list has."""
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array([v if abs(v) <= LARGEST_ID else LARGEST_ID + 1 for v in values], np.int64)


def sorted_unique(values: IntArray) -> IntArray:
    """The distinct values, ascending; sorting integers is several times faster than ``np.unique`` on them."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def check_unique(path: Path, key: str, ids: IntArray) -> None:
    """Refuses a list in which an id occurs twice.

    Raises:
        DataError: How many do, and which.
    """
    values, counts = np.unique(ids, return_counts=True)
    twice = values[counts > 1]
    if len(twice):
        raise DataError(f"{path}: {key}: {len(twice)} ids occur more than once ({examples(twice)}); ids must be unique")


def _file_name(image: ImageRecord) -> str:
    """LVIS v1 names its images only by ``coco_url``: the file is what stands behind the last slash of its path."""
    if image.file_name or not image.coco_url:
        return image.file_name or ""
    place = image.coco_url.partition("://")[2] or image.coco_url
    return place.partition("?")[0].partition("#")[0].partition("/")[2].rpartition("/")[2]


def examples(values: IntArray, most: int = 3) -> str:
    """The first few values as text."""
    shown = ", ".join(str(v) for v in values[:most].tolist())
    return shown + (", ..." if len(values) > most else "")


def span_of(data: Bytes, records: Sequence[msgspec.Raw]) -> tuple[int, int]:
    """First byte of the first record and the byte behind the last."""
    return place_of(data, records[0]), place_of(data, records[-1]) + len(memoryview(records[-1]))
