"""Targets of the mask loss: torchvision's on full bitmaps, and detectron2's from polygons, without full bitmaps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from lt_train.data import mask_runs
from lt_train.data.instance_masks import InstanceMasks
from lt_train.data.mask_targets import mask_targets, polygon_targets


def star(rng, height, width, points=12):
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(0.05, 0.45, points) * min(height, width)
    centre = rng.uniform(0, 1, 2) * [width, height]
    return (centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)).reshape(-1).tolist()


def scene(seed, height, width, instances=9):
    """Polygons of one and two parts, noise, nothing, and everything."""
    rng = np.random.default_rng(seed)
    noise = coco_mask.encode(np.asfortranarray(rng.random((height, width)) < 0.5, dtype=np.uint8))
    everything = [0, 0, width, 0, width, height, 0, height]
    parts = [[star(rng, height, width) for _ in range(1 + i % 2)] for i in range(instances)]
    return rng, InstanceMasks.from_segmentations([*parts, noise, None, [everything]], height, width)


def regions(rng, count, height, width, outside=0.0):
    """Boxes of all sizes, some at the border, down to less than a pixel; ``outside`` lets them leave the image."""
    low = rng.uniform(-0.2, 0.9, (count, 2)) * [width, height]
    far = low + rng.uniform(0.1, 1.0, (count, 2)) * [width, height] * rng.choice([0.005, 0.05, 0.3, 1.1], (count, 1))
    boxes = np.concatenate([low, far], 1)
    margin = outside * np.array([width, height] * 2)
    return torch.from_numpy(np.clip(boxes, -margin, [width, height] * 2 + margin)).float()


def by_torchvision(masks, boxes, matched, size):
    return project_masks_on_boxes(torch.from_numpy(masks.bitmaps()), boxes, matched, size)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (128, 128), (300, 400), (800, 1066), (1, 50), (50, 1)])
@pytest.mark.parametrize("size", [14, 28])
@pytest.mark.parametrize("most", [mask_runs.MAX_NUMBERS, 2000])
def test_exact_targets_are_those_of_torchvision(monkeypatch, height, width, size, most):
    monkeypatch.setattr(mask_runs, "MAX_NUMBERS", most)
    rng, masks = scene(0, height, width)
    boxes, matched = regions(rng, 60, height, width), torch.from_numpy(rng.integers(0, len(masks), 60))
    wanted = by_torchvision(masks, boxes, matched, size)
    assert float(wanted.max()) > 0.5
    for form in (masks, masks.runs()):
        got = mask_targets(form, boxes, matched, size, "exact")
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 90), st.integers(1, 90))
def test_exact_targets_of_any_scene(seed, height, width):
    """Regions may leave the image here."""
    rng, masks = scene(seed, height, width, instances=3)
    boxes, matched = regions(rng, 12, height, width, outside=0.5), torch.from_numpy(rng.integers(0, len(masks), 12))
    wanted = by_torchvision(masks, boxes, matched, 7)
    torch.testing.assert_close(mask_targets(masks, boxes, matched, 7, "exact"), wanted, atol=1e-5, rtol=0)


def test_the_way_without_asking_the_device_is_the_same(monkeypatch):
    """What a GPU computes: full padding and tables over the whole image."""
    rng, masks = scene(3, 90, 120)
    runs, boxes = masks.runs(), regions(rng, 40, 90, 120)
    matched = torch.from_numpy(rng.integers(0, len(masks), 40))
    wanted = mask_targets(runs, boxes, matched, 28, "exact")
    monkeypatch.setattr(mask_runs, "_on_host", lambda tensor: False)
    torch.testing.assert_close(mask_targets(runs, boxes, matched, 28, "exact"), wanted, atol=1e-6, rtol=0)


def test_half_precision_of_the_layers_leaves_targets_exact():
    rng, masks = scene(5, 200, 300)
    boxes, matched = regions(rng, 60, 200, 300), torch.from_numpy(rng.integers(0, len(masks), 60))
    for form in (masks, masks.runs()):
        wanted = mask_targets(form, boxes, matched, 28, "exact")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = mask_targets(form, boxes, matched, 28, "exact")
        assert got.dtype == torch.float32
        assert torch.equal(got, wanted)


def by_detectron2(masks, boxes, matched, size):
    """Its loop over regions, written from its description: scale the polygons of each, draw and unite them."""
    targets = np.zeros((len(boxes), size, size))
    for row, (box, instance) in enumerate(zip(boxes.double().tolist(), matched.tolist(), strict=True)):
        ratio = [size / max(box[2] - box[0], 0.1), size / max(box[3] - box[1], 0.1)]
        parts = [((p - box[:2]) * ratio).reshape(-1).tolist() for p in masks.polygons(instance)]
        if parts:
            targets[row] = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, size, size)))
    return targets


def test_polygon_targets_are_those_of_a_loop():
    rng, masks = scene(1, 200, 300)
    boxes, matched = regions(rng, 80, 200, 300), torch.from_numpy(rng.integers(0, 9, 80))
    got = mask_targets(masks, boxes, matched, 28, "polygon")
    np.testing.assert_array_equal(got, by_detectron2(masks, boxes, matched, 28))
    assert 0 < float(got.mean()) < 1


def test_run_lengths_among_polygons():
    """They have no polygon: the exact target, above a half."""
    rng, masks = scene(2, 100, 100)
    boxes = regions(rng, 30, 100, 100)
    noise = torch.full((30,), 9)
    exact = mask_targets(masks, boxes, noise, 14, "exact")
    assert torch.equal(polygon_targets(masks, boxes, noise, 14), (exact >= 0.5).float())
    assert polygon_targets(masks, boxes, torch.full((30,), 10), 14).sum() == 0


def test_polygons_cannot_be_drawn_from_runs():
    _, masks = scene(2, 20, 20)
    with pytest.raises(TypeError, match="InstanceMasks; got MaskRuns"):
        mask_targets(masks.runs(), torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), 14, "polygon")


@pytest.mark.parametrize("kind", ["exact", "polygon"])
def test_no_region_and_no_instance(kind):
    masks = InstanceMasks.from_segmentations([], 60, 80)
    targets = mask_targets(masks, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 28, kind)
    assert targets.shape == (0, 28, 28)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_exact_targets_on_a_gpu_without_waiting():
    rng, masks = scene(4, 300, 400)
    runs, boxes = masks.runs(), regions(rng, 60, 300, 400)
    matched = torch.from_numpy(rng.integers(0, len(masks), 60))
    wanted = mask_targets(runs, boxes, matched, 28, "exact")
    runs, boxes, matched = (value.to(torch.device("cuda")) for value in (runs, boxes, matched))
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = mask_targets(runs, boxes, matched, 28, "exact")
    finally:
        torch.cuda.set_sync_debug_mode(before)
    torch.testing.assert_close(got.cpu(), wanted, atol=1e-4, rtol=0)
