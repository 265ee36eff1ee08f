"""Array types, and looking ids up in arrays of ids."""

from __future__ import annotations

from typing import Final

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
