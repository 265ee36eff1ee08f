"""Ids that no record has yet."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, islice

from lt_data.annotations.records import LARGEST_ID


def fresh_ids(used: Iterable[int], number: int) -> list[int]:
    """So many ids that are not used: those after the largest, or else the smallest free ones from 1."""
    taken = set(used)
    first = max(max(taken, default=0), 0) + 1
    if first + number - 1 <= LARGEST_ID:
        return list(range(first, first + number))
    return list(islice((i for i in count(1) if i not in taken), number))
