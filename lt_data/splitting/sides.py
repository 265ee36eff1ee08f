"""The sides of a split while it is made: what each holds, what it should hold, and what a change would be worth.

Everything is counted in whole images and summed in a fixed order, so every machine finds the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from lt_data.splitting.labels import Labels

# a change that gains less is none: rounding must not move images to and fro
_LEAST_GAIN: Final = 1e-9
NOWHERE: Final = -1


class Worth(NamedTuple):
    """What a split lacks, or what a change adds to that; compared in this order, less is better.

    Attributes:
        missing: Categories that a side has none of, over all sides, of those that two units or more hold.
        untrained: Categories that the first side has none of, where the first is the training side.
        deviation: Squared distance of images from the share, over the share, summed over labels and sides.
    """

    missing: int
    untrained: int
    deviation: float

    @property
    def is_better(self) -> bool:
        """Whether a change of this worth is one for the better."""
        counts = (self.missing, self.untrained)
        return counts < (0, 0) or (counts == (0, 0) and self.deviation < -_LEAST_GAIN)


class Sides:
    """Which unit lies on which side.

    Args:
        labels: Of the units.
        sizes: Images that each side is to have; their sum is that of the units.
        first_trains: Whether a category that cannot be on all sides is wanted on the first.
    """

    def __init__(self, labels: Labels, sizes: Sequence[int], *, first_trains: bool) -> None:
        width, total = labels.width, labels.images
        self.labels, self.wanted, self.first_trains = labels, list(sizes), first_trains
        self.side = [NOWHERE] * len(labels.sizes)
        self.images, self.units = [0] * len(sizes), [0] * len(sizes)
        self.held = [[0] * width for _ in sizes]
        self.holders: list[list[int]] = [[] for _ in range(width)]
        amounts = [0] * width
        for unit, row in enumerate(labels.rows):
            for category, images in row:
                self.holders[category].append(unit)
                amounts[category] += images
        self.share = [[amount * size / total for amount in amounts] for size in sizes]
        # what stands for no object and for any is nothing that a side could lack
        self.splittable = [len(units) > 1 for units in self.holders[: labels.categories]] + [False, False]
        # objects weigh as much as the images that hold them
        self.weight = [1.0] * (width - 1) + [len(self.holders[-1]) / max(amounts[-1], 1)]
        self.slack = max(labels.sizes) - 1

    def put(self, unit: int, side: int) -> None:
        """Puts a unit on a side, from wherever it was."""
        before = self.side[unit]
        for sign, where in ((-1, before), (1, side)):
            if where == NOWHERE:
                continue
            self.units[where] += sign
            self.images[where] += sign * self.labels.sizes[unit]
            for category, images in self.labels.rows[unit]:
                self.held[where][category] += sign * images
        self.side[unit] = side

    def fits(self, unit: int, side: int, other: int | None) -> bool:
        """Whether a unit may go to a side, in exchange for another or alone: no side empty or off by a whole unit."""
        start = self.side[unit]
        moved = self.labels.sizes[unit] - (0 if other is None else self.labels.sizes[other])
        if other is None and self.units[start] == 1:
            return False
        return all(
            abs(self.images[k] + change - self.wanted[k]) <= self.slack
            for k, change in ((start, -moved), (side, moved))
        )

    def change(self, unit: int, side: int, other: int | None) -> Worth:
        """What it would be worth to put a unit on a side, and another from there in its place."""
        start, net = self.side[unit], dict(self.labels.rows[unit])
        moved = self.labels.sizes[unit]
        if other is not None:
            moved -= self.labels.sizes[other]
            for category, images in self.labels.rows[other]:
                net[category] = net.get(category, 0) - images
        missing = untrained = 0
        deviation = 0.0
        for where, sign in ((start, -1), (side, 1)):
            held, share = self.held[where], self.share[where]
            off = self.images[where] - self.wanted[where]
            deviation += sign * moved * (2 * off + sign * moved) / self.wanted[where]
            for category, images in net.items():
                if not images:
                    continue
                have, step = held[category], sign * images
                deviation += self.weight[category] * step * (2 * (have - share[category]) + step) / share[category]
                gone = (have + step == 0) - (have == 0)
                missing += gone if self.splittable[category] else 0
                untrained += gone if self.first_trains and where == 0 and category < self.labels.categories else 0
        return Worth(missing, untrained, deviation)

    def worth(self) -> Worth:
        """What the whole split lacks."""
        missing = untrained = 0
        deviation = 0.0
        for k, (held, share) in enumerate(zip(self.held, self.share, strict=True)):
            deviation += (self.images[k] - self.wanted[k]) ** 2 / self.wanted[k]
            for category, (have, wanted) in enumerate(zip(held, share, strict=True)):
                if wanted:
                    deviation += self.weight[category] * (have - wanted) ** 2 / wanted
                    missing += not have and self.splittable[category]
                    untrained += not have and self.first_trains and k == 0 and category < self.labels.categories
        return Worth(missing, untrained, deviation)
