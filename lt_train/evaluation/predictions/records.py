"""Records of the COCO results format, decoded into columns without a dict for each.

A file is decoded in one typed pass. Where that fails, it is read again record by record, to say what is wrong with how
many: Python writes ``NaN`` into files, which is no JSON.

Shapes: D records that have all their fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypedDict

import msgspec
import numpy as np

from lt_data.annotations.lenient import segmentation_form
from lt_data.annotations.records import CHUNK, LARGEST_ID, UNREADABLE
from lt_data.arrays import FloatArray
from lt_data.errors import DataError
from lt_data.files.reading import map_file, why_no_json
from lt_data.masks.measure import is_no_mask
from lt_train.evaluation.predictions.columns import Detections, IouType, Problem, Results
from lt_train.evaluation.predictions.foreign import turned
from lt_train.evaluation.predictions.image_ids import match_numbers
from lt_train.evaluation.truth.columns import GroundTruth, plain_number

# ids are read as floats, which hold them exactly: writers that keep all numbers as floats write 42.0
_Id = Annotated[float, msgspec.Meta(multiple_of=1, ge=-LARGEST_ID, le=LARGEST_ID)]
_Box = tuple[float, float, float, float]
_LARGEST_SIDE: Final = 2**31 - 1
_Side = (
    Annotated[int, msgspec.Meta(ge=0, le=_LARGEST_SIDE)]
    | Annotated[float, msgspec.Meta(multiple_of=1, ge=0, le=_LARGEST_SIDE)]
)
_FIELDS: Final[Mapping[IouType, str]] = {"bbox": "bbox", "segm": "segmentation"}
_NEEDED: Final[Mapping[IouType, str]] = {
    "bbox": "bbox [x, y, width, height]",
    "segm": "segmentation (RLE or polygons)",
}

# what msgspec says of a number in quotes
_QUOTED_NUMBER: Final = re.compile(r"Expected `(float|int).*got `str`")


class Rle(TypedDict):
    """A run-length encoded mask; ``counts`` are text, or a list of numbers."""

    size: tuple[_Side, _Side]
    counts: Any


class _Record(msgspec.Struct, gc=False):
    image_id: _Id
    category_id: _Id
    score: float


class _BoxRecord(_Record, gc=False):
    bbox: _Box


class _MaskRecord(_Record, gc=False):
    segmentation: Rle


class _FullRecord(_Record, gc=False):
    bbox: _Box
    segmentation: Rle


class _AnyRecord(_Record, gc=False):
    bbox: _Box | None = None
    # some writers give every record the field, and an empty list where there is no mask
    segmentation: Rle | tuple[()] | None = None


class _LooseRecord(msgspec.Struct, gc=False):
    """As other programs write them: text for an image, polygons for a mask."""

    image_id: _Id | str
    category_id: _Id
    score: float


class _LooseBoxRecord(_LooseRecord, gc=False):
    bbox: _Box


class _LooseMaskRecord(_LooseRecord, gc=False):
    segmentation: Rle | list[list[float]]


class _LooseFullRecord(_LooseRecord, gc=False):
    bbox: _Box
    segmentation: Rle | list[list[float]]


class _LooseAnyRecord(_LooseRecord, gc=False):
    bbox: _Box | None = None
    segmentation: Rle | list[list[float]] | None = None


_LOOSE: Final[Mapping[type[Any], type[Any]]] = {
    _BoxRecord: _LooseBoxRecord,
    _MaskRecord: _LooseMaskRecord,
    _FullRecord: _LooseFullRecord,
    _AnyRecord: _LooseAnyRecord,
}


class Decoded(NamedTuple):
    """What was read: the whole records, number of all, those that are none, what the file holds, remarks and doubts."""

    columns: Detections
    total: int
    problems: list[Problem]
    iou_types: tuple[IouType, ...]
    notes: list[str]
    warnings: list[str]


def decode_results(
    predictions: Path | str | Results,
    iou_types: Sequence[IouType] | None,
    *,
    source: str,
    truth: GroundTruth | None = None,
) -> Decoded:
    """Reads COCO results.

    Args:
        predictions: A JSON file (may be ``.gz`` or ``.zip``), or its records.
        iou_types: What to read; what the first record has, if None.
        truth: The annotations that they belong to; without them image ids are numbers and masks run lengths.
        source: What to call them in messages.

    Raises:
        DataError: The file cannot be read, or is no list of records.
    """
    kind = _kind(iou_types)
    kinds = (kind,) if truth is None else (kind, _LOOSE[kind])
    if isinstance(predictions, str | Path):
        rows, faults, total = _from_file(Path(predictions), kinds, source)
    else:
        rows, faults, total = _from_records(predictions, kinds, source)
    mixed: list[Problem] = []
    notes: list[str] = []
    warnings: list[str] = []
    given = iou_types
    iou_types = _types_of(rows) if given is None else given
    rows, missing = _with_all(rows, iou_types, why=", which the first record has" if given is None else "")
    faults |= missing
    if given is None:
        mixed = _with_more(rows, iou_types, total, source)
    problems = [_no_records(faults, total, iou_types, source)] if faults else []
    if truth is not None and rows and (isinstance(rows[0], _LooseRecord) or truth.image_names is not None):
        masks = "segm" in iou_types
        rows, more, notes, warnings = turned(rows, truth, make=kind, masks=masks, source=source, total=total)
        problems += more
        columns = _columns(rows, iou_types)
    else:
        columns = _columns(rows, iou_types)
        if truth is not None:
            columns, notes, warnings = match_numbers(columns, truth, source)
    return Decoded(columns, total, problems + mixed, tuple(iou_types), notes, warnings)


def _kind(iou_types: Sequence[IouType] | None) -> type[Any]:
    if iou_types is None:
        return _AnyRecord
    if "segm" not in iou_types:
        return _BoxRecord
    return _FullRecord if "bbox" in iou_types else _MaskRecord


def _from_file(path: Path, kinds: Sequence[type[Any]], source: str) -> tuple[list[Any], dict[int, str], int]:
    """Records, what is wrong with the others by their number, and how many there are."""
    if path.is_file() and not path.stat().st_size:
        raise DataError(f"{source}: the file is empty; give a JSON list of COCO results")
    data = map_file(path)
    for kind in kinds:
        try:
            rows = msgspec.json.decode(data, type=list[kind])  # type: ignore[valid-type]
        except UNREADABLE:
            continue
        return rows, {}, len(rows)
    return _from_records(_lenient_json(bytes(data), source), kinds, source)


def _lenient_json(data: bytes, source: str) -> Any:
    """The content of a file with NaN and Infinity, which Python writes and JSON does not have."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        kind = why_no_json(data) or f"not JSON ({error}); give a JSON list of COCO results"
        raise DataError(f"{source}: {kind}") from None


def _from_records(content: Any, kinds: Sequence[type[Any]], source: str) -> tuple[list[Any], dict[int, str], int]:
    if not isinstance(content, Sequence) or isinstance(content, str | bytes):
        raise DataError(f"{source}: {_other_content(content)}; COCO results are a list of records")
    try:
        return msgspec.convert(content, list[kinds[0]]), {}, len(content)  # type: ignore[valid-type]
    except msgspec.ValidationError:
        return _one_by_one(content, kinds[-1])


def _one_by_one(content: Sequence[Any], kind: type[Any]) -> tuple[list[Any], dict[int, str], int]:
    rows: list[Any] = []
    faults: dict[int, str] = {}
    for number, record in enumerate(content):
        try:
            # numpy numbers and arrays among the values become plain ones
            plain = msgspec.to_builtins(record, enc_hook=plain_number, builtin_types=(bytes,))
            rows.append(msgspec.convert(plain, kind))
        except msgspec.ValidationError as error:
            faults[number] = _fault(record, str(error))
    return rows, faults, len(content)


def _fault(record: Any, error: str) -> str:
    given = record.get("segmentation") if isinstance(record, Mapping) else None
    if "$.segmentation" not in error:
        return error
    if isinstance(given, list | tuple) and not given:
        return "Object missing required field `segmentation`"
    other = "polygons that are no list of lists of numbers" if isinstance(given, list | tuple) else error
    return segmentation_form(given) or other


def _other_content(content: Any) -> str:
    if isinstance(content, Mapping):
        if "images" in content and "annotations" in content:
            return "an annotation file, not predictions"
        return f"a JSON object with {', '.join(map(repr, list(content)[:3])) or 'nothing in it'}"
    return f"a JSON value of type {type(content).__name__}"


def _types_of(rows: Sequence[_AnyRecord]) -> tuple[IouType, ...]:
    """What the first record has; boxes if there is no record."""
    if not rows:
        return ("bbox",)
    given: list[tuple[IouType, object]] = [("bbox", rows[0].bbox), ("segm", rows[0].segmentation)]
    return tuple(name for name, value in given if _is_there(value)) or ("bbox",)


def _is_there(value: object) -> bool:
    """Whether a record has a box or a mask; an empty list is none, nor is one without a polygon."""
    return bool(value) and not (type(value) is list and is_no_mask(value))


def _with_all(rows: list[Any], iou_types: Sequence[IouType], *, why: str) -> tuple[list[Any], dict[int, str]]:
    names = [_FIELDS[name] for name in iou_types]
    # where the first record has neither, boxes are looked for
    has_any = bool(rows) and any(_is_there(getattr(rows[0], name)) for name in names)
    text = f"missing `{{}}`{why}" if has_any else "neither `bbox` nor `segmentation`"
    missing = {
        number: text.format(name)
        for number, row in enumerate(rows)
        for name in names
        if not _is_there(getattr(row, name))
    }
    return [row for number, row in enumerate(rows) if number not in missing] if missing else rows, missing


def _with_more(rows: Sequence[_AnyRecord], iou_types: Sequence[IouType], total: int, source: str) -> list[Problem]:
    """Boxes or masks that would go unmeasured without a word, because the first record has none."""
    problems = []
    for kind, name in _FIELDS.items():
        count = 0 if kind in iou_types else sum(_is_there(getattr(row, name)) for row in rows)
        if count:
            line = f"{source}: {count:,} of {total:,} predictions have a {name}, which the first has not, so that it is"
            fix = f"give all of them a {name}, or none"
            problems.append(Problem("mixed", count, f"{line} not measured; {fix}"))
    return problems


def _no_records(faults: Mapping[int, str], total: int, iou_types: Iterable[IouType], source: str) -> Problem:
    needed = " and ".join(_NEEDED[name] for name in iou_types)
    line = f"{source}: {len(faults):,} of {total:,} predictions are no COCO results ({_first_of(faults)}); "
    if any(_QUOTED_NUMBER.match(fault) for fault in faults.values()):
        needed += ", numbers without quotes"
    if all("neither" in fault for fault in faults.values()):
        needed = " or ".join(_NEEDED.values()) + "; keypoints alone are not measured"
    return Problem("record", len(faults), f"{line}each needs image_id, category_id, score and {needed}")


def _first_of(faults: Mapping[int, str]) -> str:
    """The first three; one that they share is told once."""
    numbers = sorted(faults)[:3]
    texts = [faults[number] for number in numbers]
    if len(set(texts)) == 1:
        return f"{', '.join(f'[{number}]' for number in numbers)}: {texts[0]}"
    return ", ".join(f"[{number}]: {text}" for number, text in zip(numbers, texts, strict=True))


def _columns(rows: Sequence[Any], iou_types: Sequence[IouType]) -> Detections:
    """The records as columns; boxes are NaN and masks None if they were not asked for."""
    boxes, masks = "bbox" in iou_types, None
    if rows and hasattr(rows[0], "segmentation"):
        masks = [row.segmentation for row in rows]
        for row in rows:
            row.segmentation = None
            if not boxes and isinstance(row, _AnyRecord):
                row.bbox = None
    table = _table(rows, boxes=boxes)
    return Detections(
        images=table[:, 0].astype(np.int64),
        categories=table[:, 1].astype(np.int64),
        boxes=np.ascontiguousarray(table[:, 3:]),
        scores=np.ascontiguousarray(table[:, 2]),
        segmentations=_whole_sizes(masks or []) if "segm" in iou_types else None,
    )


def _whole_sizes(masks: list[Any]) -> list[Any]:
    """The same with sizes as whole numbers, which the engines want, where a writer kept all numbers as floats."""
    if float not in set(map(type, chain.from_iterable(map(itemgetter("size"), masks)))):
        return masks
    return [{"size": (int(mask["size"][0]), int(mask["size"][1])), "counts": mask["counts"]} for mask in masks]


def _table(rows: Sequence[Any], *, boxes: bool) -> FloatArray:
    """Image, category, score and box (NaN if not read) of D records, [D, 7].

    The records are written as MessagePack, where records of the same numbers have the same length: their numbers stand
    at the same places, and no Python object is touched. That takes a fifth of the time of one loop for each column.
    """
    table = np.full((len(rows), 7), np.nan)
    if not len(rows):
        return table
    layout = _layout(type(rows[0]), boxes=boxes)
    encoder = msgspec.msgpack.Encoder()
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        data = encoder.encode(part)
        # in front stands the number of records
        records = np.frombuffer(data, layout, offset=len(data) - len(part) * layout.itemsize)
        for column, name in enumerate(layout.names or ()):
            table[start : start + len(part), column] = records[name]
    return table


def _layout(kind: type[Any], *, boxes: bool) -> np.dtype[Any]:
    """Where MessagePack puts the numbers of a record: each is one byte and a big-endian float; text has its length."""
    names, offsets, place = [], [], 1
    for field in kind.__struct_fields__:
        place += 1 + len(field)
        if field == "segmentation" or (field == "bbox" and not boxes):
            place += 1
            continue
        numbers = 4 if field == "bbox" else 1
        place += numbers == 4
        for number in range(numbers):
            names.append(f"{field}{number}")
            offsets.append(place + 1 + 9 * number)
        place += 9 * numbers
    return np.dtype({"names": names, "formats": [">f8"] * len(names), "offsets": offsets, "itemsize": place})
