"""What boxes look like instead of x, y, width, height, from numbers alone."""

import numpy as np
import pytest

from lt_data.checks.boxes import box_form, contradicting_areas, small_areas, under_a_pixel

WIDTH, HEIGHT = 640, 480


def drawn(count=400, seed=0):
    """Sound boxes of all sizes, all over their images."""
    rng = np.random.default_rng(seed)
    sides = 4 + rng.random((count, 2)) ** 3 * [500, 400]
    low = rng.random((count, 2)) * ([WIDTH, HEIGHT] - sides)
    return np.concatenate([low, sides], 1), np.tile([WIDTH, HEIGHT], (count, 1))


def corners(boxes):
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def centres(boxes):
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], 1)


def fractions(boxes):
    return boxes / [WIDTH, HEIGHT, WIDTH, HEIGHT]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("form", [corners, centres, fractions])
def test_another_form_is_recognised(form, seed):
    boxes, sizes = drawn(seed=seed)
    assert box_form(form(boxes), sizes).form == form.__name__
    # a few odd ones do not hide the rest
    odd = np.tile([np.nan, 10, 5, 5], (20, 1))
    assert box_form(np.concatenate([form(boxes), odd]), np.concatenate([sizes, sizes[:20]])).form == form.__name__


@pytest.mark.parametrize("form", [corners, centres])
def test_rows_are_those_that_reach_beyond_their_image(form):
    boxes, sizes = drawn()
    written = form(boxes)
    found = box_form(written, sizes)
    beyond = (written[:, :2] + written[:, 2:] > sizes + 1).any(1)
    assert np.array_equal(found.shows, beyond)
    assert 0 < beyond.sum() < len(boxes)


@pytest.mark.parametrize("seed", range(5))
def test_sound_boxes_are_left_alone(seed):
    boxes, sizes = drawn(seed=seed)
    assert box_form(boxes, sizes) is None
    assert box_form(np.round(boxes), sizes) is None
    assert box_form(corners(boxes)[:1], sizes[:1]) is None
    # boxes that hang over every edge, as detectors without clipping write them
    rng = np.random.default_rng(seed)
    assert box_form(boxes + rng.normal(0, 20, boxes.shape) * [1, 1, 0, 0], sizes) is None
    # sizes that are turned are a mistake of the sizes
    assert box_form(boxes, sizes[:, ::-1]) is None


def test_nothing_is_told_without_sizes_or_boxes():
    boxes, sizes = drawn()
    assert box_form(corners(boxes), 0 * sizes) is None
    assert box_form(np.zeros((0, 4)), np.zeros((0, 2), np.int64)) is None
    assert box_form(np.full((3, 4), np.nan), sizes[:3]) is None
    # whole pixels in a corner are no fractions
    assert box_form(np.array([[0.0, 0, 1, 1]]), np.array([[64, 64]])) is None


def test_boxes_under_a_pixel():
    boxes = np.array([[1, 1, 0.5, 9], [1, 1, 9, 0.99], [1, 1, 1, 1], [1, 1, 0, 9], [1, 1, np.nan, 9]])
    assert under_a_pixel(boxes).tolist() == [True, True, False, False, False]


def test_areas_that_no_mask_in_the_box_has():
    boxes = np.tile([0.0, 0, 100, 100], (7, 1))
    areas = np.array([10_000, 19_000, 20_100, 100, 9, np.nan, 0])
    assert contradicting_areas(boxes, areas).tolist() == [False, False, True, False, True, False, False]
    # rounding of a small box
    assert not contradicting_areas(np.array([[0.0, 0, 2, 2]]), np.array([60.0])).any()


def test_areas_that_are_a_side_of_the_box():
    boxes, _ = drawn()
    assert small_areas(boxes, boxes[:, 2]).sum() > 0.8 * len(boxes)
    # masks of all sizes, and a few wrong areas among sound ones
    sound = boxes[:, 2:].prod(1) * np.random.default_rng(1).uniform(0.05, 1, len(boxes))
    assert not small_areas(boxes, sound).any()
    assert not small_areas(boxes[:9], boxes[:9, 2]).any()
    assert not small_areas(boxes, np.full(len(boxes), np.nan)).any()
