"""Axes that several pictures of figures share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# percent; a shorter axis would make differences of a tenth of a point look like something
LEAST_TOP: Final = 10.0


def top_of(percents: Iterable[float | None], room: float = 1.12) -> float:
    """Where an axis of AP in percent ends: all values fit, and those near 0 stay near 0.

    Args:
        percents: What is drawn; ``None`` is not.
        room: The axis is this much longer than the largest value.
    """
    return max(LEAST_TOP, room * max((value for value in percents if value is not None), default=0.0))
