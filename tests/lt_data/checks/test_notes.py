"""Lines about annotation files for those who go on with them; and that official files give none."""

import csv

import numpy as np
import pytest

from lt_data.annotations.file import read_annotations
from lt_data.checks.notes import file_notes
from lt_data.checks.overlap import namesake_notes, namesakes, shared_files
from lt_data.checks.twins import category_twins
from tests.lt_data.findings import base, found
from tests.lt_data.pools import annotation, pool, save


def notes(tmp_path, content):
    return file_notes(read_annotations(save(content, tmp_path / "a.json")))


def spread(form):
    """Twelve objects all over a 64 x 48 image, their boxes written in this form."""
    content = pool({1: [1] * 12})
    for number, record in enumerate(content["annotations"]):
        record["bbox"] = form(4 + 10 * (number % 6), 20 * (number // 6), 9, 8)
    return content


def test_a_sound_file_gives_no_line(tmp_path):
    assert notes(tmp_path, base()) == []
    assert notes(tmp_path, spread(lambda *box: list(box))) == []


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (
            lambda x, y, w, h: [x, y, x + w, y + h],
            "a.json: 6 of 12 boxes reach beyond their image: are they x1, y1, x2, y2?",
        ),
        (lambda x, y, w, h: [x + w / 2, y + h / 2, w, h], "2 of 12 boxes reach beyond their image: are they centres"),
        (lambda x, y, w, h: [x / 64, y / 48, w / 64, h / 48], "12 of 12 boxes lie within 0..1: are they fractions"),
    ],
)
def test_boxes_of_another_form(tmp_path, form, says):
    lines = notes(tmp_path, spread(form))
    assert len(lines) == 1
    assert says in lines[0]


def test_objects(tmp_path):
    content = base()
    content["annotations"].append(annotation(9, 1, 2))
    content["annotations"][0]["ignore"] = 1
    content["annotations"][2]["bbox"] = [1, 2, 0.25, 4]
    narrow, twice, ignored = notes(tmp_path, content)
    assert "1 of 5 annotations have a box that is narrower than one pixel (annotation ids 3)" in narrow
    assert "1 of 5 annotations repeat another of the same image, category and box" in twice
    assert "(annotation ids 9)" in twice
    assert "1 of 5 annotations say ignore: 1" in ignored


def test_a_handful_in_a_large_file_is_no_line(tmp_path):
    content = pool({number: [1, 2] for number in range(1, 1002)})
    content["annotations"].append(annotation(9000, 1, 2))
    assert notes(tmp_path, content) == []
    content["annotations"] += [annotation(9000 + number, number, 2) for number in (2, 3)]
    assert len(notes(tmp_path, content)) == 1


def test_most_are_crowds(tmp_path):
    content = base()
    content["annotations"][0]["iscrowd"] = content["annotations"][1]["iscrowd"] = 1
    assert notes(tmp_path, content) == []
    content["annotations"][2]["iscrowd"] = 1
    (line,) = notes(tmp_path, content)
    assert line.startswith("a.json: 3 of 4 annotations are crowds, which count as no object; set iscrowd to 0")
    # where all are, nothing is left to do and those who find so say it
    content["annotations"][3]["iscrowd"] = 1
    assert notes(tmp_path, content) == []


def test_names(tmp_path):
    content = base()
    content["categories"][1]["name"] = "CATEGORY 1"
    content["images"][2]["file_name"] = "./000000000001.jpg"
    classes, images = notes(tmp_path, content)
    assert "2 categories share a name but for case, spaces, _ and -; each is a class" in classes
    assert "('category 1', 'CATEGORY 1')" in classes
    assert "2 images name one file; each counts as an image" in images


def test_images_of_both_files(tmp_path):
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
    a, b, c = (tmp_path / "train" / name for name in ("a.jpg", "b.jpg", "c.jpg"))
    copied, other, longer = (tmp_path / "val" / name for name in ("a.jpg", "b.jpg", "c.jpg"))
    for path in (a, b, c, copied):
        path.write_bytes(b"x" * 200_000)
    other.write_bytes(b"x" * 199_999 + b"y")
    longer.write_bytes(b"x" * 200_001)
    assert shared_files([a, b, c], [copied, other, longer, b]) == [0, 3]
    assert shared_files([a, b, c], [tmp_path / "val" / "none.jpg"]) == []
    assert shared_files([], [copied]) == []


def test_namesakes(tmp_path):
    train, val = base(), base()
    val["images"][0]["file_name"] = "./000000000001.jpg"
    val["images"][1]["width"] = 63
    val["images"][2].update(width=0, height=0)
    files = [read_annotations(save(content, tmp_path / name)) for name, content in (("a.json", train), ("v.json", val))]
    (line,) = namesake_notes(files[0], np.array([True, True, True]), files[1])
    assert line.startswith("v.json: 2 of 3 validation images have file name and size of images that are taken")
    assert namesake_notes(files[0], np.array([False, True, False]), files[1]) == []


@pytest.mark.parametrize("folders", [("", "val2017/"), ("train/", ""), ("b/", "a/b/")])
def test_namesakes_behind_folders(tmp_path, folders):
    train, val = base(), base()
    for content, folder in zip((train, val), folders, strict=True):
        for image in content["images"]:
            image["file_name"] = folder + image["file_name"]
    files = [read_annotations(save(content, tmp_path / name)) for name, content in (("a.json", train), ("v.json", val))]
    (line,) = namesake_notes(files[0], np.ones(3, bool), files[1])
    assert line.startswith("v.json: 3 of 3 validation images have file name and size")
    findings = found(tmp_path, train, other=tmp_path / "v.json")
    assert {code: f.count for code, f in findings.items()} == {"LT602": 3}
    # sizes tell them apart
    for image in val["images"]:
        image["width"] = 63
    val_file = read_annotations(save(val, tmp_path / "v.json"))
    assert namesake_notes(files[0], np.ones(3, bool), val_file) == []
    assert found(tmp_path, train, other=tmp_path / "v.json") == {}


def test_two_folders_make_two_pictures(tmp_path):
    assert namesakes(["train/a.jpg", "", "b.jpg"], ["val/a.jpg", "", "c.jpg"]) == []
    assert namesakes(["x/a.jpg", "./b.jpg"], ["b.jpg", "a.jpg", "y/x/a.jpg"]) == [(0, 1), (0, 2), (1, 0)]


def test_official_files_give_no_line(shared_data):
    real = shared_data / "coco_real/annotations"
    for path in (*sorted(real.glob("instances_*.json")), shared_data / "lvis_val_100/lvis_val_100.json"):
        assert file_notes(read_annotations(path)) == []
    train, val = (read_annotations(real / f"instances_{name}2017.json") for name in ("train", "val"))
    assert namesake_notes(train, np.ones(len(train.image_ids), bool), val) == []


def test_names_of_lvis_are_all_different(shared_data):
    for path in sorted(shared_data.glob("lvis_v*_counts/*train_counts_sorted_by_instances.csv")):
        with path.open(encoding="utf-8") as lines:
            names = [row["name"] for row in csv.DictReader(lines)]
        assert len(names) > 1000
        assert category_twins(names) == []
