"""What the extents of masks tell: whether masks are in pixels at all, and whether they lie where their boxes are.

Columns in, rows out, for annotations and predictions alike.

Shapes: M masks; an extent is x1, y1, x2, y2 in pixels (NaN without a sound mask), a box x, y, width, height.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lt_data.arrays import BoolArray, FloatArray

# px by which mask and box may differ
MASK_TOLERANCE: Final = 2.0
# share of the masks that must lie within 0..1
_FRACTIONS: Final = 0.95
# share of the masks that a line needs; of COCO's and LVIS's own none lies outside its box
_OUTSIDE: Final = 0.05


def in_unit_square(extents: FloatArray) -> BoolArray:
    """Masks within 0..1 that do not cover a whole pixel, as fractions of an image are, [M]."""
    inside = (extents >= 0).all(1) & (extents <= 1).all(1)
    return np.asarray(inside & (extents % 1 != 0).any(1), bool)


def outside_box(extents: FloatArray, boxes: FloatArray) -> BoolArray:
    """Masks of which nothing is in their box, [M].

    Args:
        extents: [M, 4].
        boxes: [M, 4].
    """
    with np.errstate(invalid="ignore", over="ignore"):
        end = boxes[:, :2] + boxes[:, 2:]
        apart = np.maximum(extents[:, :2] - end, boxes[:, :2] - extents[:, 2:]).max(1, initial=-np.inf)
    return np.asarray(np.isfinite(boxes).all(1) & np.isfinite(extents).all(1) & (apart > MASK_TOLERANCE), bool)


def mask_notes(extents: FloatArray, boxes: FloatArray, source: str) -> list[str]:
    """A line if masks look like fractions of their images, or else if more than a few lie outside their boxes.

    Args:
        extents: [M, 4].
        boxes: [M, 4]; NaN where there is none.
        source: What to call them.
    """
    known = int(np.isfinite(extents).all(1).sum())
    fractions, outside = int(in_unit_square(extents).sum()), int(outside_box(extents, boxes).sum())
    if fractions and fractions >= _FRACTIONS * known:
        return [
            f"{source}: {fractions:,} of {known:,} masks have polygons that lie within 0..1: are they fractions of the "
            "image? They are taken for pixels"
        ]
    if outside and outside >= _OUTSIDE * known:
        text = "masks lie outside their box; one of both is of another form or image"
        return [f"{source}: {outside:,} of {known:,} {text}"]
    return []
