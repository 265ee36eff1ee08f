"""Where the values of some classes part into a lower and an upper half, for messages about a number that parts none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context
from typing import Final

# digits that tell any two numbers of a computer apart
_ALL_DIGITS: Final = 17


@dataclass(frozen=True)
class Halves:
    """Two parts of some values, about equally many, every one of the lower part smaller than every one of the upper.

    Attributes:
        last: The largest value of the lower part.
        first: The smallest value of the upper part.
        lower: How many values are in the lower part, from 1 on.
        values: How many there are, more than that.
    """

    last: float
    first: float
    lower: int
    values: int

    @property
    def threshold(self) -> float:
        """The number with the fewest digits that the lower part, and no other value, lies below; at most ``first``."""
        for digits in range(1, _ALL_DIGITS):
            short = float(Context(prec=digits, rounding=ROUND_FLOOR).create_decimal_from_float(self.first))
            if short > self.last:
                return short
        return self.first


def halves(values: Sequence[float]) -> Halves | None:
    """Parts values as nearly in the middle as equal ones allow; ``None`` where all are equal.

    Args:
        values: In any order.
    """
    ordered = sorted(values)
    borders = [i for i in range(1, len(ordered)) if ordered[i - 1] < ordered[i]]
    if not borders:
        return None
    middle = min(borders, key=lambda i: abs(2 * i - len(ordered)))
    return Halves(ordered[middle - 1], ordered[middle], middle, len(ordered))
