"""What an LVIS pool says of itself and a subset of it must say of itself instead.

LVIS categories state how many images and instances they have and how frequent they are; an image lists the categories
that are not annotated exhaustively in it. Every evaluator of LVIS believes these fields, so in a subset they are
rewritten; a file without them keeps every byte.

Shapes: N images, A annotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import msgspec
import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.records import UNREADABLE, span_of
from lt_data.annotations.subset import Edit
from lt_data.arrays import BoolArray, positions_of, sorted_unique
from lt_data.counts.categories import CategoryCounts
from lt_data.errors import DataError
from lt_data.files.reading import contains
from lt_data.groups import frequency_of

FIELDS: Final = ("frequency", "image_count", "instance_count")
WHY: Final = (
    "these fields of the categories say what the file holds; an image that lost surplus instances lists their "
    "categories in not_exhaustive_category_ids"
)


@dataclass(frozen=True)
class Rewritten:
    """What differs from the pool in the records of a subset.

    Attributes:
        fields: Fields of categories that the pool has, of :data:`FIELDS`.
        edits: Where in the pool's bytes they stand, and what stands there instead.
        images: Row of each image that lists more categories as not exhaustive, and its new record.
    """

    fields: tuple[str, ...]
    edits: tuple[Edit, ...]
    images: Mapping[int, msgspec.Raw]


NOTHING_REWRITTEN: Final = Rewritten((), (), {})


class _Listed(msgspec.Struct):
    not_exhaustive_category_ids: Any = None


def rewritten(
    pool: AnnotationFile, counts: CategoryCounts, *, images: BoolArray, kept: BoolArray, instances: BoolArray
) -> Rewritten:
    """What to write otherwise than the pool has it.

    Args:
        pool: What is sampled from.
        counts: Counts of the subset.
        images: Images of the subset, shape [N].
        kept: Annotations that are instances of the subset, shape [A].
        instances: Annotations that are instances of the pool, shape [A].
    """
    stated = pool.categories.states_counts
    fields, edits = category_edits(pool, counts) if stated else ((), ())
    lost = instances & ~kept & images[pool.image_index()]
    # finding out where records begin takes longer than a look for the word
    listed = lost.any() and (stated or contains(pool.data, b'"not_exhaustive_category_ids"'))
    return Rewritten(fields, edits, _image_records(pool, lost) if listed else {})


def category_edits(file: AnnotationFile, counts: CategoryCounts) -> tuple[tuple[str, ...], tuple[Edit, ...]]:
    """The fields that a file's categories have, and the edits that make them say these counts.

    Raises:
        DataError: A record cannot be read, or a member occurs twice.
    """
    rows = zip(counts.images.tolist(), counts.instances.tolist(), strict=True)
    by_id = dict(zip(counts.category_ids.tolist(), rows, strict=True))
    by_row: list[int] = file.categories.ids.tolist()
    found: set[str] = set()
    edits = []
    for row, (category_id, record) in enumerate(zip(by_row, file.category_records, strict=True)):
        of_images, of_instances = by_id[category_id]
        wanted = {"frequency": frequency_of(of_images), "image_count": of_images, "instance_count": of_instances}
        try:
            members = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
        except UNREADABLE as error:
            raise DataError(f"{file.path}: categories[{row}]: {error}; mend this record") from None
        for key, value in wanted.items():
            # null means as much as a field that is not there
            if key in members and bytes(members[key]) != b"null":
                found.add(key)
                edits.append(Edit(*span_of(file.data, [members[key]]), msgspec.json.encode(value)))
    changed = tuple(edit for edit in edits if bytes(file.data[edit.first : edit.end]) != edit.text)
    return tuple(key for key in FIELDS if key in found), changed


def _image_records(pool: AnnotationFile, lost: BoolArray) -> dict[int, msgspec.Raw]:
    """Images that list more categories than in the pool, as they lost these annotations [A]."""
    ids = np.sort(pool.categories.ids)
    places = positions_of(pool.annotation_category_ids[lost], ids)
    pairs = sorted_unique(pool.image_index()[lost] * len(ids) + places)
    records = {}
    by_image = zip((pairs // len(ids)).tolist(), ids[pairs % len(ids)].tolist(), strict=True)
    for row, of_image in groupby(by_image, key=itemgetter(0)):
        record = _with_categories(pool.image_records[row], [category for _, category in of_image])
        if record is not None:
            records[row] = record
    return records


def _with_categories(record: msgspec.Raw, categories: list[int]) -> msgspec.Raw | None:
    """The record with these in its list of categories; ``None`` where it has no list, or all of them already."""
    try:
        listed = msgspec.json.decode(record, type=_Listed).not_exhaustive_category_ids
    except UNREADABLE:
        return None
    if not isinstance(listed, list) or set(categories) <= set(map(_hashable, listed)):
        return None
    missing = [category for category in categories if category not in listed]
    members = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    data = bytes(record)
    old = members["not_exhaustive_category_ids"]
    first, end = span_of(record, [old])
    new = bytes(old)[:-1].rstrip() + (b", " if listed else b"") + ", ".join(map(str, missing)).encode() + b"]"
    return msgspec.Raw(data[:first] + new + data[end:])


def _hashable(value: object) -> object:
    return value if isinstance(value, int | float | str | None) else repr(value)
