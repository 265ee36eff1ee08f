"""Records that are listed more than once, and references to records that are not listed.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Final

import numpy as np

from lt_data.annotations.lenient import NO_ID
from lt_data.annotations.lists import moves_that_fit
from lt_data.arrays import IntArray
from lt_data.checks.image_lists import listed_ids
from lt_data.mending.document import Document, value_of
from lt_data.mending.draft import Draft

# what LVIS counts differs between records of one category, and is counted again
_COUNTED: Final = ("instance_count", "image_count", "frequency")


def _content(document: Document, key: str, row: int, without: tuple[str, ...]) -> str:
    """What a record says, whatever the order of its fields; unlike all others where it cannot be read."""
    record = value_of(document.records[key][row])
    if not isinstance(record, dict):
        return f"record {row}"
    return json.dumps({name: value for name, value in record.items() if name not in without}, sort_keys=True)


def _equal(document: Document, key: str, without: tuple[str, ...], names: list[str], ids: IntArray) -> dict[int, int]:
    """Rows of records that repeat an earlier one, and its row; only records with a name and an id are looked at.

    An id that records share which differ is nobody's to follow: such records stay.
    """
    by_id: dict[int, set[str]] = defaultdict(set)
    contents = {row: _content(document, key, row, without) for row, i in enumerate(ids.tolist()) if i != NO_ID}
    for row, content in contents.items():
        by_id[int(ids[row])].add(content)
    first: dict[str, int] = {}
    repeated = {}
    for row, content in contents.items():
        if names[row] and len(by_id[int(ids[row])]) == 1:
            kept = first.setdefault(content, row)
            if kept != row:
                repeated[row] = kept
    return repeated


def equal_categories(draft: Draft) -> None:
    """Keeps the first of category records that say the same but for their id and counts; what had the others has it."""
    categories = draft.document.columns.categories
    repeated = _equal(draft.document, "categories", ("id", *_COUNTED), categories.names, categories.ids)
    new: dict[int, int | None] = {}
    for row, kept in repeated.items():
        draft.drop("categories", row, f"an earlier record says the same, id {categories.ids[kept]}")
        if categories.ids[row] != categories.ids[kept]:
            new[int(categories.ids[row])] = int(categories.ids[kept])
    draft.replace_categories(new)


def equal_images(draft: Draft) -> None:
    """Keeps the first of image records that say the same but for their id; annotations of the others are its own."""
    document = draft.document
    images = document.columns.images
    # texts have become numbers by now, or stay
    if document.columns.image_names:
        return
    repeated = _equal(document, "images", ("id",), images.names, images.ids)
    new = {}
    for row, kept in repeated.items():
        draft.drop("images", row, f"an earlier record says the same, id {images.ids[kept]}")
        if images.ids[row] != images.ids[kept]:
            new[int(images.ids[row])] = str(images.ids[kept]).encode()
    used = document.columns.annotations.image_ids
    for row in np.flatnonzero(np.isin(used, list(new))).tolist():
        draft.set("annotations", row, {"image_id": new[int(used[row])]})


def moved_ids(draft: Draft) -> None:
    """Moves the category ids of all annotations by the one that makes listed ids of them, if only one does."""
    columns = draft.document.columns
    used = columns.annotations.category_ids
    moves = moves_that_fit(used[used != NO_ID], columns.categories.ids)
    if len(moves) == 1:
        for row in np.flatnonzero(used != NO_ID).tolist():
            draft.set("annotations", row, {"category_id": str(used[row] + moves[0]).encode()})


def unlisted(draft: Draft) -> None:
    """Drops annotations of images or categories that are not listed, and such categories from the lists of images."""
    columns = draft.document.columns
    images, categories, annotations = columns.images.ids, columns.categories.ids, columns.annotations
    # an id that cannot be used may be the one that is missing; ids that are off by one are not lost
    if NO_ID not in images:
        lost = (annotations.image_ids != NO_ID) & ~np.isin(annotations.image_ids, images)
        for row in np.flatnonzero(lost).tolist():
            draft.drop("annotations", row, "its image is not listed")
    used = annotations.category_ids[annotations.category_ids != NO_ID]
    if NO_ID in categories or moves_that_fit(used, categories):
        return
    lost = (annotations.category_ids != NO_ID) & ~np.isin(annotations.category_ids, categories)
    for row in np.flatnonzero(lost).tolist():
        draft.drop("annotations", row, "its category is not listed")
    draft.replace_categories(dict.fromkeys(sorted(listed_ids(columns) - {*categories.tolist()})))
