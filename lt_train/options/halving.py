"""A threshold that fits the data at hand, for messages about one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, Context


def halving_threshold(values: Sequence[float]) -> float:
    """A number of two digits that about half of the values lie below, and one of them at least.

    Args:
        values: At least one, all positive.
    """
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    above = next((value for value in ordered if value > ordered[0]), 1.1 * ordered[0])
    # rounded up: what is as small as the number itself does not lie below it
    return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal_from_float(max(middle, above)))
