"""Predicting on images: ids, files, pictures, and what is never overwritten."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from pycocotools.coco import COCO

from cli.train import main
from lt_data.annotations.file import read_annotations
from lt_data.errors import DataError, OutputError, RecipeError
from lt_train.inference import predict_images as predict_module
from lt_train.inference.predict_images import picture_names, predict_images
from lt_train.report.detection_picture import draw_detections, plot_detections


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


def test_a_picture_without_a_box_says_why(monkeypatch):
    from matplotlib.figure import Figure

    titles = []
    legend = Figure.legend
    monkeypatch.setattr(Figure, "legend", lambda *a, **k: titles.append(k["title"]) or legend(*a, **k))
    style = {"names": {7: "cat"}, "group_of": {7: "g"}, "groups": ["g"], "threshold": 0.5}
    for scores in ([0.04, 0.12], [], [0.5]):
        records = [{"category_id": 7, "bbox": [0, 0, 9, 9], "score": score} for score in scores]
        draw_detections(np.zeros((9, 9, 3), np.uint8), records, **style)
    assert titles == ["no score of 0.5; the best is cat 0.12", "nothing found", "training instances of the category"]


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


def rows(path):
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_table_has_the_names_of_the_results(run, folder, tmp_path):
    predict_images(run, folder, tmp_path / "out", pictures=0)
    listed, results = content(tmp_path / "out/images.json"), content(tmp_path / "out/predictions.json")
    files = {image["id"]: image["file_name"] for image in listed["images"]}
    categories = {category["id"]: category["name"] for category in listed["categories"]}
    table = rows(tmp_path / "out/predictions.csv")
    assert len(table) == len(results) > 0
    groups = {i: name for name, ids in content(run / "data.json")["groups"].items() for i in ids}
    for row, record in zip(table, results, strict=True):
        category_id = record["category_id"]
        assert row["file_name"] == files[int(row["image_id"])] == files[record["image_id"]]
        assert (row["category_id"], row["category"]) == (str(category_id), categories[category_id])
        assert row["group"] == groups[category_id]
        assert [float(row[key]) for key in ("score", "x", "y", "width", "height")] == [record["score"], *record["bbox"]]


def test_weak_and_overlapping_records_are_left_out(run, folder, tmp_path):
    predict_images(run, folder, tmp_path / "all", pictures=0)
    results = content(tmp_path / "all/predictions.json")
    level = sorted(record["score"] for record in results)[len(results) // 2]
    predict_images(run, folder, tmp_path / "strong", pictures=0, min_score=level)
    assert content(tmp_path / "strong/predictions.json") == [r for r in results if r["score"] >= level]
    predict_images(run, folder, tmp_path / "apart", pictures=0, class_agnostic_nms=0.0)
    apart = content(tmp_path / "apart/predictions.json")
    assert len(apart) < len(results)
    assert all(record in results for record in apart)
    for wrong in ({"min_score": 2}, {"class_agnostic_nms": float("nan")}):
        with pytest.raises(RecipeError, match="allowed is a number from 0 to 1"):
            predict_images(run, folder, tmp_path / "none", **wrong)


def test_chosen_images_keep_their_numbers(run, folder, tiny_pool, tmp_path):
    predict_images(run, folder, tmp_path / "all", pictures=0)
    everything = content(tmp_path / "all/predictions.json")
    for only, ids in ((["sub/b.jpg"], {3}), (["1", "sub/b.jpg"], {1, 3}), (["sub/*"], {2, 3})):
        done = predict_images(run, folder, tmp_path / "some", pictures=0, only=only, force=True)
        assert content(tmp_path / "some/predictions.json") == [r for r in everything if r["image_id"] in ids]
        assert {image["id"] for image in content(tmp_path / "some/images.json")["images"]} == ids
        assert (done.images, done.notes) == (len(ids), ())
    with pytest.raises(DataError) as error:
        predict_images(run, folder, tmp_path / "none", only=["b.jpg", "9", "c.jpg"])
    assert [line.split(":")[0] for line in error.value.problems] == ["--only 'b.jpg'", "--only '9'"]
    assert "sub/b.jpg" in error.value.problems[0]
    # the other images of an annotation file need not be there
    name = content(tiny_pool / "annotations.json")["images"][4]["file_name"]
    (tmp_path / "few").mkdir()
    shutil.copy(tiny_pool / "images" / name, tmp_path / "few")
    listed = {"annotations": tiny_pool / "annotations.json", "only": [name]}
    assert predict_images(run, tmp_path / "few", tmp_path / "one", pictures=0, **listed).images == 1


def test_what_is_annotated_stands_beside_what_is_found(run, tiny_pool, tmp_path, monkeypatch):
    """Crowds and what cannot be drawn are left out, and no detection is weaker than the threshold."""
    file = content(tiny_pool / "annotations.json")
    first = file["images"][0]["id"]
    objects = [record for record in file["annotations"] if record["image_id"] == first]
    others = [record for record in file["annotations"] if record["image_id"] != first]
    objects[0]["iscrowd"] = 1
    objects[1]["segmentation"] = [[1, 2]]
    (tmp_path / "val.json").write_text(json.dumps({**file, "annotations": objects + others}))
    drawn = []
    original = predict_module.plot_detections

    def plot(path, image, records, **style):
        drawn.append(([r for r in records if r["score"] >= style["threshold"]], style["truth"]))
        original(path, image, records, **style)

    monkeypatch.setattr(predict_module, "plot_detections", plot)
    images = tiny_pool / "images"
    options = {"annotations": tmp_path / "val.json", "pictures": 1, "score_threshold": 0.99}
    (note,) = predict_images(run, images, tmp_path / "out", **options).notes
    assert note.startswith("pictures show scores from 0.99 on, the highest is 0.")
    ((records, truth),) = drawn
    assert records == []
    assert [(t["category_id"], t["bbox"]) for t in truth] == [(o["category_id"], o["bbox"]) for o in objects[1:]]
    assert ["segmentation" in record for record in truth] == [False] + [True] * (len(objects) - 2)
    name = f"{file['images'][0]['file_name']}.png"
    with Image.open(tmp_path / "out/pictures" / name) as picture:
        assert picture.width > 2 * 640
    # a file without annotations, as test sets come, says nothing of what is there
    (tmp_path / "test.json").write_text(json.dumps({**file, "annotations": []}))
    predict_images(run, images, tmp_path / "test", annotations=tmp_path / "test.json", pictures=1)
    assert drawn[1][1] is None


def test_masks_that_are_annotated_are_drawn(tmp_path):
    """Polygons and run lengths of one square tint the same pixels."""
    from pycocotools import mask as rle

    from lt_train.report.annotated import annotated_records

    square = np.zeros((40, 60), np.uint8)
    square[10:30, 20:50] = 1
    encoded = rle.encode(np.asfortranarray(square))
    forms = [[[20, 10, 50, 10, 50, 30, 20, 30]], {"size": [40, 60], "counts": encoded["counts"].decode()}]
    forms += [{"size": [40, 60], "counts": [810, *[20, 20] * 29, 20, 410]}]
    box = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [20, 10, 30, 20], "area": 600, "iscrowd": 0}
    pictures = []
    for form in forms:
        listed = {"images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}]}
        listed |= {"annotations": [{**box, "segmentation": form}], "categories": [{"id": 7, "name": "x"}]}
        (tmp_path / "a.json").write_text(json.dumps(listed))
        (record,) = annotated_records(read_annotations(tmp_path / "a.json"), 0, (40, 60))
        assert np.array_equal(rle.decode(record["segmentation"]), square)
        style = {"names": {7: "x"}, "group_of": {7: "g"}, "groups": ["g"]}
        plot_detections(tmp_path / "a.png", np.zeros((40, 60, 3), np.uint8), [], truth=[record], **style)
        pictures.append(np.array(Image.open(tmp_path / "a.png").convert("RGB")))
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)
    assert annotated_records(read_annotations(tmp_path / "a.json"), 0, (41, 60))[0].keys() == {"category_id", "bbox"}


def test_the_command(run, folder, tmp_path):
    asked = ["predict", str(run), str(folder), "--out", str(tmp_path / "out"), "--pictures", "0", "--only", "c.jpg"]
    done = CliRunner().invoke(main, [*asked, "--min-score", "0.001", "--class-agnostic-nms", "0.9"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("1 images, ")
    refused = CliRunner().invoke(main, [*asked, "--only", "d.jpg", "--force"])
    assert refused.exit_code == 1
    assert "--only 'd.jpg'" in refused.output
