"""The bytes of a merged file: records whose ids stay are the inputs' own.

Shapes: A annotations of a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lt_data.annotations.file import parse_annotations
from lt_data.annotations.subset import with_edits, with_values
from lt_data.build.lvis_fields import category_edits
from lt_data.checks.image_lists import NEGATIVE, NOT_EXHAUSTIVE
from lt_data.counts.categories import count_categories
from lt_data.merging.parts import Part


def merged_bytes(parts: Sequence[Part], members: Mapping[str, bytes], categories: Sequence[bytes]) -> bytes:
    """The file, one record a line.

    Args:
        parts: What is merged.
        members: What stands beside the three lists, first.
        categories: The records of the categories.
    """
    lists = {
        "images": [record for part in parts for record in _images(part)],
        "annotations": [record for part in parts for record in _annotations(part)],
        "categories": categories,
    }
    every = {**members, **{key: listed(records) for key, records in lists.items()}}
    return b"{" + b",\n".join(msgspec.json.encode(key) + b": " + value for key, value in every.items()) + b"}\n"


def listed(records: Sequence[bytes | msgspec.Raw]) -> bytes:
    """A list, one record a line."""
    return b"[" + b",\n".join(records) + b"]"


def _images(part: Part) -> list[bytes | msgspec.Raw]:
    same_categories = all(old == new for old, new in part.categories.items())
    same = same_categories & (part.licenses is None) & (part.image_ids == part.file.image_ids)
    return [
        record if same[row] else _image(part, record, int(part.image_ids[row]))
        for row, record in enumerate(part.file.image_records)
        if not part.joined[row]
    ]


def _image(part: Part, record: msgspec.Raw, number: int) -> bytes:
    fields = msgspec.json.decode(record)
    values: dict[str, Any] = {"id": number} if fields["id"] != number else {}
    for key in (NEGATIVE, NOT_EXHAUSTIVE):
        listed = fields.get(key)
        if isinstance(listed, list) and (new := [_mapped(part.categories, i) for i in listed]) != listed:
            values[key] = new
    old = fields.get("license")
    if part.licenses is not None and (license_id := new_license(part.licenses, old)) != old:
        values["license"] = license_id
    return with_values(record, values)


def new_license(licenses: Mapping[int, int], old: Any) -> int | None:
    """The license of an image in the result; none where its file does not list it: another file's is not meant."""
    return licenses.get(old) if type(old) in (int, float) else None


def _mapped(new: Mapping[int, int], value: Any) -> Any:
    return new.get(value, value) if type(value) in (int, float) else value


def _annotations(part: Part) -> list[bytes | msgspec.Raw]:
    file = part.file
    ids = part.annotation_ids
    images = part.image_ids[file.image_index()]
    of_categories = np.array([part.categories[i] for i in file.categories.ids.tolist()], np.int64)
    categories = of_categories[file.category_index()]
    changed = (ids != file.annotation_ids) | (images != file.annotation_image_ids)
    changed |= categories != file.annotation_category_ids
    records: list[bytes | msgspec.Raw] = list(file.annotation_records)
    for row in np.flatnonzero(changed).tolist():
        old = file.annotation_ids[row], file.annotation_image_ids[row], file.annotation_category_ids[row]
        new = int(ids[row]), int(images[row]), int(categories[row])
        names = ("id", "image_id", "category_id")
        values = {name: after for name, before, after in zip(names, old, new, strict=True) if before != after}
        records[row] = with_values(file.annotation_records[row], values)
    return records


def counted_anew(out: Path, data: bytes) -> bytes:
    """The same with LVIS's counts and frequencies as the annotations have them; bytes without these fields stay."""
    file = parse_annotations(data, out)
    if not file.categories.states_counts:
        return data
    _, edits = category_edits(file, count_categories(file))
    return with_edits(data, edits)
