"""What one kind of mend is going to change in a document, and the list of these changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from lt_data.annotations.subset import Edit
from lt_data.arrays import BoolArray
from lt_data.checks.image_lists import NEGATIVE, NOT_EXHAUSTIVE
from lt_data.mending.document import Document, fields_of, set_field

# records that are tried at a time for having the right types: a chunk of sound ones costs one call
_CHUNK: Final = 512


class Change(NamedTuple):
    """One value that was written anew, or one record that was dropped.

    Attributes:
        kind: The kind of mend.
        list: ``images``, ``annotations`` or ``categories``.
        record: The record's place in that list of the input, from 0.
        id: Its id as the input has it.
        field: The field; empty where the whole record was dropped.
        before: What stood there, as JSON; nothing if the field was not there.
        after: What stands there, as JSON; for a dropped record why it was.
    """

    kind: str
    list: str
    record: int
    id: str
    field: str
    before: str
    after: str


class Draft:
    """Edits of a document and records to remove from it.

    Args:
        document: What is going to be changed.
        kind: The kind of mend.
    """

    def __init__(self, document: Document, kind: str) -> None:
        self.document, self.kind = document, kind
        self.changes: list[Change] = []
        self._edits: list[Edit] = []
        self._removed: dict[str, BoolArray] = {}

    def fields(self, key: str, row: int) -> dict[str, msgspec.Raw]:
        """The raw fields of a record."""
        return fields_of(self.document.records[key][row])

    def set(self, key: str, row: int, values: Mapping[str, bytes]) -> None:
        """Gives fields of a record new values, JSON each; those that have them already stay."""
        fields = self.fields(key, row)
        for name, text in values.items():
            if edits := set_field(self.document.data, fields, name, text):
                self._edits += edits
                self._tell(key, row, fields, name, text.decode())

    def drop(self, key: str, row: int, why: str) -> None:
        """Removes a record."""
        gone = self._removed.setdefault(key, np.zeros(len(self.document.records[key]), bool))
        if not gone[row]:
            gone[row] = True
            self._tell(key, row, self.fields(key, row), "", why)

    def _tell(self, key: str, row: int, fields: Mapping[str, msgspec.Raw], name: str, after: str) -> None:
        before = fields.get(name, b"") if name else self.document.records[key][row]
        number = _text(fields.get("id", b""))
        origin = int(self.document.origin[key][row])
        self.changes.append(Change(self.kind, key, origin, number, name, _text(before), after))

    def done(self) -> Document:
        """The document with all of it; the same one if there is nothing."""
        return self.document.edited(self._edits, self._removed) if self.changes else self.document

    def replace_categories(self, new: Mapping[int, int | None]) -> None:
        """Follows category ids that become other ones, in annotations and in the lists of LVIS images.

        Args:
            new: The id that takes the place of another; ``None`` takes it out of the lists of images.
        """
        used = self.document.columns.annotations.category_ids
        moved = [old for old, number in new.items() if number is not None]
        for row in np.flatnonzero(np.isin(used, moved)).tolist():
            self.set("annotations", row, {"category_id": str(new[int(used[row])]).encode()})
        images = self.document.columns.images
        for name, lists in ((NEGATIVE, images.negatives), (NOT_EXHAUSTIVE, images.not_exhaustive)):
            for row, ids in enumerate(lists):
                if isinstance(ids, list) and any(_is_key(i, new) for i in ids):
                    self.set("images", row, {name: _relisted(ids, new)})


def _is_key(value: object, new: Mapping[int, int | None]) -> bool:
    return type(value) in (int, float) and value in new


def _relisted(ids: Sequence[Any], new: Mapping[int, int | None]) -> bytes:
    """A list of an image with ids replaced, each once."""
    found = [new[i] if _is_key(i, new) else i for i in ids]
    kept = [i for place, i in enumerate(found) if i is not None and i not in found[:place]]
    return msgspec.json.encode(kept)


def _text(raw: msgspec.Raw | bytes) -> str:
    return bytes(raw).decode("utf-8", "replace")


def rows_unlike(records: Sequence[msgspec.Raw], *kinds: type) -> list[int]:
    """Rows of records that are not of all of these types.

    Args:
        records: Raw records.
        kinds: Structs of msgspec.
    """
    decoders: list[tuple[Any, Any]] = [
        (msgspec.json.Decoder(list[kind]), msgspec.json.Decoder(kind))  # type: ignore[valid-type]
        for kind in kinds
    ]
    found: set[int] = set()
    for start in range(0, len(records), _CHUNK):
        chunk = records[start : start + _CHUNK]
        for many, one in decoders:
            if not _fits(many, b"[" + b",".join(chunk) + b"]"):
                found.update(start + i for i, record in enumerate(chunk) if not _fits(one, record))
    return sorted(found)


def _fits(decoder: Any, data: bytes | msgspec.Raw) -> bool:
    try:
        decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
