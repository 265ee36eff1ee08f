"""What a build says of the images and objects that it takes, and of its validation file."""

import json

import pytest
from click.testing import CliRunner
from lt_cli.data import main

from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.result import Extras
from lt_data.dataset.options import BuildOptions
from tests.lt_data.pools import annotation, pool, save

ALL = BuildOptions(on_shortage="cap")


def distinct():
    """Twenty images whose objects all lie at places of their own."""
    content = pool({i: [1, 1, 2] for i in range(1, 21)})
    for record in content["annotations"]:
        record["bbox"][0] = record["id"] / 8
    return content


def built(tmp_path, content, *, val=None):
    val = None if val is None else save(val, tmp_path / "val.json")
    pool_path = save(content, tmp_path / "pool.json")
    return build_coco_lt(pool_path, None, reference="exp:2", options=ALL, extras=Extras(val))


def validation(**changes):
    return {**pool({101: [1, 2]}), **changes}


def test_a_sound_pool_gives_no_line(tmp_path):
    assert built(tmp_path, distinct(), val=validation()).notes == ()


def test_objects_that_are_listed_twice(tmp_path):
    content = distinct()
    content["annotations"] += [{**record, "id": record["id"] + 500} for record in content["annotations"]]
    (line,) = built(tmp_path, content).notes
    assert "60 of 120 annotations of images that are taken repeat another of the same image, category and box" in line


def test_ignore_beside_boxes_that_cannot_be_read(tmp_path):
    content = distinct()
    content["annotations"][0]["ignore"] = 1
    # a build needs no boxes
    content["annotations"][1]["bbox"] = "1, 2, 3, 4"
    line, _ = built(tmp_path, content).notes
    assert "1 of 60 annotations of images that are taken say ignore: 1" in line


def test_boxes_that_training_refuses_are_said(tmp_path):
    content = distinct()
    content["annotations"][0]["bbox"] = [1, 2, "3", "4"]
    (line,) = built(tmp_path, content).notes
    assert "1 of the annotations taken have a bbox or area that cannot be read (LT302, LT303; ids 1)" in line


@pytest.mark.parametrize(
    "segmentation",
    [
        [1, 2, 4, 2, 4, 6],
        [[[1, 2], [4, 2], [4, 6]]],
        [{"size": [48, 64], "counts": [0, 9, 3063]}],
        {"size": [48, 64], "counts": ["0", "9", "3063"]},
        {"size": [48, 64], "counts": "b'abc'"},
        {"size": [64, 48], "counts": [0, 9, 3063]},
        {"size": [48, 64], "counts": [0, 9]},
        "polygon",
    ],
    ids=json.dumps,
)
def test_masks_that_training_refuses_are_said(tmp_path, segmentation):
    content = distinct()
    content["annotations"][0]["segmentation"] = segmentation
    (line,) = built(tmp_path, content).notes
    assert "1 of the annotations taken have a segmentation that cannot be read or does not fit its image" in line
    assert "(LT404, LT405; ids 1): lt-train refuses to train masks" in line


@pytest.mark.parametrize("segmentation", [None, [], [[]], {"size": [48, 64], "counts": [0, 9, 3063]}], ids=json.dumps)
def test_masks_that_are_sound_or_none_are_not(tmp_path, segmentation):
    content = distinct()
    content["annotations"][0]["segmentation"] = segmentation
    assert built(tmp_path, content).notes == ()


def test_names_that_differ_in_case(tmp_path):
    content = distinct()
    content["categories"][1]["name"] = "Category 1"
    (line,) = built(tmp_path, content).notes
    assert "2 categories share a name but for case, spaces, _ and -" in line


@pytest.mark.parametrize(
    ("val", "says"),
    [
        (
            pool({1: [1, 2], 2: [1]}),
            "val.json: 2 of 2 validation images have file name and size of images",
        ),
        (validation(annotations=[]), "val.json: has no annotation: nothing can be measured on it"),
        (validation(annotations=[annotation(1, 101, 1, crowd=1)]), "val.json: has no annotation but crowds"),
    ],
)
def test_the_validation_file(tmp_path, val, says):
    (line,) = built(tmp_path, distinct(), val=val).notes
    assert line.startswith(says)


def test_the_command_says_it_and_the_record_does_not(tmp_path):
    content, out = distinct(), tmp_path / "out"
    content["annotations"].append(annotation(900, 1, 1, box=(0.125, 2, 3, 4)))
    path = save(content, tmp_path / "p.json")
    options = ["--coco", path, "--out", out, "--reference", "exp:2", "--on-shortage", "cap"]
    run = CliRunner().invoke(main, ["build-coco-lt", *map(str, options)])
    assert run.exit_code == 0
    assert "warning: p.json: 1 of 61 annotations of images that are taken repeat another" in run.stderr
    assert "repeat another" not in (out / "build.json").read_text()
    assert CliRunner().invoke(main, ["verify", str(out), "--pool", str(path)]).exit_code == 0


def test_json_has_every_warning_that_is_printed(tmp_path):
    content = distinct()
    content["annotations"].append(annotation(900, 1, 1, box=(0.125, 2, 3, 4)))
    content["categories"].append({"id": 3, "name": "empty"})
    options = ["--coco", save(content, tmp_path / "p.json"), "--reference", "exp:2", "--on-shortage", "cap"]
    run = CliRunner().invoke(main, ["build-coco-lt", *map(str, options), "--dry-run", "--format", "json"])
    printed = [line.removeprefix("warning: ") for line in run.stderr.splitlines() if line.startswith("warning: ")]
    assert len(printed) == 2
    assert json.loads(run.stdout)["warnings"] == printed
