"""Bounds between groups of classes, from how many instances the classes of a data set have."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from lt_data.arrays import IntArray
from lt_data.groups import BAGS_EDGES, group_index

# groups at most: as many as the paper has
MOST_GROUPS: Final = 4


def spread(instances: IntArray) -> float:
    """How many times the instances of the rarest class the most frequent one has, [C]; classes without count for none.

    Raises:
        ValueError: No class has any.
    """
    there = instances[instances > 0]
    return float(there.max() / there.min())


def log_spaced_bounds(instances: IntArray) -> tuple[int, ...]:
    """Bounds between groups, each of which holds a class that has instances.

    Those of the paper (10, 100, 1000) where they do so. Else a group for each power of ten between the rarest and the
    most frequent class, two at least, with bounds at equal steps of the logarithm, rounded to one digit where the
    groups stay filled.

    Args:
        instances: Of each class, shape [C]; one of them has some.

    Returns:
        Bounds as for :func:`lt_data.groups.make_groups`; where all classes have as many, one above them all.
    """
    there = np.sort(instances[instances > 0])
    if _all_filled(there, BAGS_EDGES):
        return tuple(BAGS_EDGES)
    low, high = int(there[0]), int(there[-1])
    if low == high:
        return (low + 1,)
    groups = min(MOST_GROUPS, max(2, math.ceil(math.log10(high / low))))
    for number in range(groups, 1, -1):
        exact = [low * (high / low) ** (k / number) for k in range(1, number)]
        for bounds in (tuple(map(_one_digit, exact)), tuple(map(math.ceil, exact))):
            if _all_filled(there, bounds):
                return bounds
    # the most frequent classes are apart from all others
    return (high,)


def _one_digit(value: float) -> int:
    """The nearest number of one digit and zeros, 1 at least."""
    unit = 10 ** max(0, math.floor(math.log10(value)))
    return max(1, round(value / unit) * unit)


def _all_filled(instances: IntArray, bounds: tuple[int, ...]) -> bool:
    ascending = all(a < b for a, b in zip((0, *bounds), bounds, strict=False))
    return ascending and len(np.unique(group_index(instances, bounds))) == len(bounds) + 1
