"""Samples: labels, boxes, flips, and everything that is left out or refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lt_data.errors import DataError
from lt_train.data.dataset import (
    DetectionDataset,
    flip_horizontally,
    load_data,
    make_loader,
    read_image,
    training_rows,
)
from lt_train.data.plan import Draw


def annotation(number, image_id, category_id, box, crowd=0):
    x, y, w, h = box
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {
        "id": number, "image_id": image_id, "category_id": category_id, "bbox": box, "area": w * h,
        "iscrowd": crowd, "segmentation": [polygon],
    }  # fmt: skip


def make(tmp_path, annotations, images=(5, 9)):
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in images],
        "annotations": annotations,
        "categories": [{"id": 90, "name": "b"}, {"id": 7, "name": "a"}],
    }
    folder = tmp_path / "images"
    folder.mkdir(exist_ok=True)
    for i in images:
        pixels = np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3) + np.uint8(i)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    return path, folder


GOOD = [annotation(i, 5, 7, [1, 2, 10, 8]) for i in range(1, 30)]


def test_labels_boxes_and_masks(tmp_path):
    boxes = [
        annotation(1, 9, 90, [4, 6, 10, 12]),
        annotation(2, 5, 7, [0, 0, 40, 30]),
        annotation(3, 9, 7, [30, 20, 99, 99]),
    ]
    dataset = DetectionDataset(load_data(*make(tmp_path, boxes)), np.array([1, 0]), with_masks=True)
    image, target = dataset[Draw(0, 0, 0)]
    assert target["image_id"] == 9
    assert image.dtype == torch.uint8
    assert tuple(image.shape) == (3, 30, 40)
    assert int(image[0, 0, 0]) == 9
    assert target["labels"].tolist() == [2, 1]
    assert target["boxes"].tolist() == [[4, 6, 14, 18], [30, 20, 40, 30]]
    assert target["masks"].bitmaps()[0].sum() == 120
    assert dataset[Draw(0, 1, 1)][1]["labels"].tolist() == [1]


def test_crowds_and_empty_boxes_are_left_out_with_a_note(tmp_path):
    bad = [annotation(50, 9, 7, [3, 3, 0, 5]), annotation(51, 9, 90, [1, 1, 5, 5], crowd=1)]
    data = load_data(*make(tmp_path, [*GOOD, *bad]))
    assert int(data.usable.sum()) == len(GOOD)
    assert any("1 crowd annotations are regions to ignore" in note for note in data.notes)
    assert any("1 of 31 annotations have no box" in note and "50" in note for note in data.notes)
    rows, notes = training_rows(data, keep_empty=False)
    assert rows.tolist() == [0]
    assert "1 images without annotations are left out" in notes[0]
    assert training_rows(data, keep_empty=True)[0].tolist() == [0, 1]


CROWDS = [
    annotation(50, 9, 7, [30, 2, 99, 8], crowd=1),
    annotation(51, 5, 90, [1, 1, 5, 5], crowd=1),
    annotation(52, 9, 90, [4, 6, 10, 12]),
    annotation(53, 9, 90, [0, 0, 4, 4], crowd=1),
    annotation(54, 9, 90, [40, 3, 5, 5], crowd=1),
]


def test_crowds_are_regions_to_ignore(tmp_path):
    """Clipped boxes in file order; one outside the image is none; the targets are the other annotations."""
    data = load_data(*make(tmp_path, CROWDS))
    assert data.usable.tolist() == [False, False, True, False, False]
    assert data.regions.tolist() == [True, True, False, True, False]
    assert data.notes == (
        "a.json: 4 crowd annotations are regions to ignore: no targets, and what lies at least half in one is not "
        "trained as background; 1 of them have no box with an area inside the image and are left out",
    )
    dataset = DetectionDataset(data, np.array([0, 1]), with_masks=True)
    first, second = (dataset[Draw(0, 0, row)][1] for row in (0, 1))
    assert first["boxes"].shape == (0, 4)
    assert first["ignore"].tolist() == [[1, 1, 6, 6]]
    assert second["boxes"].tolist() == [[4, 6, 14, 18]]
    assert second["ignore"].tolist() == [[30, 2, 40, 10], [0, 0, 4, 4]]
    assert second["ignore"].dtype == torch.float32
    assert len(second["masks"]) == len(second["labels"]) == 1


def test_targets_do_not_depend_on_crowds(tmp_path):
    """Without crowds there is no key; with them every other value is the same."""
    without = DetectionDataset(load_data(*make(tmp_path, CROWDS[2:3])), np.array([1]), flip=0.5, seed=2)
    crowds = DetectionDataset(load_data(*make(tmp_path, CROWDS)), np.array([1]), flip=0.5, seed=2)
    for epoch in range(8):
        (image, target), (same_image, more) = without[Draw(epoch, 0, 0)], crowds[Draw(epoch, 0, 0)]
        assert "ignore" not in target
        assert set(more) - set(target) == {"ignore"}
        assert torch.equal(image, same_image)
        for key, value in target.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(more[key]))


def test_flips_mirror_regions(tmp_path):
    data = load_data(*make(tmp_path, CROWDS))
    plain, flipped = (DetectionDataset(data, np.array([1]), flip=flip)[Draw(0, 0, 0)] for flip in (0.0, 1.0))
    assert torch.equal(flipped[0], plain[0].flip(-1))
    assert flipped[1]["ignore"].tolist() == [[0, 2, 10, 10], [36, 0, 40, 4]]
    assert torch.equal(flip_horizontally(*flipped)[1]["ignore"], plain[1]["ignore"])


def test_batches_in_which_one_image_has_regions(tmp_path):
    data = load_data(*make(tmp_path, [CROWDS[0], *GOOD]))
    dataset = DetectionDataset(data, np.array([0, 1]))
    ((images, targets),) = make_loader(dataset, [[Draw(0, 0, 0), Draw(0, 1, 1)]], workers=0)
    assert len(images) == 2
    assert ["ignore" in target for target in targets] == [False, True]


def test_many_bad_boxes_are_an_error(tmp_path):
    with pytest.raises(DataError, match="at most 5 %"):
        load_data(*make(tmp_path, [GOOD[0], annotation(50, 9, 7, [99, 99, 5, 5])]))


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(DataError, match="nothing to train on"):
        training_rows(load_data(*make(tmp_path, [])), keep_empty=False)


def test_flip_mirrors_image_boxes_and_masks_together(tmp_path):
    dataset = DetectionDataset(load_data(*make(tmp_path, GOOD[:1])), np.array([0]), with_masks=True)
    image, target = dataset[Draw(0, 0, 0)]
    flipped, mirrored = flip_horizontally(image, target)
    assert torch.equal(flipped, image.flip(-1))
    assert mirrored["boxes"].tolist() == [[29, 2, 39, 10]]
    assert np.array_equal(mirrored["masks"].bitmaps(), target["masks"].bitmaps()[:, :, ::-1])
    again, back = flip_horizontally(flipped, mirrored)
    assert torch.equal(again, image)
    assert torch.equal(back["boxes"], target["boxes"])


def test_draws_depend_on_their_key_alone(tmp_path):
    data = load_data(*make(tmp_path, GOOD))
    options = {"flip": 0.5, "short_sides": (20, 30, 40)}
    first = DetectionDataset(data, np.array([0]), seed=3, **options)
    draws = [Draw(epoch, 0, 0) for epoch in range(40)]
    forward = [(d[1]["boxes"].tolist(), d[1]["short_side"], d[1]["draw_seed"]) for d in map(first.__getitem__, draws)]
    torch.rand(7)  # the global stream plays no part
    second = DetectionDataset(data, np.array([0]), seed=3, **options)
    backward = [second[d][1] for d in reversed(draws)][::-1]
    assert forward == [(t["boxes"].tolist(), t["short_side"], t["draw_seed"]) for t in backward]
    assert {side for _, side, _ in forward} == {20, 30, 40}
    assert len({str(boxes) for boxes, _, _ in forward}) == 2
    assert len({seed for _, _, seed in forward}) == 40


def test_image_of_another_size_or_no_image(tmp_path):
    _, folder = make(tmp_path, GOOD)
    with pytest.raises(DataError, match="40 x 30 pixels, its annotation says 10 x 10"):
        read_image(folder / "5.png", (10, 10))
    assert read_image(folder / "5.png", (0, 0)).shape == (3, 30, 40)
    (folder / "5.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match="not a readable image"):
        read_image(folder / "5.png", (40, 30))
