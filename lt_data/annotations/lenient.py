"""Annotation files read without mercy for their records: what is wrong becomes a finding, the rest becomes columns.

Records are decoded by the hundred with the types of the strict reader. Only where that fails are they taken one at a
time and field by field, so a broken record costs time and a sound file does not.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from lt_data.annotations.findings import CODES, FindingList, shown
from lt_data.annotations.loose import (
    LooseAnnotation,
    LooseCategory,
    LooseImage,
    name_of,
    number_texts,
)
from lt_data.annotations.no_json import as_json, broken_texts, float_of, members_of, number_of
from lt_data.annotations.other_files import other_file
from lt_data.annotations.records import (
    IGNORED,
    LARGEST_ID,
    LISTS,
    AnnotationRecord,
    CategoryRecord,
    GeometryRecord,
    ImageRecord,
    places_of,
    repeated_members,
    span_of,
    split_records,
    whole,
)
from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_data.errors import DataError
from lt_data.files.reading import Bytes
from lt_data.masks.measure import MaskColumns, RunLengths, measure_masks
from lt_data.progress import Progress

# stands for an id that is missing or unusable; below every allowed one
NO_ID: Final = -(2**63)
# stands for a width or height of a wrong type, which has its own finding
NO_SIDE: Final = 1 - 2**63
# records decoded at a time: few enough that their polygons stay in the processor's cache
_CHUNK: Final = 512
_NO_BOX: Final = (float("nan"),) * 4


class _Image(ImageRecord, gc=False):
    # whatever they hold is looked at later
    neg_category_ids: Any = None
    not_exhaustive_category_ids: Any = None


class _TextImage(_Image, gc=False):
    id: str  # type: ignore[assignment]


class _Annotation(AnnotationRecord, gc=False):
    area: float | None = None
    bbox: tuple[float, float, float, float] | None = None
    ignore: Any = None
    segmentation: list[list[float]] | RunLengths | None = None


class _TextAnnotation(_Annotation, gc=False):
    image_id: str  # type: ignore[assignment]


class _TextId(msgspec.Struct):
    id: str


_Record = TypeVar("_Record", _Image, _Annotation, CategoryRecord)
# what readers decode of a record
_STRICT: Final[dict[type, tuple[type, ...]]] = {
    _Image: (LooseImage,),
    _TextImage: (LooseImage,),
    _Annotation: (LooseAnnotation, GeometryRecord),
    _TextAnnotation: (LooseAnnotation, GeometryRecord),
    CategoryRecord: (LooseCategory,),
}
_IDS: Final = ("id", "image_id", "category_id")
# every other field stands beside the ids, and stops only those who use it
_FIELD_CODES: Final = {
    "bbox": "LT302",
    "area": "LT302",
    "segmentation": "LT405",
    "iscrowd": "LT007",
    **dict.fromkeys(_IDS, "LT007"),
}
# stands in names for what is no text
UNREADABLE_NAME: Final = "\N{REPLACEMENT CHARACTER}"
# what a field of a wrong type becomes, so that it is not reported as missing too
_UNUSABLE: Final[dict[str, Any]] = {
    "bbox": (float("inf"),) * 4,
    "area": float("inf"),
    "segmentation": (),
    "width": NO_SIDE,
    "height": NO_SIDE,
}


@dataclass(frozen=True)
class ImageColumns:
    """Ids (:data:`NO_ID` where unusable) [N], width and height [N, 2], N file names, N URLs, N of each list of LVIS.

    The lists are whatever the file has there, ``None`` where it has nothing.
    """

    ids: IntArray
    sizes: IntArray
    names: list[str]
    urls: list[str]
    negatives: list[Any]
    not_exhaustive: list[Any]


@dataclass(frozen=True)
class AnnotationColumns:
    """Ids [A] each, crowd and ``ignore`` flags [A], area [A] and boxes x, y, width, height [A, 4], and the masks.

    Areas and boxes are NaN where missing and infinite where unusable.
    """

    ids: IntArray
    image_ids: IntArray
    category_ids: IntArray
    crowd: BoolArray
    ignored: BoolArray
    areas: FloatArray
    boxes: FloatArray
    masks: MaskColumns


@dataclass(frozen=True)
class CategoryColumns:
    """Ids [C], C names, supercategories and the header fields of LVIS; counts [C] are :data:`NO_ID` where missing."""

    ids: IntArray
    names: list[str]
    supercategories: list[object]
    frequencies: list[str | None]
    image_counts: IntArray
    instance_counts: IntArray


def split_leniently(
    path: Path, data: Bytes, log: FindingList, only: Sequence[str] = LISTS
) -> tuple[Bytes, dict[str, list[msgspec.Raw] | None]]:
    """The raw records of the three lists; ``None`` for a list that is missing or none.

    Args:
        path: What to call the file.
        data: Its bytes.
        log: Takes what is wrong.
        only: Lists that are looked for.

    Returns:
        The bytes that the records lie in (a changed copy where JSON does not allow what stood there), and the records.

    Raises:
        DataError: The file is not JSON, or no annotation file at all.
    """
    refused: DataError | None = None
    try:
        records: dict[str, list[msgspec.Raw] | None] = {**split_records(path, data)}
    except DataError as error:
        refused = error
    if kind := other_file(data):
        raise DataError(f"{path}: {kind}")
    if refused is None:
        return data, records
    members = members_of(data)
    if members is None:
        changed = as_json(data, log)
        if changed is None:
            raise refused
        data, original = changed
        members = members_of(data) or {}
        if data != original:
            _add_half_pairs(members, data, original, log)
    if not any(key in members for key in LISTS):
        raise refused
    spans = [span_of(data, [value]) for value in members.values()]
    log.add_many("LT009", repeated_members(data, spans), shown)
    return data, {key: _records(key, members, log) if key in only else None for key in LISTS}


def _records(key: str, members: Mapping[str, msgspec.Raw], log: FindingList) -> list[msgspec.Raw] | None:
    if key not in members:
        log.add("LT001", f"'{key}' (found: {', '.join(map(shown, members))})")
        return None
    if bytes(members[key]) == b"null":
        log.add("LT002", f"'{key}' is null")
        return None
    try:
        return msgspec.json.decode(members[key], type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        log.add("LT002", f"'{key}': {error}")
        return None


def _add_half_pairs(members: Mapping[str, msgspec.Raw], data: bytes, original: bytes, log: FindingList) -> None:
    """Where texts hold half of a surrogate pair, by record and field.

    Args:
        members: Of the bytes in which they are replaced.
        data: These bytes.
        original: What stood there, byte for byte.
        log: Takes what is found.
    """
    for name, member in members.items():
        try:
            values = msgspec.json.decode(member, type=list[msgspec.Raw]) if name in LISTS else [member]
        except msgspec.DecodeError:
            values = [member]
        first, _ = places_of(data, values)
        for i, (start, value) in enumerate(zip(first.tolist(), values, strict=True)):
            stood = original[start : start + len(memoryview(value))]
            where = f"{name}[{i}]" if name in LISTS else shown(name)
            if stood != bytes(value):
                log.add_many("LT003", broken_texts(stood), lambda text, where=where: f"{where}: {text}")


class RecordReader:
    """Turns the raw records of one list into rows, whatever they hold.

    Image ids that are text become the numbers 1..N.

    Args:
        data: The bytes that the records lie in.
        key: ``images``, ``annotations`` or ``categories``.
        records: The raw records.
        log: Takes what is wrong.
        progress: Called with the bytes done and the bytes in all.
        texts: The numbers of image ids that are text; texts that no image has get the next ones.
    """

    def __init__(
        self,
        data: Bytes,
        key: str,
        records: Sequence[msgspec.Raw],
        log: FindingList,
        progress: Progress | None = None,
        texts: dict[str, int] | None = None,
    ) -> None:
        self.data, self.key, self.records, self.log, self.progress = data, key, records, log, progress
        self.texts = texts or {}

    def images(self) -> ImageColumns:
        """All images."""
        rows = [row for _, chunk in self._chunks(_TextImage if self.texts else _Image) for row in chunk]
        self.log.add_many(
            "LT010", range(len(rows)) if self.texts else (), lambda i: f"images[{i}]: {shown(rows[i].id)}"
        )
        return ImageColumns(
            ids=self._numbers([row.id for row in rows]),
            sizes=np.array([(whole(r.width), whole(r.height)) for r in rows], np.int64).reshape(-1, 2),
            names=[row.name() for row in rows],
            urls=[row.coco_url or "" for row in rows],
            negatives=[row.neg_category_ids for row in rows],
            not_exhaustive=[row.not_exhaustive_category_ids for row in rows],
        )

    def categories(self) -> CategoryColumns:
        """All categories."""
        rows = [row for _, chunk in self._chunks(CategoryRecord) for row in chunk]
        images, instances = (
            np.array([NO_ID if n is None else whole(n) for n in counts], np.int64)
            for counts in ([row.image_count for row in rows], [row.instance_count for row in rows])
        )
        return CategoryColumns(
            ids=np.array([row.id for row in rows], np.int64),
            names=[row.name or "" for row in rows],
            supercategories=[row.supercategory for row in rows],
            frequencies=[row.frequency for row in rows],
            image_counts=images,
            instance_counts=instances,
        )

    def annotations(self) -> AnnotationColumns:
        """All annotations; their segmentations are measured by the chunk and let go."""
        count = len(self.records)
        ids, image_ids, category_ids = (np.empty(count, np.int64) for _ in range(3))
        crowd, ignored = np.empty(count, bool), np.empty(count, bool)
        areas, boxes = np.empty(count), np.empty((count, 4))
        masks = MaskColumns.empty(count)
        for part, rows in self._chunks(_TextAnnotation if self.texts else _Annotation):
            ids[part] = [row.id for row in rows]
            image_ids[part] = self._numbers([row.image_id for row in rows])
            category_ids[part] = [row.category_id for row in rows]
            crowd[part] = [bool(row.iscrowd) for row in rows]
            ignored[part] = [row.ignore in IGNORED for row in rows]
            areas[part] = [row.area for row in rows]
            numbers = chain.from_iterable([row.bbox or _NO_BOX for row in rows])
            boxes[part] = np.fromiter(numbers, np.float64, 4 * len(rows)).reshape(-1, 4)
            measure_masks([row.segmentation for row in rows], masks.part(part))
        return AnnotationColumns(ids, image_ids, category_ids, crowd, ignored, areas, boxes, masks)

    def _numbers(self, ids: Sequence[float | str]) -> IntArray:
        """Image ids as numbers; a text that no image has gets a number that no image has."""
        numbers = [self.texts.setdefault(i, len(self.texts) + 1) if isinstance(i, str) else int(i) for i in ids]
        return np.array(numbers, np.int64)

    def _chunks(self, kind: type[_Record]) -> Iterator[tuple[slice, list[_Record]]]:
        decoder = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
        for start in range(0, len(self.records), _CHUNK):
            records = self.records[start : start + _CHUNK]
            first, end = span_of(self.data, records)
            try:
                # the records of a chunk stand side by side in the file: one call decodes them all
                rows = decoder.decode(b"[" + self.data[first:end] + b"]")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                rows = [self._row(start + i, record, kind) for i, record in enumerate(records)]
            yield slice(start, start + len(records)), rows
            if self.progress is not None:
                self.progress(end, len(self.data))

    def _row(self, index: int, record: msgspec.Raw, kind: type[_Record]) -> _Record:
        try:
            return msgspec.json.decode(record, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            where = f"{self.key}[{index}]"
            content = _content(record)
            if not isinstance(content, dict):
                self.log.add("LT003", f"{where}: {error}")
                return _filled(kind, _of_no_record(kind, index))
            usable, problems = _usable_fields(content, kind)
            if not any(CODES[code].structural for code, _ in problems) and not _is_strictly_readable(record, kind):
                problems += [("LT003", text) for text in broken_texts(bytes(record)) or [str(error)]]
            for code, text in problems:
                self.log.add(code, f"{where}: {text}")
            return _filled(kind, usable)


def numbers_of_texts(images: Sequence[msgspec.Raw]) -> dict[str, int]:
    """The numbers 1, 2, ... of image ids that are text; nothing unless all are."""
    try:
        return number_texts(msgspec.json.decode(record, type=_TextId).id for record in images)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _content(record: msgspec.Raw) -> Any:
    """A record as Python values; ``None`` if it is nested too deeply."""
    try:
        return json.loads(bytes(record).decode("utf-8", "replace"), parse_int=number_of, parse_float=float_of)
    except (RecursionError, ValueError):
        return None


def _usable_fields(content: Mapping[str, Any], kind: type[_Record]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The fields that have the right type, and (code, text) of those that do not."""
    usable: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for field in msgspec.structs.fields(kind):
        if field.name not in content:
            if field.required:
                problems.append(("LT006", f"{field.name} is missing"))
            continue
        value = content[field.name]
        try:
            usable[field.name] = msgspec.convert(value, field.type)
            if field.name in ("bbox", "area") and value is not None and not np.isfinite(usable[field.name]).all():
                problems.append(("LT303", f"{field.name} is {json.dumps(value)}"))
                usable[field.name] = _UNUSABLE[field.name]
        except msgspec.ValidationError as error:
            reason = segmentation_form(value) if field.name == "segmentation" else None
            words = reason or _words(error)
            problems.append((_code_of(field.name, value), f"{field.name} is {shown(value)} ({words})"))
            if field.name in _UNUSABLE:
                usable[field.name] = _UNUSABLE[field.name]
            if field.name == "name":
                usable["name"] = name_of(value)
    return usable, problems


def _words(error: msgspec.ValidationError) -> str:
    """Whole floats pass for ids; whoever writes an id anew writes a whole number."""
    return str(error).replace("`int | float`", "`int`")


def segmentation_form(value: object) -> str | None:
    """What a segmentation that is none of COCO's looks like, and how it is written; ``None`` for other things."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, dict) and "counts" in first:
        return "run lengths are one {size, counts}, not a list of them"
    if isinstance(first, int | float):
        return "a polygon is a list within the list: [[x1, y1, x2, y2, ...]]"
    if isinstance(first, list) and first and isinstance(first[0], list | dict):
        return "points are not grouped: write [[x1, y1, x2, y2, ...]]"
    if isinstance(value, dict) and isinstance(value.get("counts"), list):
        texts = any(isinstance(run, str) for run in value["counts"])
        return "counts are whole numbers without quotes" if texts else None
    return None


def _code_of(name: str, value: object) -> str:
    if name in _IDS and isinstance(value, int | float) and value % 1 == 0 and abs(value) > LARGEST_ID:
        return "LT008"
    return _FIELD_CODES.get(name, "LT011")


def _is_strictly_readable(record: msgspec.Raw, kind: type[_Record]) -> bool:
    try:
        for strict in _STRICT[kind]:
            msgspec.json.decode(record, type=strict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _of_no_record(kind: type[_Record], index: int) -> dict[str, Any]:
    """Fields in the place of a value that is no record at all, so that none is reported as missing too."""
    name = f"{UNREADABLE_NAME}{index}"
    unusable = {**_UNUSABLE, "file_name": name, "name": name}
    return {field.name: unusable[field.name] for field in msgspec.structs.fields(kind) if field.name in unusable}


def _filled(kind: type[_Record], usable: Mapping[str, Any]) -> _Record:
    """A row of the usable fields; ids that are not among them become :data:`NO_ID`."""
    needed = {field.name: NO_ID for field in msgspec.structs.fields(kind) if field.required}
    return kind(**{**needed, **usable})
