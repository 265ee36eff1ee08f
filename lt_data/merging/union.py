"""One list of categories, licenses or ids out of those of several files.

The first file keeps its ids; of the others, what has a name or content of an earlier file becomes that, and ids that
are taken become the next free ones.

Shapes: N records of a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from lt_data.annotations.fresh_ids import fresh_ids
from lt_data.annotations.records import LARGEST_ID, UNREADABLE
from lt_data.annotations.subset import with_values
from lt_data.arrays import IntArray
from lt_data.build.lvis_fields import FIELDS

# what a category says of the file that it stands in
_OF_THE_FILE: Final = ("id", *FIELDS)


class Ids:
    """Ids of one list of all files, each used once.

    Args:
        of_files: The ids of each file, [N] each: what gets a new one gets none of these.
    """

    def __init__(self, of_files: Iterable[IntArray]) -> None:
        self._all: set[int] = set()
        for ids in of_files:
            self._all.update(ids.tolist())
        self._used: set[int] = set()
        self._last = max(self._all, default=0)

    def take(self, ids: IntArray) -> IntArray:
        """The ids of a file as they are in the result, [N].

        Args:
            ids: As they are in the file, distinct, [N].
        """
        new = ids.copy()
        taken = np.array([i in self._used for i in ids.tolist()], bool)
        new[taken] = self._fresh(int(taken.sum()))
        self._used.update(new.tolist())
        return new

    def _fresh(self, number: int) -> list[int]:
        """The next ids that nobody has: there may be thousands of files, so it is counted on."""
        first, self._last = max(self._last, 0) + 1, max(self._last, 0) + number
        if self._last <= LARGEST_ID:
            return list(range(first, first + number))
        found = fresh_ids(self._all, number)
        self._all.update(found)
        return found


class Categories:
    """The categories of all files, one for each name.

    Args:
        of_files: The ids of each file, see :class:`Ids`.
    """

    def __init__(self, of_files: Iterable[IntArray]) -> None:
        self._ids = Ids(of_files)
        self._by_name: dict[str, tuple[int, str]] = {}
        self.records: list[bytes] = []
        # names of categories whose records say more than one thing
        self.differing: list[str] = []

    def take(self, names: Sequence[str], ids: IntArray, records: Sequence[msgspec.Raw]) -> dict[int, int]:
        """The id of each category of a file in the result.

        Args:
            names: Of the categories, distinct.
            ids: Their ids, [C].
            records: Their records.
        """
        rows = [row for row, name in enumerate(names) if name not in self._by_name]
        new = self._ids.take(ids[rows])
        for row, number in zip(rows, new.tolist(), strict=True):
            self._by_name[names[row]] = number, _content(records[row], _OF_THE_FILE)
            self.records.append(with_values(records[row], {"id": number}))
        for row in set(range(len(names))) - set(rows):
            if self._by_name[names[row]][1] != _content(records[row], _OF_THE_FILE):
                self.differing.append(names[row])
        return {number: self._by_name[name][0] for number, name in zip(ids.tolist(), names, strict=True)}


class Licenses:
    """The licenses of all files, one for each content.

    Args:
        of_files: The raw list of each file; what is none is left alone.
    """

    def __init__(self, of_files: Iterable[msgspec.Raw | None]) -> None:
        listed = [np.array(list(_license_ids(raw)), np.int64) for raw in of_files]
        self._ids = Ids(listed)
        # whether there is any license that an image may name
        self.any = any(len(ids) for ids in listed)
        self._by_content: dict[str, int] = {}
        self.records: list[bytes] = []

    def take(self, raw: msgspec.Raw | None) -> dict[int, int]:
        """The id of each license of a file in the result."""
        known: dict[int, int] = {}
        for number, record in _license_ids(raw).items():
            content = _content(record, ("id",))
            if content not in self._by_content:
                new = int(self._ids.take(np.array([number], np.int64))[0])
                self._by_content[content] = new
                self.records.append(with_values(record, {"id": new}))
            known[number] = self._by_content[content]
        return known


def _license_ids(raw: msgspec.Raw | None) -> dict[int, msgspec.Raw]:
    """The records of a list of licenses by id; those without one are left out."""
    try:
        records = [] if raw is None else msgspec.json.decode(raw, type=list[msgspec.Raw])
        found = [(msgspec.json.decode(record), record) for record in records]
    except UNREADABLE:
        return {}
    return {each["id"]: record for each, record in found if isinstance(each, dict) and type(each.get("id")) is int}


def _content(record: msgspec.Raw, without: Sequence[str]) -> str:
    """What a record says beside these fields, whatever their order."""
    return json.dumps({k: v for k, v in msgspec.json.decode(record).items() if k not in without}, sort_keys=True)
