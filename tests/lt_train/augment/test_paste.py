"""Copy-paste: what is put where, what it hides, and how classes are drawn."""

from collections import Counter

import numpy as np
import pytest
import torch

from lt_data.errors import DataError
from lt_train.augment.augmentation import Augmentation
from lt_train.augment.options import AugmentSection, PasteSection
from lt_train.augment.paste import cut_out, paste, paste_sources
from lt_train.data.dataset import DetectionDataset
from lt_train.data.detection_data import load_data, segmentation_kinds
from lt_train.data.instance_masks import InstanceMasks
from lt_train.data.plan import Draw
from tests.lt_train.augment.scenes import square, write

SIZES = {1: (40, 50), 2: (60, 30), 3: (30, 30)}
SQUARES = [
    square(1, 1, 1, [5, 5, 20, 20]),
    square(2, 1, 1, [30, 10, 10, 15]),
    square(3, 2, 2, [3, 40, 12, 12]),
    square(4, 2, 1, [0, 0, 30, 8]),
    square(5, 3, 1, [10, 10, 8, 9]),
    square(6, 3, 2, [2, 2, 5, 5], mask=False),
]
# paste draws: how many, then class, object, size, place down and across of each
SAME_SIZE = (1.0, 1.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    data = load_data(*write(tmp_path_factory.mktemp("data"), SQUARES, SIZES))
    sources = paste_sources(data, segmentation_kinds(data))
    return DetectionDataset(data, np.arange(3), masks="polygons", augment=Augmentation(AugmentSection(), sources))


def pasted(dataset, row=0, *, objects=3, seed=0, scale=SAME_SIZE, hidden=0.7):
    """A sample before and after."""
    image, target = dataset.unchanged()[Draw(0, 0, row)]
    options = PasteSection(objects=objects, scale=scale, hidden=hidden)
    generator = torch.Generator().manual_seed(seed)
    return (image, target), paste(image, target, dataset, dataset.augment.sources, options, generator)


def test_what_is_seen_is_what_is_said(dataset):
    """By the colours of squares: every object that stays has the mask, box and label of the pixels seen of it."""
    numbers, hidden = Counter(), 0
    label_of = {10 * row["id"]: row["category_id"] for row in SQUARES}
    for seed in range(150):
        (before, old), (image, target) = pasted(dataset, seed % 3, seed=seed)
        masks, boxes = target["masks"].bitmaps(), target["boxes"].tolist()
        added = len(boxes) - len(old["labels"])
        numbers[max(added, 0)] += 1
        # no pixel is of two objects, but where one had no mask and another lay in its box
        assert masks.sum(0).max() <= 1
        for mask, box, label in zip(masks, boxes, target["labels"].tolist(), strict=True):
            (colour,) = set(image[0].numpy()[mask > 0].tolist())
            assert label_of[colour] == label
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert box == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            whole = next(row["area"] for row in SQUARES if 10 * row["id"] == colour)
            hidden += mask.sum() < whole
            assert mask.sum() >= 0.3 * whole - 1e-9
        # nothing else of the image is another
        changed = image[:, (image != before).any(0)]
        assert set(changed.unique().tolist()) <= set(label_of)
        assert torch.equal(before, dataset.unchanged()[Draw(0, 0, seed % 3)][0])
    assert hidden > 10
    assert set(numbers) >= {0, 1, 2, 3}


def test_objects_hidden_by_more_than_a_share_are_dropped(dataset):
    """The smaller share keeps fewer; one of which nothing is seen is dropped whatever the share."""
    kept = dict.fromkeys((0.01, 0.5, 1.0), 0)
    for seed in range(60):
        for hidden in kept:
            _, (_, target) = pasted(dataset, 2, seed=seed, hidden=hidden)
            kept[hidden] += len(target["labels"])
            assert bool(target["masks"].bitmaps().any((1, 2)).all())
    assert kept[0.01] < kept[0.5] < kept[1.0]


def test_classes_are_drawn_alike_and_then_their_objects(dataset):
    sources = dataset.augment.sources
    # class 3 has no object, and one of class 2 has no mask
    assert sources.start.tolist() == [0, 4, 5]
    assert sources.annotations.tolist() == [0, 1, 3, 4, 2]
    draws = torch.rand(4000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tolist()
    times = Counter(sources.drawn(*pair) for pair in draws)
    assert times[2] == pytest.approx(2000, abs=150)
    assert all(times[row] == pytest.approx(500, abs=100) for row in (0, 1, 3, 4))
    assert sources.drawn(1.0, 1.0) == 2


def test_an_object_is_resized_with_its_mask_and_has_to_fit():
    """A ring of polygons: the mask of the larger one is drawn anew, not enlarged pixel by pixel."""
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    image[:, 10:20, 12:26] = 200
    polygon = [[12, 10, 26, 10, 26, 20, 12, 20]]
    mask = InstanceMasks.from_segmentations([polygon], 40, 40)
    pixels, bitmap = cut_out(image, mask, 2.0, (100, 100))
    assert bitmap.shape == (20, 28)
    assert bitmap.all()
    assert bool((pixels == 200).all())
    pixels, bitmap = cut_out(image, mask, 2.0, (100, 21))
    assert bitmap.shape == (15, 21)
    assert pixels.shape == (3, 15, 21)
    triangle = InstanceMasks.from_segmentations([[[12, 10, 26, 10, 12, 20]]], 40, 40)
    small, large = (int(cut_out(image, triangle, factor, (99, 99))[1].sum()) for factor in (1.0, 4.0))
    assert large == pytest.approx(16 * 70, rel=0.03)
    assert small == pytest.approx(70, rel=0.15)
    empty = InstanceMasks.from_segmentations([[[50, 50, 60, 50, 60, 60]]], 40, 40)
    assert cut_out(image, empty, 1.0, (99, 99)) is None


def test_data_without_masks_is_refused(tmp_path):
    rows = [square(number, 1, 1, [number, 1, 4, 4], mask=False) for number in (1, 2)]
    data = load_data(*write(tmp_path, rows, {1: (20, 20)}))
    with pytest.raises(DataError) as error:
        paste_sources(data, segmentation_kinds(data))
    (line,) = error.value.problems
    assert "none of the 2 annotations has a mask" in line
    assert line.endswith("set data.augment.paste.objects=0, or give a file with masks")
