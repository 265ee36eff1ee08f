"""What boxes and areas tell about themselves: whether they are x, y, width, height in pixels at all.

Nothing here reads a file: columns in, rows out. Annotations and predictions are looked at with the same rules.

Shapes: A boxes; a box is four numbers that should be x, y, width, height in pixels, a size is the width and height of
its image (0 where not known).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np

from lt_data.arrays import BoolArray, FloatArray, IntArray

Form = Literal["corners", "centres", "fractions"]

# px by which a box may lie over the edge of its image: official files round
IMAGE_TOLERANCE: Final = 1.0
# share of the boxes that another form must explain; of COCO's own boxes 12 % could be corners and 76 % centres
_EXPLAINED: Final = 0.95
# share of the boxes that must reach beyond their image as they are, and how many at least; of COCO's own none does
_BEYOND: Final = 0.05
_FEWEST_BEYOND: Final = 2
# share of its side by which a box may lie over the edge where boxes are not cut off there
_OVER_EDGE: Final = 0.1
# factor by which area may be above that of the box, and the px^2 that never count
_AREA_FACTOR: Final = 2.0
_AREA_TOLERANCE: Final = 64.0
# share of its box that an object has at least; in COCO and LVIS the thinnest ones have a hundredth
_LEAST_AREA: Final = 0.001
# share of their box below which areas are suspected, and how many of them at least, which must be most of the file's;
# the median of COCO's masks is 0.6
_SMALL_AREA: Final = 0.2
_FEWEST_SMALL: Final = 10


class BoxForm(NamedTuple):
    """What boxes look like instead of x, y, width, height, and the rows that show it, [A]."""

    form: Form
    shows: BoolArray


def box_form(boxes: FloatArray, sizes: IntArray) -> BoxForm | None:
    """Another form that nearly all boxes have, if there is one.

    Boxes in 0..1 with a fraction among them look like fractions. Others are suspected only where several reach beyond
    their image, and nearly all would lie inside it as corners (x1, y1, x2, y2) or as centres (x, y, width, height).

    Args:
        boxes: [A, 4]; rows that are not finite are left out.
        sizes: Width and height of the image of each, [A, 2].
    """
    finite = np.asarray(np.isfinite(boxes).all(1), bool)
    if not finite.any():
        return None
    relative = finite & np.asarray(((boxes >= 0) & (boxes <= 1)).all(1), bool)
    if relative.sum() >= _EXPLAINED * finite.sum() and (boxes[relative] % 1 != 0).any():
        return BoxForm("fractions", relative)
    known = finite & np.asarray((boxes[:, 2:] > 0).all(1) & (sizes > 0).all(1), bool)
    with np.errstate(over="ignore", invalid="ignore"):
        beyond = known & np.asarray((boxes[:, :2] + boxes[:, 2:] > sizes + IMAGE_TOLERANCE).any(1), bool)
        if beyond.sum() < max(_FEWEST_BEYOND, _BEYOND * known.sum()):
            return None
        forms: tuple[Form, ...] = ("corners", "centres")
        for form in forms:
            fits = known & _lies_inside(form, boxes, sizes)
            if fits.sum() >= _EXPLAINED * known.sum():
                return BoxForm(form, beyond & fits)
    return None


def _lies_inside(form: Form, boxes: FloatArray, sizes: IntArray) -> BoolArray:
    """Whether each box would be a box inside its image if it were of another form, [A]."""
    low, second = boxes[:, :2], boxes[:, 2:]
    if form == "centres":
        low, high = low - second / 2, low + second / 2
    else:
        high = second
    inside = (low >= -IMAGE_TOLERANCE) & (high <= sizes + IMAGE_TOLERANCE) & (high >= low)
    return np.asarray(inside.all(1), bool)


def beyond_image(boxes: FloatArray, sizes: IntArray) -> BoolArray:
    """Boxes that lie outside their image, or over its edge by more than a tenth of their side, [A].

    Args:
        boxes: [A, 4].
        sizes: Width and height of the image of each, [A, 2].
    """
    low, sides = boxes[:, :2], boxes[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        known = np.isfinite(boxes).all(1) & (sides > 0).all(1) & (sizes > 0).all(1)
        over = np.maximum(-low, low + sides - sizes)
        return np.asarray(known & (over > np.maximum(IMAGE_TOLERANCE, _OVER_EDGE * sides)).any(1), bool)


def under_a_pixel(boxes: FloatArray) -> BoolArray:
    """Boxes with an area and a side below one pixel, [A]; several training programs leave them out unsaid."""
    sides = boxes[:, 2:]
    return np.asarray(np.isfinite(boxes).all(1) & (sides > 0).all(1) & (sides < 1).any(1), bool)


def contradicting_areas(boxes: FloatArray, areas: FloatArray) -> BoolArray:
    """Areas above twice that of the box, or below a thousandth of it, [A]; no mask in the box has them.

    Args:
        boxes: [A, 4].
        areas: px^2, [A]; those that are missing or not above 0 contradict nothing.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        of_box = boxes[:, 2:].prod(1)
        known = np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1) & np.isfinite(areas) & (areas > 0)
        above = (areas > _AREA_FACTOR * of_box) & (areas - of_box > _AREA_TOLERANCE)
        below = (areas < _LEAST_AREA * of_box) & (of_box - areas > _AREA_TOLERANCE)
        contradicting: BoolArray = known & (above | below)
    return contradicting


def small_areas(boxes: FloatArray, areas: FloatArray) -> BoolArray:
    """Areas below a fifth of the box, [A], if most are; else none: a side or a constant was written for the area.

    Args:
        boxes: [A, 4], of annotations without a mask: the masks of thin objects may all be so small.
        areas: px^2, [A]; those that are missing or not above 0 are left out.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        of_box = boxes[:, 2:].prod(1)
        known = np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1) & np.isfinite(areas) & (areas > 0)
        small: BoolArray = known & (areas < _SMALL_AREA * of_box) & (of_box - areas > _AREA_TOLERANCE)
    return small if small.sum() >= max(_FEWEST_SMALL, known.sum() / 2) else np.zeros_like(small)
