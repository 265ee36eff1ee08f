"""Numbers that stand in quotes, names that do not, and what Python writes for numbers that JSON does not have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from lt_data.annotations.loose import name_of, replace_not_finite
from lt_data.annotations.records import LISTS, places_of, span_of
from lt_data.annotations.subset import Edit, with_edits
from lt_data.files.reading import Bytes
from lt_data.mending.document import Document, fields_of, set_field, value_of
from lt_data.mending.draft import Change, Draft, rows_unlike
from lt_data.progress import SILENT, Progress

_NUMBER: Final = rb"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?"
_QUOTED: Final = re.compile(rb'"\s*(' + _NUMBER + rb')\s*"')
_NULL: Final = b"null"


class _Image(msgspec.Struct, gc=False):
    width: float | None = None
    height: float | None = None
    file_name: str | None = None


class _Annotation(msgspec.Struct, gc=False):
    bbox: list[float] | None = None
    area: float | None = None
    iscrowd: float | bool | None = None


class _Category(msgspec.Struct, gc=False):
    name: str | None = None
    instance_count: float | None = None
    image_count: float | None = None


def is_quoted(raw: msgspec.Raw | None) -> bool:
    """Whether a value has numbers in quotes, which only want to be taken out of them."""
    return raw is not None and _bare(raw) != bytes(raw)


def _bare(raw: msgspec.Raw) -> bytes:
    """A number or a list of numbers without quotes; other values as they are."""
    text = bytes(raw)
    if text.startswith(b"["):
        return _QUOTED.sub(rb"\1", text)
    found = _QUOTED.fullmatch(text)
    return found[1] if found else text


def _bare_mask(raw: msgspec.Raw) -> bytes:
    """The same for polygons and run lengths; run lengths in a string are text."""
    if not bytes(raw).startswith(b"{"):
        return _bare(raw)
    lists = [part for name, part in fields_of(raw).items() if name in ("size", "counts") and bytes(part)[:1] == b"["]
    return with_edits(bytes(raw), [Edit(*span_of(raw, [part]), _bare(part)) for part in lists])


def _as_text(raw: msgspec.Raw) -> bytes:
    """A name; a number as its digits."""
    name = name_of(value_of(raw))
    return bytes(raw) if name is None else msgspec.json.encode(name)


_FIELDS: Final[dict[str, tuple[type, dict[str, Callable[[msgspec.Raw], bytes]]]]] = {
    "images": (_Image, {"width": _bare, "height": _bare, "file_name": _as_text}),
    "annotations": (_Annotation, {"bbox": _bare, "area": _bare, "iscrowd": _bare, "segmentation": _bare_mask}),
    "categories": (_Category, {"name": _as_text, "instance_count": _bare, "image_count": _bare}),
}


def numbers(draft: Draft) -> None:
    """Takes the quotes from numbers, and puts them around names that are numbers."""
    for key, (kind, texts) in _FIELDS.items():
        masks = draft.document.masks_without_area if key == "annotations" else []
        for row in sorted({*rows_unlike(draft.document.records[key], kind), *masks}):
            fields = draft.fields(key, row)
            draft.set(key, row, {name: text(fields[name]) for name, text in texts.items() if name in fields})


def without_not_finite(path: Path, data: Bytes, progress: Progress = SILENT) -> tuple[Document, list[Change]]:
    """A file with ``null`` for NaN and Infinity, and for a whole bbox that has one of them.

    Args:
        path: What to call it.
        data: Its bytes; what stands there is no JSON.
        progress: For the document, told of bytes.

    Returns:
        The file, the same bytes where there is nothing of the kind, and a change for each field.

    Raises:
        DataError: It is no annotation file for other reasons too.
    """
    tokens: list[tuple[int, str]] = []
    shift = 0

    def null_for(match: re.Match[bytes]) -> bytes:
        nonlocal shift
        tokens.append((match.start() + shift, match[0].decode()))
        shift += len(_NULL) - len(match[0])
        return _NULL

    document = Document.of(path, replace_not_finite(data, null_for), progress)
    if not tokens:
        return document, []
    edits: list[Edit] = []
    changes = []
    for (key, row, name), found in _by_field(document, tokens).items():
        fields = fields_of(document.records[key][row]) if key in LISTS else {}
        if name not in fields:
            changes += [Change("not-finite", key, row, "", name, token, "null") for _, token in found]
            continue
        start, end = span_of(document.data, [fields[name]])
        stood = with_edits(document.data[start:end], [Edit(p, p + 4, t.encode()) for p, t in found], start)
        after = _NULL if name == "bbox" else bytes(document.data[start:end])
        edits += set_field(document.data, fields, name, after)
        number = bytes(fields.get("id", b"")).decode("utf-8", "replace")
        changes.append(Change("not-finite", key, row, number, name, stood.decode("utf-8", "replace"), after.decode()))
    return document.edited(edits), changes


def _by_field(
    document: Document, tokens: list[tuple[int, str]]
) -> Mapping[tuple[str, int, str], list[tuple[int, str]]]:
    """Places by list, record and field; what lies outside of the lists has no name."""
    found: dict[tuple[str, int, str], list[tuple[int, str]]] = {}
    spans = {key: places_of(document.data, records) for key, records in document.records.items() if records}
    for place, token in tokens:
        found.setdefault(_field_at(document, spans, place), []).append((place, token))
    return found


def _field_at(document: Document, spans: Mapping[str, Any], place: int) -> tuple[str, int, str]:
    for key, (start, end) in spans.items():
        row = int(np.searchsorted(start, place, "right")) - 1
        if row >= 0 and place < end[row]:
            return key, row, next(_names_at(document, key, row, place), "")
    return "", 0, ""


def _names_at(document: Document, key: str, row: int, place: int) -> Iterator[str]:
    for name, raw in fields_of(document.records[key][row]).items():
        first, end = span_of(document.data, [raw])
        if first <= place < end:
            yield name
