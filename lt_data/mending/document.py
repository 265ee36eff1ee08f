"""The bytes of an annotation file, the records in them, and edits of single values.

Every mend is a list of edits of the bytes, so that what no edit names stays as it was, white space included.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from lt_data.annotations.findings import FindingList
from lt_data.annotations.lists import FileColumns
from lt_data.annotations.other_files import other_file
from lt_data.annotations.problems import LenientFile, read_leniently
from lt_data.annotations.records import UNREADABLE, span_of, split_records, without_cycle_collection
from lt_data.annotations.subset import Edit, removals, with_edits
from lt_data.arrays import BoolArray, IntArray
from lt_data.checks.boxes import BoxForm, box_form
from lt_data.checks.geometry import image_sizes
from lt_data.errors import DataError
from lt_data.files.reading import Bytes
from lt_data.progress import SILENT, Progress

# digits of a pixel that are written: what lies behind them is the computer's, not the annotator's
_DIGITS: Final = 4


@dataclass(frozen=True)
class Document:
    """An annotation file in memory.

    Attributes:
        path: What to call it.
        data: Its bytes: JSON with the three lists.
        origin: For each list, the row that each record had in the file that was read first.
        progress: Told of bytes while columns are read.
    """

    path: Path
    data: Bytes
    origin: Mapping[str, IntArray]
    progress: Progress = field(default=SILENT, compare=False)

    @classmethod
    def of(cls, path: Path, data: Bytes, progress: Progress = SILENT) -> Document:
        """A file as it was read.

        Raises:
            DataError: It is no JSON object with the three lists, or has a member twice.
        """
        first = cls(path, data, {}, progress)
        try:
            records = first.records
        except DataError:
            kind = other_file(data)
            if kind is None:
                raise
            raise DataError(f"{path}: {kind}") from None
        return cls(path, data, {key: np.arange(len(found)) for key, found in records.items()}, progress)

    @cached_property
    def records(self) -> dict[str, list[msgspec.Raw]]:
        """The raw records of the three lists."""
        with without_cycle_collection():
            return split_records(self.path, self.data)

    @property
    def columns(self) -> FileColumns:
        """What the lenient reader makes of them; a record each, in the same order."""
        return self.read.file

    @cached_property
    def read(self) -> LenientFile:
        """The columns, and what the lenient reader found in the records."""
        log = FindingList()
        return LenientFile(read_leniently(self.path, self.data, log, self.progress), log)

    @cached_property
    def sizes(self) -> IntArray:
        """Width and height of each annotation's image, 0 where not known, shape [A, 2]."""
        return image_sizes(self.columns)

    @property
    def masks_without_area(self) -> list[int]:
        """Rows of annotations whose segmentation is there and is no mask that could be measured."""
        masks = self.columns.annotations.masks
        rows: list[int] = np.flatnonzero(masks.given & np.isnan(masks.areas)).tolist()
        return rows

    @cached_property
    def form(self) -> BoxForm | None:
        """What nearly all boxes look like instead of x, y, width, height, if they do."""
        return box_form(self.columns.annotations.boxes, self.sizes)

    def edited(self, edits: Iterable[Edit], removed: Mapping[str, BoolArray] | None = None) -> Document:
        """The file with some values replaced and some records removed.

        Args:
            edits: Of values; those that lie in removed records are passed over.
            removed: For each list, which of its records go, [N], [A] or [C].
        """
        removed = removed or {}
        gone = [edit for key, rows in removed.items() for edit in removals(self.data, self.records[key], rows)]
        kept = _outside(sorted(set(edits)), gone)
        origin = {key: rows[~removed[key]] if key in removed else rows for key, rows in self.origin.items()}
        return Document(self.path, with_edits(self.data, [*kept, *gone]), origin, self.progress)


def _outside(edits: Sequence[Edit], gone: Sequence[Edit]) -> list[Edit]:
    """Edits that lie in none of the places that are removed."""
    if not gone:
        return list(edits)
    first, end = (np.array(places) for places in zip(*((e.first, e.end) for e in sorted(gone)), strict=True))
    place = np.searchsorted(first, [edit.first for edit in edits], "right") - 1
    return [edit for edit, i in zip(edits, place.tolist(), strict=True) if i < 0 or edit.first >= end[i]]


def fields_of(record: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The raw values of a record by name; none of what is no record."""
    try:
        return msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return {}


def value_of(raw: msgspec.Raw | bytes | None) -> Any:
    """A raw value as Python has it; ``None`` where there is none or it cannot be read."""
    try:
        return None if raw is None else msgspec.json.decode(raw)
    except UNREADABLE:
        return None


def set_field(data: Bytes, fields: Mapping[str, msgspec.Raw], name: str, text: bytes) -> list[Edit]:
    """The edit that gives a field of a record this value; none if it has it.

    Args:
        data: What the record lies in.
        fields: All its fields.
        name: Of the one to set; added as the last one if it is not there.
        text: JSON.
    """
    if name in fields:
        return [Edit(*span_of(data, [fields[name]]), text)] if bytes(fields[name]) != text else []
    end = max((span_of(data, [value])[1] for value in fields.values()), default=None)
    return [] if end is None else [Edit(end, end, b', "' + name.encode() + b'": ' + text)]


def number_text(value: float) -> bytes:
    """A number for the file: four decimals, a whole one without a point; what would round to nothing stays."""
    rounded = round(value, _DIGITS)
    if rounded == 0 and value != 0:
        rounded = value
    return repr(int(rounded) if rounded == int(rounded) else float(rounded)).encode()


def list_text(values: Iterable[float]) -> bytes:
    """A list of numbers for the file."""
    return b"[" + b", ".join(number_text(float(value)) for value in values) + b"]"
