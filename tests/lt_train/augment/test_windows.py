"""Windows and scales: the same pixels, boxes and masks as torchvision's transforms make of bitmaps."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from lt_train.augment.windows import Window, crop, rescale, window_around
from lt_train.data.dataset import flip_horizontally
from lt_train.data.images import resized_size
from lt_train.data.instance_masks import InstanceMasks
from lt_train.detectors.transform import LongTailTransform

SIDES = 60, 80


def polygon(rng, reach):
    """A star whose points may lie up to a few pixels outside the image."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    centre = rng.uniform(0, 1, 2) * [SIDES[1], SIDES[0]]
    return (centre + rng.uniform(3, reach, (9, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)).ravel().tolist()


def scene(seed, *, runs=False):
    """An image with five objects, two polygons of one among them; as run lengths, if asked for."""
    rng = np.random.default_rng(seed)
    shapes = [[polygon(rng, 25)], [polygon(rng, 12), polygon(rng, 20)], [polygon(rng, 40)], [polygon(rng, 9)]]
    drawn = [coco_mask.merge(coco_mask.frPyObjects(shape, *SIDES)) for shape in shapes]
    shapes[3] = drawn[3]
    boxes = coco_mask.toBbox(drawn)
    boxes[:, 2:] += boxes[:, :2]
    image = torch.from_numpy(rng.integers(0, 256, (*SIDES, 3), dtype=np.uint8)).permute(2, 0, 1)
    target = {
        "image_id": 1,
        "boxes": torch.from_numpy(boxes).float(),
        "labels": torch.arange(1, 5),
        "ignore": torch.tensor([[0.0, 0, 30, 20], [70, 50, 80, 60]]),
        "short_side": 48,
        "masks": InstanceMasks.from_segmentations(drawn if runs else shapes, *SIDES),
    }
    return image, target


def by_torchvision(image, target, window):
    """Image, boxes and bitmaps in a window."""
    left, top, width, height = window
    boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=SIDES)
    bitmaps = tv_tensors.Mask(torch.from_numpy(target["masks"].bitmaps()).bool())
    return [functional.crop(part, top, left, height, width) for part in (tv_tensors.Image(image), boxes, bitmaps)]


@pytest.mark.parametrize("seed", range(12))
def test_a_window_is_that_of_torchvision(seed):
    """Pixels, boxes and bitmaps are equal; what is left of no object is left out, in every form of the masks."""
    image, target = scene(seed)
    places = np.random.default_rng(seed).integers(1, 30, 4).tolist()
    window = Window(*places[:2], 80 - places[0] - places[2], 60 - places[1] - places[3])
    pixels, cut = crop(image, target, window, 0.0)
    wanted_pixels, boxes, bitmaps = by_torchvision(image, target, window)
    there = ((boxes[:, 2:] > boxes[:, :2]).all(1)) & bitmaps.flatten(1).any(1)
    assert torch.equal(pixels, wanted_pixels)
    assert torch.equal(cut["boxes"], boxes[there])
    assert cut["labels"].tolist() == target["labels"][there].tolist()
    assert np.array_equal(cut["masks"].bitmaps(), bitmaps[there].numpy())
    # runs of pixels, a window of a window, and a mirror keep the pixels too
    runs = cut["masks"].runs()
    for number, (first, end) in enumerate(zip(runs.bounds.tolist(), runs.bounds[1:].tolist(), strict=False)):
        drawn = np.zeros((window.height, window.width), np.uint8)
        for column, low, high in runs.table[:, first:end].T.tolist():
            drawn[low:high, column] = 1
        assert np.array_equal(drawn, bitmaps[there][number].numpy())
    inner = cut["masks"].crop(3, 2, window.width - 5, window.height - 6)
    assert np.array_equal(inner.bitmaps(), bitmaps[there][:, 2:-4, 3:-2].numpy())
    # a mirrored window is the window of the mirror
    mirror = flip_horizontally(image, target)
    theirs = crop(*mirror, Window(80 - window.left - window.width, *window[1:]), 0.0)
    ours = flip_horizontally(pixels, cut)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1]["boxes"], theirs[1]["boxes"])
    assert np.array_equal(ours[1]["masks"].bitmaps(), theirs[1]["masks"].bitmaps())


def test_a_window_on_its_way_to_the_model_is_scaled_as_torchvision_does():
    """Window, then the detector's resize; run lengths by nearest neighbour, so that both are equal."""
    transform = LongTailTransform((48,), 64, [0.0] * 3, [1.0] * 3)
    for seed in range(4):
        image, target = scene(seed, runs=True)
        draws = torch.rand(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        pixels, cut = rescale(image, target, (1.2, 2.0), max_size=64, kept=0.0, draws=draws)
        factor = 1.2 + 0.8 * float(draws[0])
        assert pixels.shape[-2:] == (round(60 / factor), round(80 / factor))
        resized, found = transform.resize(pixels.float(), dict(cut))
        size = resized_size(*pixels.shape[-2:], 48, 64)
        assert tuple(resized.shape[-2:]) == size
        assert abs(size[0] - 48) <= 1
        top, left = (int(float(d) * (s - o + 1)) for d, s, o in zip(draws[1:], SIDES, pixels.shape[-2:], strict=True))
        _, boxes, bitmaps = by_torchvision(image, target, (left, top, pixels.shape[2], pixels.shape[1]))
        there = bitmaps.flatten(1).any(1)
        torch.testing.assert_close(found["boxes"], torch.Tensor(functional.resize(boxes, list(size)))[there])
        wanted = functional.resize(bitmaps.byte(), list(size), interpolation=functional.InterpolationMode.NEAREST)
        assert np.array_equal(found["masks"].bitmaps(), wanted[there].numpy())


def test_a_smaller_scale_is_a_shorter_side():
    image, target = scene(0)
    draws = torch.tensor([0.25, 0.5, 0.5])
    for scales, side in (((0.8, 1.0), round(48 * 0.85)), ((0.1, 0.2), 32)):
        same, smaller = rescale(image, target, scales, max_size=64, kept=0.0, draws=draws)
        assert same is image
        assert smaller["short_side"] == side
        assert torch.equal(smaller["boxes"], target["boxes"])
    # where the longest side bounds the size, that size is scaled
    assert rescale(image, target, (0.9, 0.9), max_size=50, kept=0.0, draws=draws)[1]["short_side"] == round(37 * 0.9)


def test_objects_of_which_little_is_left_are_dropped():
    image, target = scene(1)
    target = {
        "boxes": torch.tensor([[0.0, 0, 20, 10], [15, 0, 25, 10], [50, 50, 60, 60]]),
        "labels": torch.tensor([1, 2, 3]),
    }
    for kept, labels in ((0.0, [1, 2]), (0.25, [1, 2]), (0.26, [2]), (1.0, [2])):
        _, cut = crop(image, target, Window(15, 0, 20, 20), kept)
        assert cut["labels"].tolist() == labels
        assert "ignore" not in cut


def test_regions_are_cut_and_those_outside_are_gone():
    image, target = scene(1)
    _, cut = crop(image, target, Window(10, 10, 30, 30), 0.0)
    assert cut["ignore"].tolist() == [[0, 0, 20, 10]]
    assert "ignore" not in crop(image, target, Window(31, 21, 30, 20), 0.0)[1]


@pytest.mark.parametrize("only", [None, 3])
def test_a_window_holds_the_centre_of_an_object(only):
    _, target = scene(3)
    if only:
        target["only"] = only
    chosen = set()
    for seed in range(200):
        draws = torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        left, top, width, height = window_around(target, SIDES, (0.2, 0.7), draws)
        assert 0.2 * 60 - 1 <= height <= 0.7 * 60 + 1
        assert 0.2 * 80 - 1 <= width <= 0.7 * 80 + 1
        assert 0 <= left <= 80 - width
        assert 0 <= top <= 60 - height
        centres = (target["boxes"][:, :2] + target["boxes"][:, 2:]) / 2
        corner, size = torch.tensor([left, top]), torch.tensor([width, height])
        inside = ((centres >= corner) & (centres < corner + size)).all(1)
        assert bool(inside[2] if only else inside.any())
        chosen.add((left, top))
    assert len(chosen) > 100
