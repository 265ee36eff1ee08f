import subprocess
import sys

import numpy as np
import pytest
from pycocotools import mask as rle

torch = pytest.importorskip("torch")
from torchvision.models.detection.roi_heads import paste_masks_in_image  # noqa: E402

from lt_data.annotations.category_ids import CategoryIds  # noqa: E402
from lt_data.errors import DataError  # noqa: E402
from lt_train.evaluation import join_detections, model_detections, paste_masks_to_rle  # noqa: E402

HEIGHT, WIDTH = 90, 130
# a few units in the last place of float32 at 0.5
ROUNDING = 5e-7


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


def assert_as_torchvision(found, probs, boxes, size):
    """Every mask is torchvision's but for pixels within rounding of 0.5; one at a time, so that memory stays small."""
    for mask, prob, box in zip(found, probs, boxes, strict=True):
        value = paste_masks_in_image(prob[None, None], box[None], size, padding=1)[0, 0].numpy()
        decoded = rle.decode(mask)
        different = value[(value > 0.5) != decoded.astype(bool)]
        assert np.abs(different - 0.5).max(initial=0) <= ROUNDING
        assert mask == {"size": list(size), "counts": rle.encode(decoded)["counts"].decode()}


@pytest.mark.parametrize("chunk", [8192, 50])
@pytest.mark.parametrize("kind", ["inside", "outside", "tiny", "whole"])
def test_equal_to_torchvision(kind, chunk, monkeypatch):
    monkeypatch.setattr("lt_train.evaluation.predictions.paste.COLUMNS_PER_CHUNK", chunk)
    generator = torch.Generator().manual_seed(len(kind))
    probs = torch.rand(40, 28, 28, generator=generator)
    probs[::4] = probs[::4] * 0.2 + 0.8  # solid: runs that go on from one column to the next
    probs[1] = 0  # empty
    boxes = boxes_of(kind, 40, generator)
    found = paste_masks_to_rle(probs, boxes, HEIGHT, WIDTH)
    assert all(isinstance(mask["counts"], str) for mask in found)
    assert_as_torchvision(found, probs, boxes, (HEIGHT, WIDTH))
    assert sum(rle.area(mask) > 0 for mask in found) >= 20
    assert found == paste_masks_to_rle(probs[:, None].numpy(), boxes.numpy(), HEIGHT, WIDTH)


def test_solid_masks_of_every_size():
    """Borders of solid masks lie on 0.5 exactly at some sizes: there the rounding of the interpolation decides."""
    sides = torch.arange(1, 181)
    corners = torch.stack([3 + 0 * sides, 5 + 0 * sides, 3 + sides, 5 + sides.flip(0)], dim=1).float()
    probs = torch.ones(len(sides), 28, 28)
    found = paste_masks_to_rle(probs, corners, 200, 190)
    assert_as_torchvision(found, probs, corners, (200, 190))
    areas = rle.area([{**mask, "counts": mask["counts"].encode()} for mask in found])
    np.testing.assert_allclose(areas, (sides * sides.flip(0)).numpy(), atol=3 * 181 + 2)


def detections_of_a_large_image(count):
    """Masks with holes and ragged borders in boxes of 20 to 4000 pixels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, 7, 7, generator=generator)
    probs = torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bicubic")[:, 0].clamp(0, 1)
    size = torch.exp(torch.rand(count, 2, generator=generator) * np.log(200)) * 20
    middle = torch.rand(count, 2, generator=generator) * 4000
    boxes = torch.cat([middle - size / 2, middle + size / 2], dim=1).clamp(0, 4000)
    boxes[0] = torch.tensor([0.0, 0, 4000, 4000])
    return probs, boxes


@pytest.mark.parametrize("every", [30, pytest.param(1, marks=pytest.mark.slow)])
def test_300_detections_on_16_million_pixels(every):
    probs, boxes = detections_of_a_large_image(300)
    found = paste_masks_to_rle(probs, boxes, 4000, 4000)
    assert len(found) == 300
    assert_as_torchvision(found[::every], probs[::every], boxes[::every], (4000, 4000))


def test_boxes_wholly_outside_and_no_boxes_at_all():
    """torchvision raises on the first; an empty mask is what such a box covers."""
    boxes = torch.tensor([[200.0, 10, 240, 30], [-60, 10, -20, 30], [10, 200, 30, 240], [10, -90, 30, -30]])
    for mask in paste_masks_to_rle(torch.ones(4, 28, 28), boxes, HEIGHT, WIDTH):
        assert rle.area(mask) == 0
        assert rle.decode(mask).shape == (HEIGHT, WIDTH)
    assert paste_masks_to_rle(torch.zeros(0, 28, 28), torch.zeros(0, 4), HEIGHT, WIDTH) == []


def test_what_a_diverged_model_predicts():
    nan, inf = float("nan"), float("inf")
    boxes = torch.tensor([[nan, 1, 9, 9], [1, 1, inf, 9], [-inf, 0, inf, 9], [9, 1, 1, 9], [-1e30, -1e30, 1e30, 1e30]])
    found = paste_masks_to_rle(torch.ones(5, 28, 28), boxes, HEIGHT, WIDTH)
    assert [int(rle.area(mask)) for mask in found] == [0, 0, 0, 0, HEIGHT * WIDTH]
    half = torch.ones(1, 28, 28)
    half[:, :14] = nan
    area = int(rle.area(paste_masks_to_rle(half, torch.tensor([[0.0, 0, 56, 56]]), HEIGHT, WIDTH)[0]))
    assert 56 * 26 <= area <= 57 * 30


@pytest.mark.parametrize(
    ("cells", "box", "expected"),
    [
        (1, [-50.0, -50, 50, 50], [0, 12]),  # whole columns join, nothing after them
        (0, [-50.0, -50, 50, 50], [12]),
        (1, [-50.0, -50, 1.4, 50], [0, 8, 4]),
        (1, [0.6, -50, 50, 50], [4, 8]),
        (1, [-50.0, -50, 50, 1.4], [0, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_run_lengths(cells, box, expected):
    found = paste_masks_to_rle(np.full((1, 28, 28), cells), np.array([box]), 4, 3)[0]
    assert_as_torchvision([found], torch.full((1, 28, 28), float(cells)), torch.tensor([box]), (4, 3))
    assert found["counts"] == rle.frPyObjects({"size": [4, 3], "counts": expected}, 4, 3)["counts"].decode()


def detection(masks=False):
    found = {
        "boxes": torch.tensor([[10.25, 20.5, 40.125, 60.0], [0.1, 0.2, 50.3, 80.4]]),
        "labels": torch.tensor([3, 1]),
        "scores": torch.tensor([0.3, 0.1]),
    }
    return {**found, "mask_probs": torch.ones(2, 28, 28)} if masks else found


def test_records_of_boxes():
    ids = CategoryIds([90, 2, 17])
    records = list(model_detections(7, detection(), height=HEIGHT, width=WIDTH, category_ids=ids).records())
    assert [list(r) for r in records] == [["image_id", "category_id", "bbox", "score"]] * 2
    assert [(r["image_id"], r["category_id"]) for r in records] == [(7, 90), (7, 2)]
    assert records[0]["bbox"] == [10.25, 20.5, 29.875, 39.5]
    for record, box, score in zip(records, detection()["boxes"], detection()["scores"], strict=True):
        x, y, w, h = record["bbox"]
        assert np.float32(record["score"]) == score.item()
        np.testing.assert_array_equal(np.float32([x, y, x + w, y + h]), box.numpy())


def test_records_with_masks():
    ids = CategoryIds([2, 17, 90])
    found = model_detections(7, detection(masks=True), height=HEIGHT, width=WIDTH, category_ids=ids)
    records = list(found.records())
    assert [r["segmentation"]["size"] for r in records] == [[HEIGHT, WIDTH]] * 2
    assert rle.toBbox(records[0]["segmentation"]).tolist() == pytest.approx([10.25, 20.5, 29.9, 39.5], abs=2)


def test_no_detections_and_wrong_labels():
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    found = model_detections(7, empty, height=9, width=9, category_ids=CategoryIds([1]))
    assert (len(found), found.segmentations, list(found.records())) == (0, None, [])
    with pytest.raises(DataError, match="label 3"):
        model_detections(7, detection(), height=9, width=9, category_ids=CategoryIds([1, 2]))


def test_detections_of_several_images_are_joined():
    ids = CategoryIds([2, 17, 90])
    parts = [model_detections(i, detection(True), height=HEIGHT, width=WIDTH, category_ids=ids) for i in (7, 5)]
    joined = join_detections(parts)
    assert [list(r) for r in joined.records()] == [["image_id", "category_id", "bbox", "score", "segmentation"]] * 4
    assert list(joined.records()) == [record for part in parts for record in part.records()]
    assert (len(join_detections([])), join_detections([]).segmentations) == (0, [])


def test_memory_does_not_grow_with_the_image():
    """300 masks on 4000 x 4000 pixels are 19 GB when pasted as torchvision does; here they take less than 40 MB."""
    code = """
import resource
import numpy as np
from lt_train.evaluation import paste_masks_to_rle
probs = np.random.default_rng(0).random((300, 28, 28), dtype=np.float32)
corner = np.random.default_rng(1).random((300, 2), dtype=np.float32) * 2000
boxes = np.concatenate([corner, corner + 1900], axis=1)
paste_masks_to_rle(probs[:1], boxes[:1] / 100, 40, 40)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = paste_masks_to_rle(probs, boxes, 4000, 4000)
written = sum(len(mask["counts"]) for mask in found)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 - written // 2**20)
"""
    mebibytes = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(mebibytes) < 40
