"""A trained model in Python: what it takes, what it gives, and that both are those of ``lt-train predict``."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lt_data.errors import DataError, RecipeError
from lt_train import Found, load
from lt_train.inference.kept import Kept
from lt_train.inference.predict_images import predict_images
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def model(run):
    return load(str(run), device="cpu")


@pytest.fixture(scope="module")
def files(tiny_pool):
    return sorted((tiny_pool / "images").iterdir())


def same(a, b):
    assert np.array_equal(a.boxes, b.boxes)
    assert np.array_equal(a.scores, b.scores)
    assert a.to_coco(1) == b.to_coco(1)


def test_what_is_found_is_what_predict_writes(run, model, files, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for file in files[:4]:
        shutil.copy(file, folder)
    predict_images(run, folder, tmp_path / "out", pictures=1, score_threshold=0)
    written = json.loads((tmp_path / "out/predictions.json").read_text())
    given = sorted(folder.iterdir())
    # a generator: taken from as results are asked for
    found = list(model.predict_each(path for path in given))
    assert [record for number, one in enumerate(found, 1) for record in one.to_coco(number)] == written
    assert [one.path for one in found] == given
    # the picture too
    with Image.open(tmp_path / "out/pictures" / f"{given[0].name}.png") as picture:
        assert np.array_equal(np.array(found[0].draw(threshold=0)), np.array(picture.convert("RGB")))


def test_what_a_result_holds(model, files, tiny_pool):
    listed = json.loads((tiny_pool / "annotations.json").read_text())
    names = {category["id"]: category["name"] for category in listed["categories"]}
    found = model.predict(files[0])
    assert isinstance(found, Found)
    assert 0 < len(found) == len(found.boxes) == len(found.names) == len(found.groups) <= 5
    assert (found.width, found.height) == (64, 64)
    assert model.categories == names
    assert [names[i] for i in found.category_ids.tolist()] == list(found.names)
    assert (np.diff(found.scores) <= 0).all()
    assert found.masks.shape == (len(found), 64, 64)
    assert found.masks.dtype == bool
    record = found.to_coco(np.int64(9))[0]
    assert record["image_id"] == 9
    x, y, width, height = record["bbox"]
    assert np.allclose(found.boxes[0], [x, y, x + width, y + height])
    from pycocotools import mask as rle

    assert np.array_equal(found.mask(0), rle.decode(record["segmentation"]).astype(bool))
    in_groups = {i: group.name for group in model.groups for i in group.category_ids}
    assert list(found.groups) == [in_groups[i] for i in found.category_ids.tolist()]
    assert repr(found).startswith(f"Found({files[0]}, 64 x 64: {len(found)} objects, best {found.names[0]} ")
    with pytest.raises(ValueError, match="read-only"):
        found.scores[0] = 1
    with pytest.raises(RecipeError, match="image_id: got 'a'; allowed is a whole number"):
        found.to_coco("a")


def test_every_kind_of_image_is_the_same_image(model, files):
    """Each is compared with the file; gray ones with a gray file's pixels as RGB."""
    of_file = model.predict(files[0])
    pixels = np.array(Image.open(files[0]).convert("RGB"))
    backwards = np.ascontiguousarray(pixels[..., ::-1])[..., ::-1]
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for given in (str(files[0]), Image.open(files[0]), pixels, backwards, tensor):
        found = model.predict(given)
        same(found, of_file)
        assert np.array_equal(np.array(found.draw(threshold=0)), np.array(of_file.draw(threshold=0)))
    gray = pixels[..., 0]
    of_gray = model.predict(np.stack([gray] * 3, axis=2))
    for given in (gray, gray[..., None], Image.fromarray(gray), torch.from_numpy(gray), torch.from_numpy(gray)[None]):
        same(model.predict(given), of_gray)


def test_a_result_does_not_change_with_what_it_was_made_of(model, files):
    pixels = np.array(Image.open(files[0]).convert("RGB"))
    found = model.predict(pixels)
    before = np.array(found.draw(threshold=0))
    pixels[:] = 0
    assert np.array_equal(np.array(found.draw(threshold=0)), before)


def test_lists_keep_their_order_and_batches_their_images(model, files):
    one_by_one = model.predict(files[:5])
    assert [found.path for found in one_by_one] == files[:5]
    batches = model.predict(iter(files[:5]), batch=2)
    assert [found.path for found in batches] == files[:5]
    for a, b in zip(one_by_one, batches, strict=True):
        assert np.allclose(a.scores, b.scores, atol=1e-5)


def test_no_more_than_a_batch_is_read_ahead(model, files):
    taken = []

    def images():
        for file in files[:5]:
            taken.append(file)
            yield file

    results = model.predict_each(images(), batch=2)
    assert taken == []
    next(results)
    assert taken == files[:2]


def test_threads_find_what_one_finds(run, files):
    """A model of their own, so that nothing was computed with it before."""
    fresh = load(run, device="cpu")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fresh.predict, files[:8] * 2))
    alone = load(run, device="cpu")
    for one, file in zip(found, files[:8] * 2, strict=True):
        same(one, alone.predict(file))


def test_a_narrow_first_image_changes_nothing_after_it(run, model, files):
    """torchvision takes the scale of the feature maps from the first image that it sees."""
    fresh = load(run, device="cpu")
    fresh.predict(np.full((2, 300, 3), 128, np.uint8))
    same(fresh.predict(files[0]), model.predict(files[0]))


def test_threshold_and_nms_over_all_classes(model, files):
    from torchvision.ops import box_iou

    everything = model.predict(files[:6])
    level = float(np.median(np.concatenate([found.scores for found in everything])))
    for found, all_of_it in zip(model.predict(files[:6], threshold=level), everything, strict=True):
        assert found.scores.tolist() == [score for score in all_of_it.scores.tolist() if score >= level]
    apart = model.predict(files[:6], class_agnostic_nms=0.3)
    assert sum(map(len, apart)) < sum(map(len, everything))
    for found in apart:
        boxes = torch.from_numpy(found.boxes.copy())
        assert (box_iou(boxes, boxes).fill_diagonal_(0) <= 0.3 + 1e-6).all()


def test_the_better_of_two_boxes_of_different_classes_is_kept():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    detection = {"boxes": boxes, "labels": torch.tensor([1, 2, 2]), "scores": torch.tensor([0.9, 0.8, 0.1])}
    assert Kept(nms=0.5).of(detection)["labels"].tolist() == [1, 2]
    assert Kept(nms=0.95).of(detection)["labels"].tolist() == [1, 2, 2]
    assert Kept(threshold=0.5).of(detection)["labels"].tolist() == [1, 2]


def test_a_checkpoint_file(run, model, files, tmp_path):
    found = model.predict(files[0])
    same(load(run / "checkpoints/last.pt", device="cpu").predict(files[0]), found)
    same(load(run, device="cpu", checkpoint="best").predict(files[0]), found)
    # its recipe has the bounds of the groups
    shutil.copy(run / "checkpoints/last.pt", tmp_path / "mine.pt")
    same(load(tmp_path / "mine.pt", device="cpu").predict(files[0]), found)
    content = load_checkpoint(run / "checkpoints/last.pt")
    content["recipe"]["data"]["groups"] = None
    save_checkpoint(tmp_path / "auto.pt", content)
    with pytest.raises(DataError, match=r"auto.pt: does not lie in its run, whose data.json has the groups"):
        load(tmp_path / "auto.pt", device="cpu")


def test_a_bags_run(bags_run, files):
    model = load(bags_run.path, device="cpu")
    assert model.recipe.method == "bags-train-cls"
    assert repr(model) == "TrainedModel(mask_rcnn_small, bags-train-cls, 20 categories, cpu)"
    assert len(model.predict(files[0]).scores) == len(model.predict(files[0]).names)
    with pytest.raises(DataError, match=r"best.pt: not there"):
        load(bags_run.path, checkpoint="best")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 4, 3)), r"image: got an array of float64 \[4, 4, 3\]; needed is uint8"),
        (np.zeros((4, 4, 3), np.uint16), "array of uint16"),
        (np.zeros((4, 4), bool), "array of bool"),
        (np.zeros((3, 4, 5), np.uint8), r"the channels come last: array.transpose\(1, 2, 0\)"),
        (np.zeros((4, 5, 4), np.uint8), r"array\[\.\.\., :3\]"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"list\(array\)"),
        (np.zeros((0, 5, 3), np.uint8), "is 5 x 0 pixels"),
        (torch.zeros(3, 4, 4), "got a tensor of float32"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"tensor.permute\(2, 0, 1\)"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.uint8), r"list\(batch\)"),
        (Image.new("I", (4, 4), 70000), "image: 32-bit integers"),
        (None, r"images: got nothing \(None\); allowed are the path"),
        (7, "got a value of type int"),
        (b"street.jpg", "got a value of type bytes"),
        ({"street.jpg": 1}, "got a value of type dict"),
        ({"a.jpg", "b.jpg"}, "a set, which has no order"),
        ([], "images: got none; give at least one"),
        (["nowhere.jpg"], "nowhere.jpg: no such image; a relative path starts at"),
        ([np.zeros((4, 4, 3), np.uint8), 7], r"images\[1\]: got a value of type int"),
        ([[np.zeros((4, 4, 3), np.uint8)]], r"images\[0\]: got a value of type list"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_image(model, given, message):
    with pytest.raises(DataError, match=message) as error:
        model.predict(given)
    assert len(error.value.problems) == 1


def test_files_that_are_no_images(model, files, tmp_path):
    (tmp_path / "notes.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(files[0].read_bytes()[:-200])
    for name in ("notes.jpg", "cut.jpg"):
        with pytest.raises(DataError, match=f"{name}: not a readable image"):
            model.predict(tmp_path / name)
    with pytest.raises(DataError, match=r"is a folder; give its images, for example sorted"):
        model.predict(tmp_path)
    with pytest.raises(DataError, match="not a readable image"):
        model.predict(Image.open(tmp_path / "cut.jpg"))
    shutil.copy(files[0], tmp_path / "gone.jpg")
    found = model.predict(tmp_path / "gone.jpg")
    Image.new("RGB", (30, 40)).save(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="30 x 40 pixels"):
        found.draw()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch: got 0; allowed are whole numbers from 1"),
        ({"batch": 2.0}, "batch: got 2.0"),
        ({"threshold": 50}, "threshold: got 50; allowed is a number from 0 to 1"),
        ({"threshold": float("nan")}, "threshold: got nan"),
        ({"class_agnostic_nms": "0.5"}, "class_agnostic_nms: got '0.5'"),
    ],
)
def test_options_out_of_range(model, files, options, message):
    with pytest.raises(RecipeError, match=message):
        model.predict(files[0], **options)
    # before an image is asked for
    with pytest.raises(RecipeError, match=message):
        model.predict_each(files, **options)
    with pytest.raises(DataError, match="predict_each takes several"):
        model.predict_each(files[0])


def test_what_is_no_run(run, tmp_path):
    with pytest.raises(DataError, match="nowhere: no such run or checkpoint; a relative path starts at"):
        load("nowhere")
    with pytest.raises(DataError, match="not a run directory"):
        load(tmp_path)
    with pytest.raises(DataError, match="load: got a int"):
        load(7)
    with pytest.raises(RecipeError, match="checkpoint: got 'latest'; allowed are last and best"):
        load(run, checkpoint="latest")
    with pytest.raises(RecipeError, match="is a checkpoint itself"):
        load(run / "checkpoints/last.pt", checkpoint="best")
    with pytest.raises(RecipeError, match="device: got 'tpu'"):
        load(run, device="tpu")
    (tmp_path / "weights.pt").write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"weights.pt"):
        load(Path(tmp_path / "weights.pt"))
