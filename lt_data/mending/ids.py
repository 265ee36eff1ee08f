"""Ids that are no whole numbers, and annotations that share one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from lt_data.annotations.fresh_ids import fresh_ids
from lt_data.annotations.no_json import number_of
from lt_data.annotations.records import LARGEST_ID, LISTS
from lt_data.checks.image_lists import listed_ids
from lt_data.mending.document import value_of
from lt_data.mending.draft import Draft, rows_unlike

_WHOLE: Final = re.compile(r"-?(?:0|[1-9]\d*)")
_REFERENCES: Final = {"images": "image_id", "categories": "category_id"}
# what is an id at all, whether it can be used or not
_Key = int | float | str


class _Id(msgspec.Struct):
    id: int


class _References(_Id):
    image_id: int
    category_id: int


def ids(draft: Draft) -> None:
    """Gives every record a whole number for id, and has annotations refer to it.

    Whole numbers stay what they are, text of a number that is free becomes that number, and all else gets the next
    free numbers in the order of the file.
    """
    records = draft.document.records
    odd = {key: rows_unlike(records[key], _References if key == "annotations" else _Id) for key in LISTS}
    if not any(odd.values()) and not _any_beyond(draft):
        return
    for key in LISTS:
        known = _numbered(draft, key)
        if key in _REFERENCES:
            _refer(draft, _REFERENCES[key], known)


def _any_beyond(draft: Draft) -> bool:
    """Whether there are ids that are whole numbers and too large for JSON readers."""
    columns = draft.document.columns
    annotations = columns.annotations
    references = (annotations.image_ids, annotations.category_ids)
    every = (columns.images.ids, columns.categories.ids, annotations.ids, *references)
    return any((np.abs(ids) > LARGEST_ID).any() or (ids < -LARGEST_ID).any() for ids in every)


def _numbered(draft: Draft, key: str) -> dict[_Key, int]:
    """Writes the ids of a list as whole numbers, and says which number each became."""
    keys = [_key(draft.fields(key, row).get("id")) for row in range(len(draft.document.records[key]))]
    new: dict[_Key, int] = {i: i for i in keys if isinstance(i, int) and _is_usable(i)}
    taken = set(new.values())
    for text in dict.fromkeys(i for i in keys if isinstance(i, str) and _WHOLE.fullmatch(i) and len(i) < 20):
        if abs(int(text)) <= LARGEST_ID and int(text) not in taken:
            new[text] = int(text)
            taken.add(int(text))
    rest = list(dict.fromkeys(i for i in keys if i is not None and i not in new))
    nameless = [row for row, i in enumerate(keys) if i is None]
    # what refers to no record must not come to mean one
    references = _references(draft, _REFERENCES[key]) if key in _REFERENCES else []
    named = listed_ids(draft.document.columns) if key == "categories" else set()
    referred = {i for i in references if isinstance(i, int) and _is_usable(i)} | named
    free = fresh_ids(taken | referred, len(rest) + len(nameless))
    new.update(zip(rest, free, strict=False))
    for row, number in enumerate(keys):
        if number is not None:
            draft.set(key, row, {"id": str(new[number]).encode()})
    for row, number in zip(nameless, free[len(rest) :], strict=True):
        draft.set(key, row, {"id": str(number).encode()})
    return new


def _references(draft: Draft, field: str) -> list[_Key | None]:
    """What each annotation has in a field that refers to another list."""
    rows = range(len(draft.document.records["annotations"]))
    return [_key(draft.fields("annotations", row).get(field)) for row in rows]


def _refer(draft: Draft, field: str, known: dict[_Key, int]) -> None:
    """Writes references to a list as its new numbers; text that no record has becomes a number that none has."""
    keys = _references(draft, field)
    numbers = {i: _referred(i, known) for i in dict.fromkeys(keys) if i is not None}
    lost = [i for i, number in numbers.items() if number is None]
    used = {*known.values(), *(number for number in numbers.values() if number is not None)}
    numbers.update(zip(lost, fresh_ids(used, len(lost)), strict=True))
    for row, number in enumerate(keys):
        if number is not None:
            draft.set("annotations", row, {field: str(numbers[number]).encode()})


def _referred(i: _Key, known: dict[_Key, int]) -> int | None:
    """The number of a reference; text and numbers that say the same are one where nothing else is meant."""
    other: _Key = int(i) if isinstance(i, str) and _WHOLE.fullmatch(i) and len(i) < 20 else str(i)
    found = known.get(i, known.get(other))
    return i if found is None and isinstance(i, int) and _is_usable(i) else found


def _is_usable(i: int) -> bool:
    return abs(i) <= LARGEST_ID


def _key(raw: msgspec.Raw | None) -> _Key | None:
    """An id as a key: whole floats as whole numbers; ``None`` for what is none."""
    text = b"" if raw is None else bytes(raw)
    # numbers beyond 64 bits keep every digit
    value = json.loads(text, parse_int=number_of) if text[:1] in b"-0123456789" and text else value_of(raw)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def repeated_ids(draft: Draft) -> None:
    """Numbers annotations anew whose id an earlier one has, or whose id is 0; nothing refers to them."""
    found = draft.document.columns.annotations.ids
    _, first = np.unique(found, return_index=True)
    again = np.ones(len(found), bool)
    again[first] = False
    rows = _usable_rows(found, again | (found == 0))
    for row, number in zip(rows, fresh_ids(found.tolist(), len(rows)), strict=True):
        draft.set("annotations", row, {"id": str(number).encode()})


def _usable_rows(found: Sequence[int] | Any, chosen: Any) -> list[int]:
    rows: list[int] = np.flatnonzero(chosen & (np.abs(found) <= LARGEST_ID)).tolist()
    return rows
