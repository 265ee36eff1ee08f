"""Masks measured a chunk at a time, against pycocotools and one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from lt_data.masks.measure import EMPTY, MaskColumns, RunLengths, measure_masks
from lt_data.masks.rle import decode_runs


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return np.array(bits, np.uint8).reshape(height, width)


def runs_of(mask):
    flat = np.concatenate([[0], mask.flatten("F"), [2]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], ends])).tolist()
    return runs if mask.flatten("F")[0] == 0 or runs[0] == 0 else [0, *runs]


@given(st.lists(masks(), min_size=1, max_size=5), st.booleans())
@settings(max_examples=60)
def test_run_lengths_measure_as_pycocotools(given_masks, as_strings):
    packed = [coco_mask.encode(np.asfortranarray(mask)) for mask in given_masks]
    counts = [rle["counts"].decode() for rle in packed] if as_strings else [runs_of(mask) for mask in given_masks]
    segmentations = [RunLengths(rle["size"], c) for rle, c in zip(packed, counts, strict=True)]
    columns = MaskColumns.empty(len(segmentations))
    measure_masks(segmentations, columns)
    for row, (mask, rle) in enumerate(zip(given_masks, packed, strict=True)):
        if not mask.any():
            assert columns.faults[row] == EMPTY
            continue
        x, y, width, height = coco_mask.toBbox(rle)
        assert columns.faults[row] == 0
        assert columns.extents[row].tolist() == [x, y, x + width, y + height]
        assert columns.areas[row] == coco_mask.area(rle) == mask.sum()


@given(st.lists(st.binary(max_size=12), max_size=4), st.integers(2, 2**20))
@settings(max_examples=80)
def test_any_string_is_unpacked_or_called_broken(noise, length):
    """Noise never changes what is read of its neighbours."""
    sound = coco_mask.frPyObjects({"size": [1, length], "counts": [1, length - 1]}, 1, length)["counts"]
    runs, bounds, broken = decode_runs([sound, *noise, sound])
    assert not broken[0]
    assert not broken[-1]
    assert not np.diff(bounds)[broken].any()
    assert runs[:2].tolist() == runs[-2:].tolist() == [1, length - 1]


@given(st.lists(st.lists(st.lists(st.integers(0, 99), min_size=6, max_size=9), max_size=3), min_size=1, max_size=4))
@settings(max_examples=60)
def test_polygons_measure_one_by_one_as_together(segmentations):
    columns = MaskColumns.empty(len(segmentations))
    measure_masks([[[float(v) for v in polygon] for polygon in s] for s in segmentations], columns)
    for row, polygons in enumerate(segmentations):
        sound = [np.reshape(polygon, (-1, 2)) for polygon in polygons if len(polygon) % 2 == 0]
        if not sound:
            assert np.isnan(columns.areas[row])
            continue
        points = np.concatenate(sound)
        assert columns.extents[row].tolist() == [*points.min(0), *points.max(0)]
        assert columns.areas[row] == sum(shoelace(polygon) for polygon in sound)


def shoelace(points):
    pairs = zip(points.tolist(), np.roll(points, -1, 0).tolist(), strict=True)
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) / 2
