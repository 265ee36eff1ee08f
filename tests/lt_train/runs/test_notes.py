"""What a run says of its data before the first step."""

import json
import re
import shutil

import pytest

from lt_data.errors import DataError
from lt_train.data.detection_data import load_data
from lt_train.runs.data import describe_data, load_run_data, make_plan
from lt_train.runs.notes import data_notes, other_training_file


def written(pool, path, change):
    content = json.loads((pool / "annotations.json").read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def apart(tiny_pool, tiny_recipe, tmp_path):
    """A recipe whose validation images are other pictures than its training images; a function of overrides."""
    images = tmp_path / "val_images"
    images.mkdir()
    names = sorted(path.name for path in (tiny_pool / "images").iterdir())
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        shutil.copy(tiny_pool / "images" / other, images / name)
    return lambda *overrides: tiny_recipe(f"data.val.images={images}", *overrides)


def warnings(recipe):
    data = load_run_data(recipe)
    lines = [line for line in describe_data(recipe, data, make_plan(recipe, data)) if line.startswith("warning: ")]
    assert list(data.notes)[-len(lines) :] == lines or not lines
    return lines


def test_sound_data_give_no_line(apart):
    assert warnings(apart()) == []
    assert warnings(apart("data.val=null")) == []


@pytest.mark.parametrize(
    ("method", "says", "mend"),
    [
        ("rfs", "no image is repeated, which is plain shuffling", "sampler.threshold="),
        ("irfs", "no image is repeated", "sampler.threshold="),
        ("equalization", "head.threshold=0.00177: no class is in fewer of the images", "head.threshold="),
        ("droploss", "head.threshold=0.00177: no class is in fewer of the images", "head.threshold="),
        ("federated", "head.classes=50: there are 20 classes", "head.classes="),
    ],
)
def test_a_method_that_is_plain_training_on_these_data_says_so_and_how_it_is_not(apart, method, says, mend):
    (line,) = warnings(apart(f"method={method}"))
    assert says in line
    # what it names is what helps
    key = [word for word in line.partition(" (factors from")[0].split() if word.startswith(mend)][-1]
    assert warnings(apart(f"method={method}", key)) == []


def test_images_up_to_which_a_class_is_common_may_hold_none(apart):
    (line,) = warnings(apart("method=acsl", "head.rare=0", "head.common=0"))
    assert "head.common=0: every class is in more images" in line
    named = next(word for word in reversed(line.split()) if word.startswith("head.common="))
    assert warnings(apart("method=acsl", "head.rare=0", named)) == []


def test_what_is_not_sampled_or_trained_with_its_head_is_not_warned_of(apart):
    assert warnings(apart("method=tau-norm", "sampler.name=repeat-factor")) == []
    assert warnings(apart("method=simcal", "head.name=equalization", "second_head.below=3")) == []


def test_a_file_of_ones_is_told_as_it_is(apart, tiny_pool, tmp_path):
    images = json.loads((tiny_pool / "annotations.json").read_text())["images"]
    factors = tmp_path / "factors.csv"
    factors.write_text("image_id,repeat_factor\n" + "".join(f"{image['id']},1.0\n" for image in images))
    (line,) = warnings(apart("sampler.name=repeat-factor", f"sampler.factors={factors}"))
    assert f": all factors in the file are 1 (factors from sampler.factors={factors}" in line


def test_factors_of_images_that_are_held_out_repeat_nothing(apart, tiny_pool, tmp_path):
    images = json.loads((tiny_pool / "annotations.json").read_text())["images"]
    factors = tmp_path / "factors.csv"
    recipe = apart("sampler.name=repeat-factor", f"sampler.factors={factors}", "data.hold_out=0.2")
    for repeated in (False, True):
        lines = [f"{image['id']},{2.0 if repeated else 1.0}\n" for image in images]
        factors.write_text("image_id,repeat_factor\n" + "".join(lines))
        data = load_run_data(recipe)
        assert any("no image is repeated" in note for note in data.notes) == (not repeated)
    held_out = {int(data.train.file.image_ids[row]) for row in data.held_out}
    assert held_out
    lines = [f"{image['id']},{2.0 if image['id'] in held_out else 1.0}\n" for image in images]
    factors.write_text("image_id,repeat_factor\n" + "".join(lines))
    assert any("no image is repeated" in note for note in load_run_data(recipe).notes)


@pytest.mark.parametrize("method", ["rfs", "irfs"])
def test_images_without_objects_and_classes_without_images_count_for_nothing(apart, tiny_pool, tmp_path, method):
    def change(content):
        kept = {image["id"] for image in content["images"][:4]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]

    path = written(tiny_pool, tmp_path / "few.json", change)
    recipe = (f"method={method}", f"data.train.annotations={path}", "data.val=null")
    found = [line for line in warnings(apart(*recipe)) if "sampler" in line]
    named = next(word for word in found[0].split() if word.startswith("sampler.threshold="))
    data = load_run_data(apart(*recipe, named))
    assert (data.factors.values > 1).any()
    lower, of = map(int, re.search(r"lie (\d+) of (\d+) classes", found[0]).groups())
    assert 0 < lower < of < 20


def test_validation_images_that_are_training_images(tiny_recipe, tiny_pool, tmp_path):
    assert warnings(tiny_recipe()) == [
        f"warning: annotations.json: 12 of 12 validation images are training images ({first_name(tiny_pool)}, ...): "
        "figures of them say nothing about new images"
    ]
    # copies in another folder, some of them other pictures
    copies = tmp_path / "copies"
    shutil.copytree(tiny_pool / "images", copies)
    for path in sorted(copies.iterdir())[:5]:
        path.write_bytes(path.read_bytes()[:-30] + bytes(30))
    (line,) = warnings(tiny_recipe(f"data.val.images={copies}"))
    assert "7 of 12 validation images are training images" in line


def first_name(pool):
    return json.loads((pool / "annotations.json").read_text())["images"][0]["file_name"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(annotations=[]), "val.json: has no annotation: nothing will be measured"),
        (lambda c: c.update(annotations=[], images=[]), "val.json: has no image: nothing will be measured"),
        (
            lambda c: [a.update(iscrowd=1) for a in c["annotations"]],
            "val.json: has no annotation but crowds: nothing will be measured",
        ),
        (lambda c: [a.update(bbox=[v / 64 for v in a["bbox"]]) for a in c["annotations"]], "boxes lie within 0..1"),
    ],
)
def test_validation_data_that_measure_nothing_are_said_before_the_first_step(apart, tiny_pool, tmp_path, change, says):
    path = written(tiny_pool, tmp_path / "val.json", change)
    (line,) = warnings(apart(f"data.val.annotations={path}"))
    assert says in line


def test_training_data(apart, tiny_pool, tmp_path):
    def change(content):
        for record in content["annotations"]:
            x, y, w, h = record["bbox"]
            record["bbox"] = [x, y, x + w, y + h]
            record["ignore"] = 1

    path = written(tiny_pool, tmp_path / "train.json", change)
    form, ignored = warnings(apart(f"data.train.annotations={path}"))
    assert "boxes reach beyond their image: are they x1, y1, x2, y2?" in form
    assert "say ignore: 1" in ignored


def test_boxes_that_are_too_small_to_train_on_are_asked_about_too(tiny_pool, tmp_path):
    def change(content):
        for record in content["annotations"]:
            record["bbox"] = [value / 64**2 for value in record["bbox"]]

    path = written(tiny_pool, tmp_path / "t.json", change)
    with pytest.raises(DataError, match="mend the boxes") as error:
        load_data(path, tiny_pool / "images")
    assert "lie within 0..1: are they fractions of the image?" in error.value.problems[1]


def test_one_file_for_both_says_all_once(tiny_pool, tmp_path):
    path = written(tiny_pool, tmp_path / "a.json", lambda c: c["annotations"][0].update(ignore=1))
    data = load_data(path, tiny_pool / "images")
    lines = data_notes(data, None)
    assert len(lines) == 1
    assert "(annotation ids 1)" in lines[0]


def test_a_file_of_crowds_alone_cannot_be_trained_on(apart, tiny_pool, tmp_path):
    path = written(tiny_pool, tmp_path / "t.json", lambda c: [a.update(iscrowd=1) for a in c["annotations"]])
    recipe = apart(f"data.train.annotations={path}", "model.name=faster_rcnn_small")
    with pytest.raises(DataError, match=r"all \d+ annotations are crowds"):
        load_run_data(recipe)


def test_weights_of_another_training_file(tiny_pool, tmp_path):
    data = load_data(tiny_pool, tiny_pool / "images")
    instances = int(data.counts.instances.sum())
    same = {"train_sha256": data.file.sha256, "categories": {"instances": [1]}}
    assert other_training_file(same, data, tmp_path) == []
    assert other_training_file({"model": {}}, data, tmp_path) == []
    (line,) = other_training_file({**same, "train_sha256": "0" * 64}, data, tmp_path / "softmax")
    assert "softmax was trained on another annotation file than" in line
    assert f"1 instances there, {instances} here" in line
