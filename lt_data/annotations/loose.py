"""Annotation files that keep their ids or side fields in another way than most, read all the same.

The fast reader takes whole numbers for ids and the right type for every field it decodes. What it refuses is decoded
here once more: image ids that are text, and fields beside the ids that nobody may have asked for. A side field that
cannot be used counts as missing; ``lt-data check`` names it.

Shapes: N images, A annotations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from lt_data.annotations.records import (
    UNREADABLE,
    AnnotationRecord,
    CategoryRecord,
    Id,
    ImageRecord,
    Records,
    WholeFloat,
)
from lt_data.errors import DataError
from lt_data.files.reading import Bytes, contains

# strings are matched first, so that a NaN within one is left alone
_STRING_OR_NOT_FINITE: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?Infinity|NaN', re.DOTALL)
_NOT_FINITE: Final = (b"Infinity", b"NaN")
# what an unknown text becomes: no image has it
UNKNOWN_IMAGE: Final = 0


class LooseImage(msgspec.Struct, gc=False):
    """An image of which only the id must be usable."""

    id: Id | str
    width: Any = 0
    height: Any = 0
    file_name: Any = ""
    coco_url: Any = ""


class LooseAnnotation(msgspec.Struct, gc=False):
    """What counting needs of an annotation; crowds are not counted, so ``iscrowd`` is no side field."""

    id: Id
    image_id: Id | str
    category_id: Id
    iscrowd: int | bool | WholeFloat | None = 0


class LooseCategory(msgspec.Struct):
    """A category of which only the id must be usable."""

    id: Id
    name: Any = ""
    frequency: Any = None
    image_count: Any = None
    instance_count: Any = None
    supercategory: Any = None


class _LooseRecords(msgspec.Struct):
    images: list[LooseImage]
    annotations: list[LooseAnnotation]
    categories: list[LooseCategory]


class LooseFile(NamedTuple):
    """The records in the types of the fast reader, and the N image ids as written where they are text."""

    records: Records
    image_names: tuple[str, ...] | None


def replace_not_finite(data: Bytes, text_for: Callable[[re.Match[bytes]], bytes]) -> Bytes:
    """JSON in which other text stands for each NaN and Infinity outside of strings; the same bytes without any.

    Args:
        data: What Python's ``json`` writes, which no other reader of JSON takes.
        text_for: The text that takes the place of a match.
    """
    # a plain search is many times faster than a pattern, and most files have neither word
    if not any(contains(data, word) for word in _NOT_FINITE):
        return data
    replaced = False

    def replace(match: re.Match[bytes]) -> bytes:
        nonlocal replaced
        if match[0].startswith(b'"'):
            return match[0]
        replaced = True
        return text_for(match)

    text = _STRING_OR_NOT_FINITE.sub(replace, data)
    return text if replaced else data


def without_not_finite(data: Bytes) -> Bytes:
    """The same with an empty list, which no field takes, for each NaN and Infinity.

    A side field then counts as missing; an id or ``iscrowd`` of this kind stays unusable.
    """
    return replace_not_finite(data, lambda _: b"[]")


def decode_loosely(path: Path, data: Bytes) -> LooseFile:
    """The records of the three lists, where the fast reader refuses them.

    Raises:
        DataError: An id cannot be used, or image ids are of both kinds; ``lt_data.annotations.problems`` says which.
    """
    try:
        loose = msgspec.json.decode(data, type=_LooseRecords)
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read ({error}); give a COCO or LVIS annotation file") from None
    names = _image_names(loose.images)
    # text and numbers are never the same id, as in Python
    if len({isinstance(i, str) for i in _image_ids(loose)}) > 1:
        raise DataError(f"{path}: some image ids are text, some are numbers; write all in one way")
    numbers = number_texts(names or ())
    records = Records(
        images=[_image(row, numbers) for row in loose.images],
        annotations=[_annotation(row, numbers) for row in loose.annotations],
        categories=[_category(row) for row in loose.categories],
    )
    return LooseFile(records, names)


def _image_ids(loose: _LooseRecords) -> Iterable[float | str]:
    yield from (row.id for row in loose.images)
    yield from (row.image_id for row in loose.annotations)


def _image_names(images: Sequence[LooseImage]) -> tuple[str, ...] | None:
    names = tuple(row.id for row in images if isinstance(row.id, str))
    return names or None


def number_texts(texts: Iterable[str]) -> dict[str, int]:
    """The numbers 1, 2, ... of distinct texts, in the order of their first use."""
    return {text: number for number, text in enumerate(dict.fromkeys(texts), start=1)}


def _number(value: float | str, numbers: dict[str, int]) -> int:
    return numbers.get(value, UNKNOWN_IMAGE) if isinstance(value, str) else int(value)


def _image(row: LooseImage, numbers: dict[str, int]) -> ImageRecord:
    return ImageRecord(
        id=_number(row.id, numbers),
        width=_usable(row.width, int | WholeFloat),
        height=_usable(row.height, int | WholeFloat),
        file_name=_usable(row.file_name, str),
        coco_url=_usable(row.coco_url, str),
    )


def _annotation(row: LooseAnnotation, numbers: dict[str, int]) -> AnnotationRecord:
    return AnnotationRecord(
        id=row.id,
        image_id=_number(row.image_id, numbers),
        category_id=row.category_id,
        iscrowd=row.iscrowd,
    )


def _category(row: LooseCategory) -> CategoryRecord:
    return CategoryRecord(
        id=row.id,
        name=name_of(row.name),
        # what is there, but cannot be used, is no frequency and no count
        frequency=_usable(row.frequency, str, ""),
        image_count=_usable(row.image_count, int | WholeFloat, -1),
        instance_count=_usable(row.instance_count, int | WholeFloat, -1),
        supercategory=row.supercategory,
    )


def name_of(value: object) -> str | None:
    """A category's name; digits that were written as a number are one too."""
    if type(value) in (int, float):
        return str(value)
    return value if isinstance(value, str) else None


def _usable(value: object, kind: Any, otherwise: Any = None) -> Any:
    """The value if it is of this kind; ``None``, as of a field that is not there, stays."""
    try:
        return msgspec.convert(value, kind | None)
    except msgspec.ValidationError:
        return otherwise
