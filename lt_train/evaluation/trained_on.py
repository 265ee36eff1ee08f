"""The counts of a training set beside the annotations that are measured: whether they are of the same classes.

Shapes: C categories of the training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import BoolArray, IntArray
from lt_data.checks.twins import name_key
from lt_data.counts.categories import CategoryCounts
from lt_data.errors import DataError

Match = Literal["ids", "names"]

_SHOWN = 3


def match_counts(
    counts: CategoryCounts, file: AnnotationFile, *, source: str, match: Match = "ids"
) -> tuple[CategoryCounts, tuple[str, ...]]:
    """Counts of a training set by the category ids of the annotations that are measured.

    Args:
        counts: Of the training set.
        file: What is measured.
        source: Where the counts come from, for messages.
        match: ``ids``: a category is that of the same id, which must have the same name where both have one;
            ``names``: it is that of the same name, whatever its id. Case and spaces are no difference.

    Returns:
        The counts, and a line if categories of the file have none.

    Raises:
        DataError: No category is shared; by ``ids``, a name differs; by ``names``, a name occurs twice.
    """
    if match not in get_args(Match):
        raise DataError(f"--match: got '{match}'; allowed are {', '.join(get_args(Match))}")
    if match == "names":
        counts = _by_name(counts, file, source)
    else:
        _refuse_other_ids(counts, file, source)
        _refuse_other_names(counts, file, source)
    without = np.flatnonzero(~np.isin(file.categories.ids, counts.category_ids))
    if not len(without):
        return counts, ()
    names = ", ".join(repr(file.categories.names[row]) for row in without[:_SHOWN].tolist())
    more = ", ..." if len(without) > _SHOWN else ""
    return counts, (
        f"{len(without):,} of {len(file.categories.ids):,} categories of {file.path.name} are not in {source} "
        f"({names}{more}): they are in no group",
    )


def _refuse_other_ids(counts: CategoryCounts, file: AnnotationFile, source: str) -> None:
    """Refuses counts that would leave every group empty."""
    ours, theirs = file.categories.ids, counts.category_ids
    if not np.isin(ours, theirs).any():
        shown = [", ".join(map(str, ids[:3].tolist())) for ids in (theirs, ours)]
        raise DataError(
            f"--train-counts {source}: has none of the category ids of {file.path} ({shown[0]}, ... there; {shown[1]}, "
            "... here), so they may be labels or ids of another data set; write the ids of the annotation file, or "
            "match by --match names"
        )


def _refuse_other_names(counts: CategoryCounts, file: AnnotationFile, source: str) -> None:
    """Refuses counts of other classes that have the same ids."""
    here = dict(zip(file.categories.ids.tolist(), file.categories.names, strict=True))
    shared = [(i, name, here[i]) for i, name in _named(counts.category_ids, counts.names) if i in here]
    other = [row for row in shared if row[2] != str(row[0]) and name_key(row[1]) != name_key(row[2])]
    if other:
        shown = "; ".join(f"id {i}: {theirs!r} there, {ours!r} here" for i, theirs, ours in other[:_SHOWN])
        raise DataError(
            f"--train-counts {source}: {len(other):,} of {len(shared):,} categories have other names than in "
            f"{file.path} ({shown}), so the ids are of other classes; give counts of the same categories, or match by "
            "--match names"
        )


def _named(ids: IntArray, names: Sequence[str]) -> list[tuple[int, str]]:
    """Ids and names of the categories that have a name: one without is called by its id."""
    return [(i, name) for i, name in zip(ids.tolist(), names, strict=True) if name != str(i)]


def _by_name(counts: CategoryCounts, file: AnnotationFile, source: str) -> CategoryCounts:
    """The counts under the ids that their names have in the file; other categories are left out."""
    ids = _ids_by_name(file.categories.ids, file.categories.names, str(file.path))
    theirs = _ids_by_name(counts.category_ids, counts.names, f"--train-counts {source}")
    found = np.array([ids.get(name_key(name), -1) for name in counts.names], np.int64)
    kept: BoolArray = np.array([name_key(name) in ids for name in counts.names], bool)
    if not kept.any():
        raise DataError(
            f"--train-counts {source}: has none of the {len(ids):,} category names of {file.path} "
            f"({', '.join(map(repr, list(theirs)[:_SHOWN])) or 'no names'} there); write the annotation file's names"
        )
    order = np.flatnonzero(kept)[np.argsort(found[kept], kind="stable")]
    return replace(
        counts,
        category_ids=found[order],
        names=tuple(counts.names[row] for row in order.tolist()),
        instances=counts.instances[order],
        images=counts.images[order],
        frequencies=tuple(counts.frequencies[row] for row in order.tolist()),
    )


def _ids_by_name(ids: IntArray, names: Sequence[str], where: str) -> dict[str, int]:
    named = _named(ids, names)
    found = {name_key(name): i for i, name in named}
    if len(found) < len(named):
        twice = next(name for i, name in named if found[name_key(name)] != i)
        raise DataError(f"{where}: --match names: {twice!r} is the name of two categories; match by ids")
    return found
