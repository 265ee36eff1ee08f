"""The lists of an LVIS image: categories that are certainly not in it, and those that are not annotated exhaustively.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from lt_data.annotations.findings import FindingList, shown
from lt_data.annotations.lists import FileColumns
from lt_data.annotations.records import LARGEST_ID
from lt_data.arrays import BoolArray, IntArray

NEGATIVE: Final = "neg_category_ids"
NOT_EXHAUSTIVE: Final = "not_exhaustive_category_ids"


class Entries(NamedTuple):
    """The ids in the lists of one kind: image row and category id of each, [E] each."""

    rows: IntArray
    ids: IntArray


def entries_of(lists: Sequence[Sequence[float] | None]) -> Entries:
    """All ids of N lists as two columns.

    Args:
        lists: Of each image; ``None`` where there is none.
    """
    lengths = [len(ids) if ids else 0 for ids in lists]
    ids = [i for found in lists if found for i in found]
    return Entries(np.repeat(np.arange(len(lists)), lengths), np.array(ids, np.int64))


def unknown_entries(entries: Entries, category_ids: IntArray) -> BoolArray:
    """Entries whose category the file does not list, [E]."""
    return ~np.isin(entries.ids, category_ids)


def repeated_entries(entries: Entries, others: Entries) -> BoolArray:
    """Entries that stand in the other list of the same image too, [E]."""
    return annotated_entries(entries, others.rows, others.ids)


def annotated_entries(entries: Entries, annotation_rows: IntArray, annotation_categories: IntArray) -> BoolArray:
    """Entries whose category is annotated in that very image, [E].

    Args:
        entries: Of the negative lists.
        annotation_rows: Image row of each annotation, [A].
        annotation_categories: Category id of each annotation, [A].
    """
    ids = np.unique(np.concatenate([entries.ids, annotation_categories]))
    width = max(len(ids), 1)
    pairs = entries.rows * width + np.searchsorted(ids, entries.ids)
    annotated = annotation_rows * width + np.searchsorted(ids, annotation_categories)
    return np.isin(pairs, annotated)


def check_image_lists(file: FileColumns, log: FindingList) -> None:
    """Lists that are missing, hold no ids, or name categories that they must not."""
    images = file.images
    given = {NEGATIVE: images.negatives, NOT_EXHAUSTIVE: images.not_exhaustive}
    if all(value is None for lists in given.values() for value in lists):
        return
    usable = {name: [value if _holds_ids(value) else None for value in lists] for name, lists in given.items()}
    for name, lists in given.items():
        wrong = [row for row, value in enumerate(lists) if value is not None and not _holds_ids(value)]
        log.add_many(
            "LT217", wrong, lambda row, name=name, lists=lists: f"{file.image(row)}: {name} is {shown(lists[row])}"
        )
    without = [row for row, pair in enumerate(zip(*given.values(), strict=True)) if None in pair]
    log.add_many("LT218", without, file.image)
    for name, lists in usable.items():
        entries = entries_of(lists)
        if "categories" not in file.missing:
            _add_entries("LT215", name, entries, unknown_entries(entries, file.categories.ids), file, log)
    negative, not_exhaustive = entries_of(usable[NEGATIVE]), entries_of(usable[NOT_EXHAUSTIVE])
    _add_entries("LT222", "each of its lists", negative, repeated_entries(negative, not_exhaustive), file, log)
    _add_entries("LT216", NEGATIVE, *annotated_negatives(file), file, log)


def _holds_ids(value: Any) -> bool:
    """Whether readers take it for a list of ids: whole numbers, as floats too, that JSON keeps exactly."""
    return isinstance(value, list) and all(
        type(entry) in (int, float) and entry % 1 == 0 and abs(entry) <= LARGEST_ID for entry in value
    )


def listed_ids(file: FileColumns) -> set[int]:
    """Every category id that a list of an image names; lists that hold anything else are left out."""
    lists = (*file.images.negatives, *file.images.not_exhaustive)
    return {int(entry) for ids in lists if _holds_ids(ids) for entry in ids}


def annotated_negatives(file: FileColumns) -> tuple[Entries, BoolArray]:
    """The entries of the negative lists that hold ids, and those whose category is annotated in that very image."""
    entries = entries_of([ids if _holds_ids(ids) else None for ids in file.images.negatives])
    row_of = {image: row for row, image in enumerate(file.images.ids.tolist())}
    rows = np.array([row_of.get(image, -1) for image in file.annotations.image_ids.tolist()], np.int64)
    return entries, annotated_entries(entries, rows, file.annotations.category_ids)


def _add_entries(code: str, name: str, entries: Entries, bad: BoolArray, file: FileColumns, log: FindingList) -> None:
    log.add_many(
        code,
        np.flatnonzero(bad),
        lambda entry: f"{file.image(int(entries.rows[entry]))}: {name} has {entries.ids[entry]}",
    )
