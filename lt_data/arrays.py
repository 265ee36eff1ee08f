"""Array types, and looking ids up in arrays of ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# a table over all ids between the smallest and the largest beats a search while it fits the processor's cache
_LARGEST_TABLE: Final = 2**22


def sorted_unique(values: IntArray) -> IntArray:
    """The distinct values, ascending; sorting integers is several times faster than ``np.unique`` on them."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def stable_argsort(values: IntArray) -> IntArray:
    """Order of values from 0 on that are not huge, equal ones as they stand.

    Sorting numbers that hold value and place is twice as fast as sorting places by value.
    """
    count = max(len(values), 1)
    return np.sort(values * count + np.arange(len(values))) % count


def all_distinct(values: npt.NDArray[np.int64] | npt.NDArray[np.uint64]) -> bool:
    """Whether no value occurs twice."""
    if (values[1:] > values[:-1]).all():
        return True
    ordered = np.sort(values)
    return bool((ordered[1:] != ordered[:-1]).all())


def row_keys(columns: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
    """A number for each row of a table that is given by its columns, [V] each; equal rows have equal numbers.

    Args:
        columns: Of 64-bit numbers each.
    """
    keys = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        keys ^= np.ascontiguousarray(column).view(np.uint64)
        keys *= np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(32)
    return keys


def repeats(columns: Sequence[npt.NDArray[Any]]) -> BoolArray:
    """Rows of a table that equal an earlier row, [V].

    Args:
        columns: The columns of the table, of 64-bit numbers, [V] each.
    """
    keys = row_keys(columns)
    repeated = np.zeros(len(keys), bool)
    if all_distinct(keys):
        return repeated
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    for column in columns:
        # a number stands for many rows: what counts are the rows
        same &= column[order[1:]] == column[order[:-1]]
    repeated[order[1:][same]] = True
    return repeated


def positions_of(values: IntArray, ids: IntArray) -> IntArray:
    """Where each value stands in a list of ids.

    Args:
        values: What to look up, shape [V].
        ids: Distinct ids in any order, shape [I].

    Returns:
        Position in ``ids``, -1 for a value that is not among them, shape [V].
    """
    if not len(ids):
        return np.full(len(values), -1)
    lowest, span = int(ids.min()), int(ids.max()) - int(ids.min()) + 1
    if span > _LARGEST_TABLE:
        return _search(values, ids)
    # the last place is for every value that lies outside
    table = np.full(span + 1, -1)
    table[ids - lowest] = np.arange(len(ids))
    places = values - lowest
    # as unsigned numbers, those below zero are huge: one comparison for both ends
    return table[np.minimum(places.view(np.uint64), np.uint64(span)).view(np.int64)]


def _search(values: IntArray, ids: IntArray) -> IntArray:
    order = np.argsort(ids, kind="stable")
    place = order[np.minimum(np.searchsorted(ids, values, sorter=order), len(ids) - 1)]
    return np.where(ids[place] == values, place, -1)


def examples(values: IntArray, most: int = 3) -> str:
    """The first few values as text."""
    shown = ", ".join(str(v) for v in values[:most].tolist())
    return shown + (", ..." if len(values) > most else "")
