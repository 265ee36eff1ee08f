import subprocess
import sys

import numpy as np
import pytest
from pycocotools import mask as rle

torch = pytest.importorskip("torch")
from torchvision.models.detection.roi_heads import paste_masks_in_image  # noqa: E402

from lt_data.category_ids import CategoryIds  # noqa: E402
from lt_data.errors import DataError  # noqa: E402
from lt_train.evaluation import detection_results, paste_masks_to_rle  # noqa: E402
from lt_train.evaluation.paste import run_lengths  # noqa: E402

HEIGHT, WIDTH = 90, 130


def boxes_of(kind, count, generator):
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([WIDTH * 0.7, HEIGHT * 0.7])
    size = torch.rand(count, 2, generator=generator) * 60 + 1
    if kind == "outside":
        corner, size = corner - 40, size + 45
    elif kind == "tiny":
        size = size / 40
    elif kind == "whole":
        corner, size = corner * 0 - 2, size * 0 + torch.tensor([WIDTH + 4.0, HEIGHT + 4.0])
    return torch.cat([corner, corner + size], dim=1)


@pytest.mark.parametrize("kind", ["inside", "outside", "tiny", "whole"])
def test_equal_to_torchvision(kind):
    generator = torch.Generator().manual_seed(len(kind))
    probs = torch.rand(40, 28, 28, generator=generator)
    probs[::4] = probs[::4] * 0.2 + 0.8  # solid: runs that go on from one column to the next
    probs[1] = 0  # empty
    boxes = boxes_of(kind, 40, generator)
    expected = (paste_masks_in_image(probs[:, None], boxes, (HEIGHT, WIDTH), padding=1) > 0.5)[:, 0].numpy()
    found = paste_masks_to_rle(probs, boxes, HEIGHT, WIDTH)
    assert all(isinstance(mask["counts"], str) and mask["size"] == [HEIGHT, WIDTH] for mask in found)
    np.testing.assert_array_equal([rle.decode(mask) for mask in found], expected)
    encoded = [rle.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode() for mask in expected]
    assert [mask["counts"] for mask in found] == encoded
    assert expected.any()
    assert found == paste_masks_to_rle(probs[:, None].numpy(), boxes.numpy(), HEIGHT, WIDTH)


def test_boxes_wholly_outside_and_no_boxes_at_all():
    """torchvision raises on the first; an empty mask is what such a box covers."""
    boxes = torch.tensor([[200.0, 10, 240, 30], [-60, 10, -20, 30], [10, 200, 30, 240], [10, -90, 30, -30]])
    for mask in paste_masks_to_rle(torch.ones(4, 28, 28), boxes, HEIGHT, WIDTH):
        assert rle.area(mask) == 0
        assert rle.decode(mask).shape == (HEIGHT, WIDTH)
    assert paste_masks_to_rle(torch.zeros(0, 28, 28), torch.zeros(0, 4), HEIGHT, WIDTH) == []


@pytest.mark.parametrize(
    ("region", "top", "left", "expected"),
    [
        (np.ones((4, 2), bool), 0, 1, [4, 8]),  # whole columns join, nothing after them
        (np.ones((4, 3), bool), 0, 0, [0, 12]),
        (np.array([[1, 0], [0, 1]], bool), 1, 0, [1, 1, 4, 1, 5]),
        (np.zeros((2, 2), bool), 1, 1, [12]),
        (np.zeros((0, 2), bool), 4, 1, [12]),
    ],
)
def test_run_lengths(region, top, left, expected):
    assert run_lengths(region, top=top, left=left, height=4, width=3).tolist() == expected


def detection(masks=False):
    found = {
        "boxes": torch.tensor([[10.25, 20.5, 40.125, 60.0], [0.1, 0.2, 50.3, 80.4]]),
        "labels": torch.tensor([3, 1]),
        "scores": torch.tensor([0.3, 0.1]),
    }
    return {**found, "mask_probs": torch.ones(2, 28, 28)} if masks else found


def test_records_of_boxes():
    records = detection_results(7, detection(), height=HEIGHT, width=WIDTH, category_ids=CategoryIds([90, 2, 17]))
    assert [list(r) for r in records] == [["image_id", "category_id", "bbox", "score"]] * 2
    assert [(r["image_id"], r["category_id"]) for r in records] == [(7, 90), (7, 2)]
    assert records[0]["bbox"] == [10.25, 20.5, 29.875, 39.5]
    for record, box, score in zip(records, detection()["boxes"], detection()["scores"], strict=True):
        x, y, w, h = record["bbox"]
        assert np.float32(record["score"]) == score.item()
        np.testing.assert_array_equal(np.float32([x, y, x + w, y + h]), box.numpy())


def test_records_with_masks():
    ids = CategoryIds([2, 17, 90])
    records = detection_results(7, detection(masks=True), height=HEIGHT, width=WIDTH, category_ids=ids)
    assert [r["segmentation"]["size"] for r in records] == [[HEIGHT, WIDTH]] * 2
    assert rle.toBbox(records[0]["segmentation"]).tolist() == pytest.approx([10.25, 20.5, 29.9, 39.5], abs=2)


def test_no_detections_and_wrong_labels():
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    assert detection_results(7, empty, height=9, width=9, category_ids=CategoryIds([1])) == []
    with pytest.raises(DataError, match="label 3"):
        detection_results(7, detection(), height=9, width=9, category_ids=CategoryIds([1, 2]))


def test_memory_is_that_of_one_box_region():
    """16 masks on 4000 x 4000 pixels are 1 GB when pasted together; here the largest box region is 16 MB."""
    code = """
import resource, torch
from lt_train.evaluation import paste_masks_to_rle
corner = torch.rand(16, 2, generator=torch.Generator().manual_seed(0)) * 2000
boxes, probs = torch.cat([corner, corner + 1900], dim=1), torch.ones(16, 28, 28)
paste_masks_to_rle(probs[:1], boxes[:1] / 100, 40, 40)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
paste_masks_to_rle(probs, boxes, 4000, 4000)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    mebibytes = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(mebibytes) < 250
