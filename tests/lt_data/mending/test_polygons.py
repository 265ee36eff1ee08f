"""Clipped polygons cover what the whole ones cover in the image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from lt_data.mending.polygons import clipped_polygons

SIZE = (24, 16)
# pixels that are added on every side, so that the whole polygon can be drawn
MARGIN = 20
POINTS = st.lists(st.tuples(st.integers(-MARGIN, 44), st.integers(-MARGIN, 36)), min_size=3, max_size=7)


def drawn(polygons):
    """How much of each pixel of the image is covered, by a mask of eight times the size."""
    if not polygons:
        return np.zeros((SIZE[1], SIZE[0]))
    scale, height, width = 8, SIZE[1] + 2 * MARGIN, SIZE[0] + 2 * MARGIN
    moved = [[(number + MARGIN) * scale for number in polygon] for polygon in polygons]
    runs = coco_mask.merge(coco_mask.frPyObjects(moved, height * scale, width * scale))
    shares = coco_mask.decode(runs).reshape(height, scale, width, scale).mean((1, 3))
    return shares[MARGIN : MARGIN + SIZE[1], MARGIN : MARGIN + SIZE[0]]


def test_a_square_over_a_corner():
    square = [-4.0, -4.0, 6.0, -4.0, 6.0, 5.0, -4.0, 5.0]
    (clipped,) = clipped_polygons([square], SIZE)
    assert set(zip(clipped[0::2], clipped[1::2], strict=True)) == {(0, 0), (6.0, 0), (6.0, 5.0), (0, 5.0)}


def test_what_lies_outside_is_left_out_and_what_lies_inside_stays():
    inside, outside, beside = [1.5, 2.0, 9.25, 2.0, 4.0, 7.0], [30.0, 2.0, 40.0, 2.0, 35.0, 9.0], [24, 0, 24, 9, 30, 4]
    assert clipped_polygons([outside, inside, beside], SIZE) == [inside]


def test_halves_of_a_bow_tie_do_not_cancel():
    whole = [2.0, 2.0, 1.0, 1.0, 0.0, 2.0, 0.0, 1.0]
    assert clipped_polygons([whole], SIZE) == [whole]
    (cut,) = clipped_polygons([[-4.0, 2.0, 4.0, 10.0, 4.0, 2.0, -4.0, 10.0]], SIZE)
    assert drawn([cut]).sum() > 7
    # round a corner of the image from outside, and a line
    around, line = [-4.0, 5.0, -4.0, -4.0, 5.0, -4.0, 5.0, -1.0, -1.0, -1.0, -1.0, 5.0], [1.0, 1.0, 5.0, 5.0, 3.0, 3.0]
    assert clipped_polygons([around, line], SIZE) == []


@pytest.mark.parametrize("start", range(6))
def test_a_bent_line_and_back_covers_nothing_wherever_it_begins(start):
    way = [(1.0, 1.0), (5.0, 5.0), (5.0, 9.0), (8.0, 7.0), (5.0, 9.0), (5.0, 5.0)]
    line = [number for point in (*way[start:], *way[:start]) for number in point]
    assert clipped_polygons([line], SIZE) == []
    # with a bow tie on the way, whose halves cancel, it covers something
    tie = [*line[:2], line[0] + 2, line[1] + 1, line[0], line[1] + 1, line[0] + 2, line[1], *line]
    assert clipped_polygons([tie], SIZE) == [tie]


@settings(max_examples=60)
@given(points=POINTS)
def test_any_polygon_covers_the_same_pixels(points):
    polygon = [float(number) for point in points for number in point]
    before, after = drawn([polygon]), drawn(clipped_polygons([polygon], SIZE))
    # the way back along the edge may be drawn as a line of one small pixel
    inner = (slice(1, -1), slice(1, -1))
    assert np.abs(before - after)[inner].max() <= 0.3
    assert abs(before[inner].sum() - after[inner].sum()) <= 0.05 * before.size
