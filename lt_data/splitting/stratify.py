"""Iterative stratification, then exchanges: the rarest category first, and what it leaves undone mended afterwards.

Source: Sechidis, Tsoumakas, Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011, algorithm 1: of the
category with the fewest images left, each goes to the side that lacks most of it. Three things are ours. A side that
has none of a category comes first, however small its share: in the paper a category of two images lies on the larger
side with both. A side that is full takes nothing more, so the number of images is met. And at the end units are
exchanged wherever that puts a category on a side that has none, or brings shares closer: what the paper gives away
early, to rare categories, it never looks at again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from lt_data.splitting.labels import Labels
from lt_data.splitting.sides import NOWHERE, Sides, Worth

# labels that are weighed in exchanges, and units for one category on one side: bounds of the time, the same everywhere
_MOST_WEIGHED: Final = 2_000_000
_MOST_UNITS: Final = 16
_MOST_PARTNERS: Final = 400
_MOST_PARTNERS_FOR_SHARES: Final = 40
# small files are split in several orders, and the best is taken
_MOST_STARTS: Final = 16
_UNITS_OF_ALL_STARTS: Final = 1000

_Mend = Callable[[int, int], bool]
_Change = tuple[int, int, int | None]


def stratify(labels: Labels, sizes: Sequence[int], *, seed: int, first_trains: bool) -> list[int]:
    """Shares units out.

    Args:
        labels: Of U units.
        sizes: Images wanted on each side, at least one each; as many in all as there are.
        seed: Another one shares out otherwise, and as well.
        first_trains: Whether a category that cannot be on all sides is wanted on the first.

    Returns:
        The side of each unit, [U]. No side is empty if there are as many units as sides, and none has more or fewer
        images than wanted by as many as the largest unit has.
    """
    starts = min(_MOST_STARTS, max(1, _UNITS_OF_ALL_STARTS // len(labels.sizes)))
    best: tuple[Worth, list[int]] | None = None
    for start in range(starts):
        order = labels.order(f"{seed}/{start}" if start else str(seed))
        sides = Sides(labels, sizes, first_trains=first_trains)
        _share_out(sides, order)
        _fill_empty(sides, order)
        _Exchanges(sides, order, _MOST_WEIGHED // starts).run()
        if best is None or sides.worth() < best[0]:
            best = sides.worth(), sides.side
    assert best is not None
    return best[1]


def _share_out(sides: Sides, order: Sequence[int]) -> None:
    """Iterative stratification; every unit has a category, as that of images without objects counts."""
    place, sizes = {unit: i for i, unit in enumerate(order)}, sides.labels.sizes
    left = [len(units) for units in sides.holders]
    heap = [(count, category) for category, count in enumerate(left) if count]
    heapq.heapify(heap)
    while heap:
        count, category = heapq.heappop(heap)
        if count != left[category]:
            # some of its units went with a rarer category
            if left[category]:
                heapq.heappush(heap, (left[category], category))
            continue
        # the large first: the small fill what they leave
        for unit in sorted(sides.holders[category], key=lambda u: (-sizes[u], place[u])):
            if sides.side[unit] == NOWHERE:
                sides.put(unit, _neediest(sides, unit, category))
                for each, _ in sides.labels.rows[unit]:
                    left[each] -= 1


def _neediest(sides: Sides, unit: int, category: int) -> int:
    """The side that has room and lacks most of a category."""
    room = [wanted - images for wanted, images in zip(sides.wanted, sides.images, strict=True)]
    fits = [k for k, free in enumerate(room) if free >= sides.labels.sizes[unit]]
    open_sides = fits or [k for k, free in enumerate(room) if free == max(room)]
    splittable = sides.splittable[category]

    def need(side: int) -> tuple[bool, float, int, int]:
        held = sides.held[side][category]
        return splittable and not held, sides.share[side][category] - held, room[side], -side

    return max(open_sides, key=need)


def _fill_empty(sides: Sides, order: Sequence[int]) -> None:
    """Gives a side that large units left without anything the smallest unit of the side with the most units."""
    for side, units in enumerate(sides.units):
        if not units and (most := max(sides.units)) > 1:
            source = sides.units.index(most)
            own = [unit for unit in order if sides.side[unit] == source]
            sides.put(min(own, key=sides.labels.sizes.__getitem__), side)


class _Exchanges:
    """Puts units on other sides, alone or in exchange, while that is for the better.

    Args:
        sides: Where all units lie.
        order: Of the units, in which they are tried.
        most: Labels of units that are weighed at most.
    """

    def __init__(self, sides: Sides, order: Sequence[int], most: int) -> None:
        self._sides, self._order, self._left = sides, order, most
        place = {unit: i for i, unit in enumerate(order)}
        self._holders = [sorted(units, key=place.__getitem__) for units in sides.holders]

    def run(self) -> None:
        """Missing categories first, then shares, until neither gets better."""
        changed = 1
        while changed and self._left > 0:
            changed = self._each(self._missing(), self._cover)
            changed += self._each(self._uneven(), self._even_out)

    def _each(self, places: list[tuple[int, int]], mend: _Mend) -> int:
        """How many of these categories and sides were mended."""
        return sum(mend(category, side) for category, side in places if self._left > 0)

    def _missing(self) -> list[tuple[int, int]]:
        """Categories and the sides that have none of them; a training side without comes first."""
        sides = self._sides
        return [
            (category, k)
            for k in range(len(sides.wanted))
            for category, units in enumerate(self._holders[: sides.labels.categories])
            if units and not sides.held[k][category]
            if sides.splittable[category] or (sides.first_trains and k == 0)
        ]

    def _uneven(self) -> list[tuple[int, int]]:
        """Categories and the sides that have too many images of them by one or more, the worst first."""
        found = []
        for k, (held, share) in enumerate(zip(self._sides.held, self._sides.share, strict=True)):
            for category, (have, wanted) in enumerate(zip(held, share, strict=True)):
                if have - wanted >= 1:
                    found.append((-self._sides.weight[category] * (have - wanted) ** 2 / wanted, category, k))
        return [(category, k) for _, category, k in sorted(found)]

    def _cover(self, category: int, side: int) -> bool:
        """Brings a category to a side that has none of it, if that costs no other its last image."""
        sides = self._sides
        if sides.held[side][category]:
            return False
        units = (unit for unit in self._holders[category] if sides.side[unit] != side)
        partners = list(islice(self._on(side), _MOST_PARTNERS))
        return self._best((unit, side, other) for unit in islice(units, _MOST_UNITS) for other in [None, *partners])

    def _even_out(self, category: int, side: int) -> bool:
        """Takes images of a category from a side that has too many of it to the one that lacks most."""
        sides = self._sides
        if sides.held[side][category] - sides.share[side][category] < 1:
            return False
        target = min(
            (k for k in range(len(sides.wanted)) if k != side),
            key=lambda k: (sides.held[k][category] - sides.share[k][category], k),
        )
        units = (unit for unit in self._holders[category] if sides.side[unit] == side)
        partners = list(islice(self._on(target), _MOST_PARTNERS_FOR_SHARES))
        return self._best((unit, target, other) for unit in islice(units, _MOST_UNITS) for other in [None, *partners])

    def _on(self, side: int) -> Iterator[int]:
        return (unit for unit in self._order if self._sides.side[unit] == side)

    def _best(self, changes: Iterable[_Change]) -> bool:
        """Makes the best of some changes if it is for the better."""
        best, chosen, rows = Worth(0, 0, 0.0), None, self._sides.labels.rows
        for unit, side, other in changes:
            if self._sides.fits(unit, side, other):
                self._left -= len(rows[unit]) + (0 if other is None else len(rows[other]))
                worth = self._sides.change(unit, side, other)
                if worth < best and worth.is_better:
                    best, chosen = worth, (unit, side, other)
        if chosen is None:
            return False
        unit, side, other = chosen
        if other is not None:
            self._sides.put(other, self._sides.side[unit])
        self._sides.put(unit, side)
        return True
