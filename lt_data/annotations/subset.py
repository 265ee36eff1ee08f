"""Writing some of the records of an annotation file as another, every byte of a kept record as it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.records import CHUNK, places_of, span_of
from lt_data.arrays import BoolArray
from lt_data.files.reading import Bytes


class Edit(NamedTuple):
    """Bytes ``first`` to ``end`` (not included) of a file, and what stands there instead."""

    first: int
    end: int
    text: bytes


def with_edits(data: Bytes, edits: Iterable[Edit], offset: int = 0) -> bytes:
    """A part of a file's bytes that begins at ``offset``, edited; no two edits may overlap."""
    view, done = memoryview(data), 0
    parts: list[bytes | memoryview] = []
    for edit in sorted(edits):
        parts += [view[done : edit.first - offset], edit.text]
        done = edit.end - offset
    return b"".join([*parts, view[done:]])


def removals(data: Bytes, records: Sequence[msgspec.Raw], removed: BoolArray) -> list[Edit]:
    """Edits that take records out of their list, each with one comma; the others keep what is between them.

    Args:
        data: What the records lie in.
        records: All of a list, R of them.
        removed: Which go, [R].
    """
    if not removed.any():
        return []
    start, end = places_of(data, records)
    kept = np.flatnonzero(~removed)
    if not len(kept):
        return [Edit(int(start[0]), int(end[-1]), b"")]
    edits = [Edit(int(start[0]), int(start[kept[0]]), b"")] if kept[0] else []
    rows = np.flatnonzero(removed & (np.arange(len(removed)) > kept[0]))
    return edits + [Edit(int(end[row - 1]), int(end[row]), b"") for row in rows]


def with_values(record: msgspec.Raw, values: Mapping[str, Any]) -> bytes:
    """A record with other values for fields that it has; every other byte stays."""
    fields = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    edits = [
        Edit(*span_of(record, [fields[name]]), msgspec.json.encode(value))
        for name, value in values.items()
        if name in fields
    ]
    return with_edits(bytes(record), edits)


def write_subset(
    file: AnnotationFile,
    path: Path,
    *,
    images: BoolArray,
    annotations: BoolArray,
    ignored: BoolArray | None = None,
    image_records: Mapping[int, msgspec.Raw] | None = None,
    edits: Sequence[Edit] = (),
) -> None:
    """Writes the chosen images and annotations; all other bytes of the file, and those of every record, stay.

    Args:
        file: Where the records come from.
        path: The file to write; one record a line.
        images: Images to keep, shape [N].
        annotations: Annotations to keep, shape [A].
        ignored: Annotations to keep as ``iscrowd: 1``, shape [A]; only that field of theirs changes.
        image_records: By row, the records of images that are written otherwise than the file has them.
        edits: Other bytes to write, outside of images and annotations.

    Raises:
        DataError: A member occurs twice, or the file was written to since it was read.
    """
    kept = annotations if ignored is None else annotations | ignored
    as_crowd = np.zeros(len(kept), bool) if ignored is None else ignored & ~file.crowd
    others = image_records or {}
    chosen = [
        (file.image_records, [others.get(i, file.image_records[i]) for i in np.flatnonzero(images).tolist()]),
        (file.annotation_records, [_record(file, i, as_crowd) for i in np.flatnonzero(kept).tolist()]),
    ]
    spans: list[tuple[int, int, Sequence[msgspec.Raw | bytes]]]
    spans = [(*span_of(file.data, records), written) for records, written in chosen if records]
    spans += [(edit.first, edit.end, [edit.text]) for edit in edits]
    done = 0
    with path.open("wb") as out:
        for start, end, written in sorted(spans, key=lambda span: span[0]):
            out.write(file.data[done:start])
            _write_records(out, written)
            done = end
        out.write(file.data[done:])
    file.check_unchanged()


def _record(file: AnnotationFile, index: int, as_crowd: BoolArray) -> msgspec.Raw:
    """The record's own bytes, or the same with ``iscrowd: 1``."""
    record = file.annotation_records[index]
    if not as_crowd[index]:
        return record
    fields = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    return msgspec.Raw(msgspec.json.encode({**fields, "iscrowd": 1}))


def _write_records(out: BinaryIO, records: Sequence[msgspec.Raw | bytes]) -> None:
    for start in range(0, len(records), CHUNK):
        out.write(b",\n" if start else b"")
        out.write(b",\n".join(records[start : start + CHUNK]))
