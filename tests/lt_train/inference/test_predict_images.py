"""Predicting on images: ids, files, pictures, and what is never overwritten."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from lt_data.errors import DataError, OutputError
from lt_train.engine.fit import fit
from lt_train.inference.predict_images import picture_names, predict_images
from lt_train.recipe.load import make_recipe
from lt_train.report.detection_picture import plot_detections


@pytest.fixture(scope="module")
def run(tiny_pool, tmp_path_factory):
    files = {"annotations": str(tiny_pool / "annotations.json"), "images": str(tiny_pool / "images")}
    recipe = {
        "data": {"train": files, "val": files, "groups": [2, 3], "workers": 0},
        "model": {"name": "mask_rcnn_small", "min_size": [64], "max_size": 64, "num_detections": 5},
        "optim": {"batch": 2, "base_batch": 2},
        "schedule": {"iterations": 2, "decay": [1], "warmup": 1},
        "device": "cpu",
    }
    out = tmp_path_factory.mktemp("predict") / "run"
    fit(make_recipe(recipe, ("model.score_threshold=0.001",)), out)
    return out


@pytest.fixture
def folder(tiny_pool, tmp_path):
    """Three images in the order c, sub/a, sub/b, and what is no image."""
    sources = sorted((tiny_pool / "images").iterdir())
    (tmp_path / "images/sub/.cache").mkdir(parents=True)
    for source, name in zip(
        sources, ("sub/b.jpg", "sub/a.JPG", "c.jpg", ".hidden.jpg", "sub/.cache/d.jpg"), strict=False
    ):
        shutil.copy(source, tmp_path / "images" / name)
    (tmp_path / "images/notes.txt").write_text("no image")
    return tmp_path / "images"


def content(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_folder(run, folder, tmp_path):
    done = predict_images(run, folder, tmp_path / "out", pictures=2, score_threshold=0)
    images = content(tmp_path / "out/images.json")
    assert [(i["id"], i["file_name"]) for i in images["images"]] == [(1, "c.jpg"), (2, "sub/a.JPG"), (3, "sub/b.jpg")]
    assert [(i["width"], i["height"]) for i in images["images"]] == [(64, 64)] * 3
    assert (done.images, done.pictures, done.unreadable) == (3, 2, ())
    results = content(tmp_path / "out/predictions.json")
    assert len(results) == done.detections > 0
    assert {r["category_id"] for r in results} <= {c["id"] for c in images["categories"]}
    names = {str(p.relative_to(tmp_path / "out/pictures")) for p in (tmp_path / "out/pictures").rglob("*.png")}
    assert names == {"c.jpg.png", "sub/a.JPG.png"}
    with Image.open(tmp_path / "out/pictures/c.jpg.png") as picture:
        assert picture.size[0] >= 640
    coco = COCO(tmp_path / "out/images.json").loadRes(str(tmp_path / "out/predictions.json"))
    assert coco.annToMask(coco.loadAnns([1])[0]).shape == (64, 64)
    assert list(tmp_path.glob(".*")) == []


def test_files_of_a_folder_that_are_skipped_are_named(run, folder, tmp_path):
    shutil.copy(folder / "c.jpg", folder / "sub/e.gif")
    done = predict_images(run, folder, tmp_path / "out", pictures=0)
    assert done.images == 3
    assert done.notes == (
        f"{folder}: 2 files are no images by their names and were skipped (notes.txt, sub/e.gif); images end in "
        ".bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp, others can be given one by one",
    )
    alone = predict_images(run, folder / "sub/e.gif", tmp_path / "one", pictures=0)
    assert (alone.images, alone.notes) == (1, ())


def test_one_image_and_no_pictures(run, folder, tmp_path):
    done = predict_images(run, folder / "c.jpg", tmp_path / "out", pictures=0)
    assert [i["file_name"] for i in content(tmp_path / "out/images.json")["images"]] == ["c.jpg"]
    assert done.pictures == 0
    assert not (tmp_path / "out/pictures").exists()


@pytest.mark.parametrize("with_annotations", [True, False])
def test_ids_of_an_annotation_file(run, tiny_pool, tmp_path, with_annotations):
    listed = content(tiny_pool / "annotations.json")
    for record in listed["images"]:
        record["id"] += 1000
    for record in listed["annotations"]:
        record["image_id"] += 1000
    if not with_annotations:
        del listed["annotations"]  # as test sets come
    (tmp_path / "test.json").write_text(json.dumps(listed))
    predict_images(run, tiny_pool / "images", tmp_path / "out", annotations=tmp_path / "test.json", pictures=0)
    found = content(tmp_path / "out/predictions.json")
    evaluated = content(run / "eval/predictions.json")
    assert found == [{**record, "image_id": record["image_id"] + 1000} for record in evaluated]
    assert [i["id"] for i in content(tmp_path / "out/images.json")["images"]] == [i["id"] for i in listed["images"]]


def test_annotations_of_other_categories_or_without_their_images(run, tiny_pool, folder, tmp_path):
    listed = content(tiny_pool / "annotations.json")
    listed["categories"][0]["name"] = "another thing"
    (tmp_path / "other.json").write_text(json.dumps(listed))
    with pytest.raises(DataError, match="categories differ from the training file's"):
        predict_images(run, tiny_pool / "images", tmp_path / "out", annotations=tmp_path / "other.json")
    with pytest.raises(DataError, match="images are missing"):
        predict_images(run, folder, tmp_path / "out", annotations=tiny_pool / "annotations.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match="broken.json"):
        predict_images(run, folder, tmp_path / "out", annotations=tmp_path / "broken.json")
    assert not (tmp_path / "out").exists()


def test_unreadable_images_are_named_and_left_out(run, folder, tmp_path):
    (folder / "c.jpg").write_bytes(b"no image")
    (folder / "sub/b.jpg").write_bytes((folder / "sub/b.jpg").read_bytes()[:200])
    done = predict_images(run, folder, tmp_path / "out")
    assert [line.split(": ")[0] for line in done.unreadable] == [str(folder / "c.jpg"), str(folder / "sub/b.jpg")]
    assert [i["id"] for i in content(tmp_path / "out/images.json")["images"]] == [2]
    (folder / "sub/a.JPG").write_bytes(b"")
    with pytest.raises(DataError) as error:
        predict_images(run, folder, tmp_path / "none")
    assert len(error.value.problems) == 3
    assert not (tmp_path / "none").exists()


def test_nothing_is_overwritten_unasked(run, folder, tmp_path):
    out = tmp_path / "out"
    predict_images(run, folder, out, pictures=1)
    before = (out / "predictions.json").read_bytes()
    with pytest.raises(OutputError, match="--force"):
        predict_images(run, folder, out)
    predict_images(run, folder, out, pictures=0, force=True)
    assert (out / "predictions.json").read_bytes() == before
    assert not (out / "pictures").exists()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"no predictions \(notes.txt\)"):
        predict_images(run, folder, out, force=True)
    with pytest.raises(OutputError, match="is no directory"):
        predict_images(run, folder, out / "notes.txt", force=True)


def test_pictures_of_an_earlier_prediction_are_no_input(run, folder):
    first = predict_images(run, folder, folder / "out")
    again = predict_images(run, folder, folder / "out", force=True)
    assert (first.images, again.images) == (3, 3)
    with pytest.raises(OutputError, match="holds the input"):
        predict_images(run, folder / "out/pictures", folder / "out", force=True)


def test_places_without_images(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in it"):
        predict_images(run, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="no such image or folder"):
        predict_images(run, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DataError, match="not a run directory"):
        predict_images(tmp_path / "empty", tmp_path / "empty", tmp_path / "out")


def test_names_of_pictures_never_meet():
    assert picture_names({1: "a/b.jpg", 2: "c.tar.png"}) == ["a/b.jpg.png", "c.tar.png.png"]
    assert picture_names({4: "a.jpg", 7: "A.JPG", 9: "./a.jpg"}) == ["a.jpg.png", "A.JPG.7.png", "a.jpg.9.png"]
    assert picture_names({1: "im/x.jpg", 2: "im/x.jpg.png/y.jpg"}) == ["im/x.jpg.1.png", "im/x.jpg.png/y.jpg.png"]
    assert picture_names({1: "x", 2: "x", 3: "x.2"}) == ["x.png", "x.2.png", "x.2.3.png"]


def test_pictures_beside_folders_that_are_called_like_images(run, folder, tmp_path):
    (folder / "c.png").mkdir()
    shutil.copy(folder / "c.jpg", folder / "c.png/y.jpg")
    done = predict_images(run, folder, tmp_path / "out", score_threshold=0)
    assert done.pictures == 4 == sum(path.is_file() for path in (tmp_path / "out/pictures").rglob("*"))


def test_two_ids_of_one_file_have_a_picture_each(run, tiny_pool, tmp_path):
    listed = content(tiny_pool / "annotations.json")
    first = listed["images"][0]
    test_set = {"images": [first, {**first, "id": 900}], "categories": listed["categories"]}
    (tmp_path / "test.json").write_text(json.dumps(test_set))
    predict_images(run, tiny_pool / "images", tmp_path / "out", annotations=tmp_path / "test.json")
    name = first["file_name"]
    assert {p.name for p in (tmp_path / "out/pictures").iterdir()} == {f"{name}.png", f"{name}.900.png"}


def test_pictures_that_cannot_be_written(run, folder, tmp_path):
    """The ending makes the name too long for the disk."""
    (folder / "c.jpg").rename(folder / f"{'c' * 248}.jpg")
    with pytest.raises(OutputError, match="cannot be written") as error:
        predict_images(run, folder, tmp_path / "out")
    assert error.value.problems[0].startswith(f"{tmp_path / 'out/pictures'}/ccc")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images"]


def test_names_that_are_not_utf_8(run, folder, tmp_path):
    odd = os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")
    try:
        shutil.copy(folder / "c.jpg", odd)
    except OSError:
        pytest.skip("this disk takes no such name")
    done = predict_images(run, folder, tmp_path / "out", pictures=0)
    assert done.images == 3
    assert [line.split(": ")[0] for line in done.unreadable] == [rf"{folder}/caf\xe9.jpg"]
    assert [i["file_name"] for i in content(tmp_path / "out/images.json")["images"]] == [
        *("c.jpg", "sub/a.JPG", "sub/b.jpg")
    ]
    with pytest.raises(DataError, match="not UTF-8") as error:
        predict_images(run, Path(odd), tmp_path / "none")
    assert len(error.value.problems) == 1


def test_an_image_of_one_column(run, tmp_path):
    Image.new("RGB", (1, 2000), "white").save(tmp_path / "line.png")
    done = predict_images(run, tmp_path / "line.png", tmp_path / "out", score_threshold=0)
    assert (done.images, done.pictures) == (1, 1)


@pytest.mark.parametrize("size", [(1, 1), (30, 900), (2000, 40)])
def test_pictures_of_any_size(tmp_path, size):
    """The box and the mask change what is drawn, whatever the image's shape."""
    from pycocotools import mask as rle

    height, width = size
    image = np.full((height, width, 3), 128, np.uint8)
    mask = rle.encode(np.asfortranarray(np.ones(size, np.uint8)))
    record = {"category_id": 7, "bbox": [0, 0, width, height], "score": 0.9, "segmentation": mask}
    style = {"names": {7: "кот $x$"}, "group_of": {7: "[1, 2)"}, "groups": ["(0, 1)", "[1, 2)"]}
    for name, records in (("empty", []), ("found", [record])):
        plot_detections(tmp_path / f"{name}.png", image, records, **style)
    pictures = [np.array(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("empty", "found")]
    assert pictures[0].shape == pictures[1].shape
    middle = [picture[(picture.shape[0] - 66) // 2, picture.shape[1] // 2] for picture in pictures]
    assert (middle[0] == 128).all()
    assert (middle[1] != 128).any()
