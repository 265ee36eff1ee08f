"""Flat masks: the same bitmaps as pycocotools."""

import json
import pickle

import msgspec
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch.nn import functional as F

from lt_data.errors import DataError
from lt_train.data.instance_masks import InstanceMasks, MaskKind, mask_kinds

torch.set_num_threads(1)

HEIGHT, WIDTH = 60, 80


def star(rng, height=HEIGHT, width=WIDTH, points=12):
    """A polygon with a bay or two, partly outside the image now and then."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(0.1, 0.45, points) * min(height, width)
    centre = rng.uniform(0, 1, 2) * [width, height]
    return (centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)).reshape(-1).tolist()


def uncompressed(bitmap):
    """COCO's plain run lengths: columns, starting with a run of zeros."""
    flat = bitmap.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(bitmap.shape), "counts": runs if flat[0] == 0 else [0, *runs]}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def mixed(rng):
    """One instance of every kind, and the bitmap that each must give."""
    bitmap = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    bitmap[10:30, 5:50] = rng.random((20, 45)) < 0.7
    compressed = coco_mask.encode(np.asfortranarray(bitmap))
    polygons = [star(rng), star(rng)]
    segmentations = [
        [star(rng)],
        polygons,
        {"size": [HEIGHT, WIDTH], "counts": compressed["counts"]},
        {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()},
        uncompressed(bitmap),
        None,
        [[1.0, 2.0, 30.0, 40.0]],
    ]
    wanted = []
    for segmentation in segmentations[:2]:
        wanted.append(coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, HEIGHT, WIDTH))))
    empty = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    return segmentations, np.stack([*wanted, bitmap, bitmap, bitmap, empty, empty])


def test_bitmaps_are_those_of_pycocotools(mixed):
    segmentations, wanted = mixed
    masks = InstanceMasks.from_segmentations(segmentations, HEIGHT, WIDTH)
    assert len(masks) == 7
    bitmaps = masks.bitmaps()
    assert bitmaps.dtype == np.uint8
    assert bitmaps.flags.c_contiguous
    np.testing.assert_array_equal(bitmaps, wanted)
    np.testing.assert_array_equal(masks.bitmaps([4, 0, 0]), wanted[[4, 0, 0]])
    assert masks.bitmaps(np.zeros(0, dtype=int)).shape == (0, HEIGHT, WIDTH)


def test_an_instance_without_segmentation_takes_its_box(mixed):
    segmentations, wanted = mixed
    boxes = np.tile([10.0, 20.0, 30.0, 45.0], (7, 1))
    bitmaps = InstanceMasks.from_segmentations(segmentations, HEIGHT, WIDTH, boxes=boxes).bitmaps()
    np.testing.assert_array_equal(bitmaps[:5], wanted[:5])
    box = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    box[20:45, 10:30] = 1
    np.testing.assert_array_equal(bitmaps[5], box)
    np.testing.assert_array_equal(bitmaps[6], box)


@pytest.mark.parametrize("index", [[3, 1], [], slice(1, 6, 2), np.array([True, False, True, False, False, True, True])])
def test_select(mixed, index):
    segmentations, wanted = mixed
    masks = InstanceMasks.from_segmentations(segmentations, HEIGHT, WIDTH)
    chosen = np.arange(7)[index]
    assert len(masks[index]) == len(chosen)
    np.testing.assert_array_equal(masks.select(index).bitmaps(), wanted[chosen.astype(int)])


def test_flip(mixed):
    """Run lengths mirror exactly; polygons up to the half pixel that rasterising rounds."""
    segmentations, wanted = mixed
    masks = InstanceMasks.from_segmentations(segmentations, HEIGHT, WIDTH)
    flipped = masks.flip_horizontal().bitmaps()
    np.testing.assert_array_equal(flipped[2:], wanted[2:, :, ::-1])
    assert (flipped[:2] != wanted[:2, :, ::-1]).mean() < 0.01
    back = masks.flip_horizontal().flip_horizontal()
    np.testing.assert_allclose(back.xy, masks.xy)


def test_flip_of_a_box_is_exact():
    masks = InstanceMasks.from_segmentations([[[10, 5, 30, 5, 30, 25, 10, 25]]], HEIGHT, WIDTH)
    np.testing.assert_array_equal(masks.flip_horizontal().bitmaps(), masks.bitmaps()[:, :, ::-1])


@pytest.mark.parametrize("size", [(120, 160), (90, 120), (31, 41), (60, 80)])
def test_resize(mixed, size):
    """Run lengths as torchvision's transform resizes bitmaps; polygons scale as points."""
    segmentations, wanted = mixed
    masks = InstanceMasks.from_segmentations(segmentations, HEIGHT, WIDTH).resize(*size)
    bitmaps = masks.bitmaps()
    assert bitmaps.shape == (7, *size)
    stock = F.interpolate(torch.from_numpy(wanted)[:, None].float(), size=size)[:, 0].byte().numpy()
    np.testing.assert_array_equal(bitmaps[2:], stock[2:])
    scaled = [
        [(np.reshape(p, (-1, 2)) * [size[1] / WIDTH, size[0] / HEIGHT]).reshape(-1).tolist() for p in polygons]
        for polygons in segmentations[:2]
    ]
    np.testing.assert_array_equal(bitmaps[:2], InstanceMasks.from_segmentations(scaled, *size).bitmaps())


def test_pickles_and_is_small(mixed):
    segmentations, wanted = mixed
    masks = InstanceMasks.from_segmentations(segmentations, HEIGHT, WIDTH)
    data = pickle.dumps(masks)
    np.testing.assert_array_equal(pickle.loads(data).bitmaps(), wanted)
    assert len(data) < 8000


def test_run_lengths_of_another_size():
    with pytest.raises(DataError, match="10 high and 20 wide, the image is 60 high"):
        InstanceMasks.from_segmentations([{"size": [10, 20], "counts": [200]}], HEIGHT, WIDTH)


def test_malformed_polygons_are_left_out():
    """A list of odd length, numbers that are no list, and points as pairs."""
    sound = [10.0, 10.0, 20.0, 10.0, 20.0, 20.0, 10.0, 20.0]
    segmentations = [[sound, [*sound, 3.0]], [[*sound, 3.0]], sound, [[[1, 2], [3, 4], [5]]]]
    bitmaps = InstanceMasks.from_segmentations(segmentations, HEIGHT, WIDTH).bitmaps()
    assert bitmaps.sum((1, 2)).tolist() == [100, 0, 0, 0]


def raw(*segmentations):
    return [msgspec.Raw(json.dumps({"id": 1, "segmentation": s}).encode()) for s in segmentations]


def test_kinds_do_not_depend_on_the_other_masks_of_a_chunk(mixed):
    segmentations, _ = mixed
    usable = [s if not isinstance(s, dict) or isinstance(s["counts"], str | list) else None for s in segmentations]
    others = [{"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}, {"size": [HEIGHT, WIDTH], "counts": "04"}, [1, 2]]
    sizes = np.tile([WIDTH, HEIGHT], (len(usable) + 3, 1))
    mask, box = MaskKind.MASK, MaskKind.BOX
    wanted = [mask, mask, box, mask, mask, box, box, MaskKind.WRONG_SIZE, MaskKind.UNFILLED, MaskKind.UNREADABLE]
    # the last makes the whole chunk go one by one
    assert mask_kinds(raw(*usable, *others), sizes).tolist() == wanted
    assert mask_kinds(raw(*usable, *others[:2]), sizes[:-1]).tolist() == wanted[:-1]
    assert len(mask_kinds([], sizes[:0])) == 0


def test_no_instance():
    masks = InstanceMasks.from_segmentations([], HEIGHT, WIDTH)
    assert len(masks) == 0
    assert len(masks.flip_horizontal().resize(30, 40)) == 0
    assert len(masks.runs()) == 0
