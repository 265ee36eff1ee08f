"""What is said where a pool has fewer instances of a category than its target."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from lt_data.arrays import IntArray
from lt_data.build.alignment import Alignment, largest_scale
from lt_data.build.result import shortages
from lt_data.counts.categories import CategoryCounts
from lt_data.errors import DataError

# categories that the message names; JSON has all
SHOWN: Final = 10


@dataclass(frozen=True)
class Short:
    """A category with fewer instances in the pool than its target; its rank counts from 1, ``None`` without any."""

    category_id: int
    name: str
    rank: int | None
    target: int
    available: int


class ShortageError(DataError):
    """The pool is short of instances.

    Attributes:
        short: Every category that is, by rank.
        largest_scale: The largest scale at which none with instances is, or ``None``.
    """

    def __init__(
        self, problems: str | Iterable[str], short: tuple[Short, ...] = (), largest_scale: float | None = None
    ) -> None:
        super().__init__(problems)
        self.short, self.largest_scale = short, largest_scale


def short_categories(counts: CategoryCounts, alignment: Alignment) -> tuple[Short, ...]:
    """Every category whose target is beyond what the pool holds, by rank."""
    return tuple(
        Short(
            category_id=int(counts.category_ids[alignment.order[place]]),
            name=counts.names[alignment.order[place]],
            rank=place + 1 if place < alignment.ranked else None,
            target=int(alignment.targets[place]),
            available=int(counts.instances[alignment.order[place]]),
        )
        for place in shortages(counts, alignment).tolist()
    )


def refuse_shortage(pool: Path, counts: CategoryCounts, alignment: Alignment) -> None:
    """Refuses targets beyond what the pool holds: the fix first, then the first few categories.

    Raises:
        ShortageError: There are any.
    """
    short = short_categories(counts, alignment)
    if not short:
        return
    available: IntArray = counts.instances[alignment.order]
    scale = largest_scale(alignment.reference_instances, available)
    problems = [
        f"{pool}: short of instances in {len(short):,} of {len(counts.names):,} categories; {_advice(short, scale)}"
    ]
    problems += [_line(pool, one) for one in short[:SHOWN]]
    if len(short) > SHOWN:
        problems.append(f"{pool}: and {len(short) - SHOWN:,} more categories; --format json lists all")
    raise ShortageError(problems, short, None if scale is None else float(scale))


def _line(pool: Path, one: Short) -> str:
    rank = "" if one.rank is None else f" (rank {one.rank})"
    has = f"the pool has {one.available} instances" if one.available else "the pool has none; no scale helps"
    return f"{pool}: category {one.category_id} '{one.name}'{rank}: target {one.target}, {has}"


def _advice(short: tuple[Short, ...], scale: Fraction | None) -> str:
    none = any(not one.available for one in short)
    advice = []
    if any(one.available for one in short):
        who = " for the categories that have instances" if none else ""
        largest = "no --scale from 0.000001 on works"
        if scale is not None:
            largest = f"the largest --scale that works{who} is {float(scale):.6f}".rstrip("0")
        advice.append(largest)
    if none:
        advice.append("categories without instances need a target of 0, or another pool")
    return "fix: " + "; ".join([*advice, "--on-shortage cap takes what there is and records it"])


def shortage_json(error: ShortageError) -> str:
    """Every category that is short, for programs."""
    content = {
        "schema": 1,
        "refused": "shortage",
        "largest_scale": error.largest_scale,
        "shortage": [asdict(one) for one in error.short],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)
