"""Objects that are listed more than once, categories without objects, and what LVIS counts of them.

Shapes: A annotations, C categories.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec
import numpy as np

from lt_data.annotations.lenient import NO_ID
from lt_data.annotations.lists import FileColumns, counts_of, is_root
from lt_data.arrays import IntArray, sorted_unique
from lt_data.checks.image_lists import NEGATIVE, annotated_negatives
from lt_data.checks.objects import repeated_objects
from lt_data.mending.draft import Draft


def same_object(draft: Draft) -> None:
    """Keeps one annotation of those with the same image, category and box: the first that has a mask, or the first."""
    columns = draft.document.columns.annotations
    # ids that cannot be used are not the same one
    known = (columns.image_ids != NO_ID) & (columns.category_ids != NO_ID) & ~columns.crowd
    twice = repeated_objects(columns.image_ids, columns.category_ids, columns.boxes, ~known)
    if not twice.any():
        return
    objects: dict[tuple[float, ...], list[int]] = defaultdict(list)
    for row in np.flatnonzero(known & np.isfinite(columns.boxes).all(1)).tolist():
        objects[columns.image_ids[row], columns.category_ids[row], *columns.boxes[row].tolist()].append(row)
    for rows in objects.values():
        kept = next((row for row in rows if columns.masks.given[row]), rows[0])
        for row in rows:
            if row != kept:
                draft.drop("annotations", row, f"the same object as id {columns.ids[kept]}")


def root_category(draft: Draft) -> None:
    """Drops a category without annotations that is the supercategory of all others."""
    categories = draft.document.columns.categories
    _drop(draft, [row for row in _unused(draft.document.columns) if is_root(categories, row)])


def empty_categories(draft: Draft) -> None:
    """Drops categories without annotations, also from the lists of LVIS images; one that has crowds is used."""
    _drop(draft, _unused(draft.document.columns))


def _unused(file: FileColumns) -> list[int]:
    """Rows of categories that no annotation has; none where ids cannot be trusted, or no object is there at all."""
    used, known = file.annotations.category_ids, file.categories.ids
    if NO_ID in used or NO_ID in known or not np.isin(used, known).all() or file.annotations.crowd.all():
        return []
    rows: list[int] = np.flatnonzero(~np.isin(known, used)).tolist()
    return rows


def _drop(draft: Draft, rows: list[int]) -> None:
    ids = draft.document.columns.categories.ids
    for row in rows:
        draft.drop("categories", row, "it has no object")
    kept = np.delete(ids, rows)
    draft.replace_categories({int(i): None for i in ids[rows] if i not in kept})


def counts(draft: Draft) -> None:
    """Writes the counts that LVIS's categories state as the annotations have them; frequencies stay."""
    columns = draft.document.columns
    used = columns.annotations.category_ids
    if NO_ID in used or NO_ID in columns.annotations.image_ids:
        return
    instances, images = counts_of(columns)
    _state(draft, "instance_count", columns.categories.instance_counts, instances)
    _state(draft, "image_count", columns.categories.image_counts, images)


def _state(draft: Draft, field: str, stated: IntArray, counted: IntArray) -> None:
    for row in np.flatnonzero((stated != NO_ID) & (stated != counted)).tolist():
        draft.set("categories", row, {field: str(counted[row]).encode()})


def negative_lists(draft: Draft) -> None:
    """Takes categories that are annotated in an image out of its list of those that it has not."""
    entries, bad = annotated_negatives(draft.document.columns)
    for row in sorted_unique(entries.rows[bad]).tolist():
        annotated = set(entries.ids[bad & (entries.rows == row)].tolist())
        listed = draft.document.columns.images.negatives[row]
        draft.set("images", row, {NEGATIVE: msgspec.json.encode([i for i in listed if i not in annotated])})
