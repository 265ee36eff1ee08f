"""All changes of a sample together: keyed, ordered, and the same wherever they are made."""

import colorsys
import pickle

import numpy as np
import pytest
import torch

from lt_data.errors import DataError, RecipeError
from lt_train.augment.augmentation import Augmentation
from lt_train.augment.colours import change_colours
from lt_train.augment.options import AugmentSection
from lt_train.augment.paste import paste_sources
from lt_train.data.dataset import DetectionDataset, make_loader
from lt_train.data.detection_data import load_data, segmentation_kinds
from lt_train.data.plan import Draw
from lt_train.runs.data import describe_data, load_run_data, make_plan
from tests.lt_train.augment.scenes import square, write

OVERRIDES = (
    *("data.augment.scale=[0.5,2.0]", "data.augment.crop=[0.5,1.0]", "data.augment.brightness=0.4"),
    *("data.augment.hue=0.1", "data.augment.paste.objects=2"),
)


@pytest.fixture(scope="module")
def made(make_tiny_recipe):
    """Data of a recipe with everything on, for both kinds of detectors."""
    recipes = {
        name: make_tiny_recipe(f"model.name={name}", *OVERRIDES) for name in ("mask_rcnn_small", "faster_rcnn_small")
    }
    return {name: (recipe, load_run_data(recipe)) for name, recipe in recipes.items()}


def same(first, second):
    (image, target), (other_image, other) = first, second
    assert torch.equal(image, other_image)
    assert target.keys() == other.keys()
    for key in target.keys() - {"masks"}:
        assert torch.equal(torch.as_tensor(target[key]), torch.as_tensor(other[key])), key
    if "masks" in target:
        assert torch.equal(target["masks"].table, other["masks"].table)
        assert torch.equal(target["masks"].bounds, other["masks"].bounds)


def test_samples_are_keyed_and_the_same_in_any_process(made):
    """By the draw alone: in any order, by workers or not, after pickling; other positions and epochs change them."""
    _, data = made["mask_rcnn_small"]
    dataset, draws = data.dataset, [Draw(epoch, position, position) for epoch in (0, 1) for position in range(4)]
    alone = [dataset[draw] for draw in reversed(draws)][::-1]
    again = pickle.loads(pickle.dumps(dataset))
    loaded = make_loader(dataset, [draws[:3], draws[3:]], workers=1)
    others = [pair for images, targets in loaded for pair in zip(images, targets, strict=True)]
    for sample, draw, other in zip(alone, draws, others, strict=True):
        same(sample, again[draw])
        same(sample, other)
        image, target = sample
        masks = target["masks"]
        assert len(masks) == len(target["boxes"]) == len(target["labels"])
        # the size that the detector makes of it, at most the usual one
        assert max(masks.height, masks.width) <= 64
        assert bool((target["boxes"][:, 2:] <= torch.tensor([image.shape[2], image.shape[1]])).all())
        assert bool((target["boxes"][:, 2:] > target["boxes"][:, :2]).all())
    assert any(not torch.equal(a[1]["boxes"], b[1]["boxes"]) for a, b in zip(alone[:4], alone[4:], strict=True))
    assert torch.equal(dataset[Draw(0, 0, 2)][0], dataset[Draw(0, 0, 2)][0])


def test_a_detector_without_masks_sees_the_same_images_and_objects(made):
    """But those whose mask has no pixel in a window, which it cannot know of."""
    with_masks, without = (made[name][1].dataset for name in made)
    for position in range(6):
        (image, target), (same_image, boxes_only) = (d[Draw(0, position, position)] for d in (with_masks, without))
        assert torch.equal(image, same_image)
        assert "masks" not in boxes_only
        assert set(target["labels"].tolist()) <= set(boxes_only["labels"].tolist())


def test_counts_and_budget_are_those_of_the_file(made, make_tiny_recipe):
    recipe, data = made["mask_rcnn_small"]
    plain_recipe = make_tiny_recipe()
    plain = load_run_data(plain_recipe)
    assert plain.dataset.augment is None
    assert data.groups == plain.groups
    assert np.array_equal(data.train.counts.instances, plain.train.counts.instances)
    plan = make_plan(recipe, data)
    assert plan.total_images() == make_plan(plain_recipe, plain).total_images() == 6
    changed, usual = describe_data(recipe, data, plan), describe_data(plain_recipe, plain, plan)
    assert len(changed) == len(usual) + 2
    (line,) = [line for line in changed if line.startswith("copy-paste")]
    assert "0 to 2 objects an image" in line
    assert "about 6 of their images are read besides" in line
    assert "augmentation: scale 0.5 to 2; windows of 0.5 to 1 of each side; colours 0.4, 0, 0, 0.1" in changed


def test_calibrations_see_images_as_they_are(made, make_tiny_recipe):
    plain = load_run_data(make_tiny_recipe()).dataset
    for row in range(3):
        same(made["mask_rcnn_small"][1].dataset.unchanged()[Draw(0, 0, row)], plain[Draw(0, 0, row)])


@pytest.mark.parametrize("model", ["mask_rcnn_small", "faster_rcnn_small"])
def test_boxes_alone_cannot_be_pasted(tmp_path, make_tiny_recipe, model):
    rows = [square(number, 1, 1, [number, 1, 4, 4], mask=False) for number in (1, 2)]
    path, images = write(tmp_path, rows, {1: (20, 20)})
    files = (f"data.train.annotations={path}", f"data.train.images={images}", "data.val=null", f"model.name={model}")
    with pytest.raises(DataError) as error:
        load_run_data(make_tiny_recipe(*files, "data.augment.paste.objects=1"))
    (line,) = error.value.problems
    assert "none of the 2 annotations has a mask, but " in line
    if model == "faster_rcnn_small":
        assert "set data.augment.paste.objects=0, or give a file with masks" in line


def test_an_image_that_is_pasted_from_has_to_be_readable(tmp_path):
    """Its line, as for one that is trained on itself."""
    path, images = write(
        tmp_path, [square(1, 1, 1, [2, 2, 5, 5]), square(2, 2, 2, [1, 1, 9, 9])], {1: (20, 20), 2: (20, 20)}
    )
    data = load_data(path, images)
    (images / "2.png").write_bytes(b"no image")
    augment = Augmentation(AugmentSection(paste={"objects": 3}), paste_sources(data, segmentation_kinds(data)))
    dataset = DetectionDataset(data, np.array([0]), masks="polygons", augment=augment)
    with pytest.raises(DataError, match=r"2.png: not a readable image"):
        _ = [dataset[Draw(epoch, 0, 0)] for epoch in range(20)]


def test_colours_change_within_what_is_allowed():
    image = torch.full((3, 2, 2), 100, dtype=torch.uint8)
    levels = set()
    for seed in range(80):
        changed = change_colours(image, (0.4, 0, 0, 0), torch.Generator().manual_seed(seed))
        levels.add(int(changed[0, 0, 0]))
        assert bool((changed == changed[0, 0, 0]).all())
    assert 60 <= min(levels) < 65
    assert 135 < max(levels) <= 140
    gray = torch.tensor([[[0, 200]], [[0, 200]], [[0, 200]]], dtype=torch.uint8)
    spreads = [
        int(change_colours(gray, (0, 0.5, 0, 0), torch.Generator().manual_seed(s)).float().std() * 100)
        for s in range(9)
    ]
    assert len(set(spreads)) > 5
    red = torch.tensor([200, 40, 40], dtype=torch.uint8)[:, None, None]
    for largest, index in (((0, 0, 0, 0.2), 0), ((0, 0, 0.5, 0), 1)):
        pixels = change_colours(red, largest, torch.Generator().manual_seed(1)).flatten().tolist()
        assert pixels != red.flatten().tolist()
        ours, theirs = (colorsys.rgb_to_hsv(*(value / 255 for value in p)) for p in (pixels, red.flatten().tolist()))
        assert ours[index] != pytest.approx(theirs[index], abs=0.001)
        assert ours[1 - index] == pytest.approx(theirs[1 - index], abs=0.02)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "data.augment.scale=[2,0.5]",
            "data.augment.scale: got [2, 0.5]; allowed are two numbers, the smaller first",
        ),
        (
            "data.augment.crop=[0.5,1.5]",
            "data.augment.crop: got [0.5, 1.5]; allowed are two numbers, the smaller first",
        ),
        ("data.augment.paste.scale=[0,1]", "data.augment.paste.scale: got [0, 1]; allowed are"),
        ("data.augment.scale=0.5", "data.augment.scale: got 0.5; allowed are two numbers, the smaller first, above 0 "),
        ("data.augment.paste.objects=21", "data.augment.paste.objects: got 21"),
        ("data.augment.hue=0.6", "data.augment.hue: got 0.6"),
        ("data.augment.blur=1", "unknown key 'data.augment.blur'"),
    ],
)
def test_wrong_values(make_tiny_recipe, override, line):
    with pytest.raises(RecipeError) as error:
        make_tiny_recipe(override)
    assert error.value.problems[0].startswith(f"recipe: {line}"), error.value.problems
    assert len(error.value.problems) == 1
