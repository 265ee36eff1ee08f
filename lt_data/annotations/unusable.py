"""Annotations whose box cannot be used: left out by training and evaluation alike, with a line; refused if many.

Shapes: A annotations.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lt_data.arrays import BoolArray, IntArray
from lt_data.errors import DataError

# px; training keeps boxes as float32, and a narrower one can lose its area when it is mirrored
SMALLEST_SIDE: Final = 2**-8
# a share of unusable boxes beyond this is a mistake in the file, not noise
LARGEST_DROPPED_SHARE: Final = 0.05


def has_size(sides: npt.NDArray[Any]) -> BoolArray:
    """Whether a box has a width and a height that can be worked with.

    Args:
        sides: Widths and heights in pixels, [A, 2]; NaN is none.
    """
    return np.asarray((sides >= SMALLEST_SIDE).all(axis=1))


def left_out(source: str, ids: IntArray, bad: BoolArray, what: str) -> tuple[str, ...]:
    """A line on annotations that are left out, if there are any.

    Args:
        source: What to call the file.
        ids: Annotation ids, [A].
        bad: Which annotations are left out, [A].
        what: What is wrong with them, after their number.

    Raises:
        DataError: They are more than 5 % of all.
    """
    if not bad.any():
        return ()
    examples = ", ".join(map(str, ids[bad][:3].tolist()))
    line = f"{source}: {int(bad.sum())} of {len(bad)} annotations {what} (annotation ids {examples})"
    if bad.mean() > LARGEST_DROPPED_SHARE:
        raise DataError(f"{line}; allowed are at most 5 %; mend the boxes")
    return (f"{line}; they are left out",)
