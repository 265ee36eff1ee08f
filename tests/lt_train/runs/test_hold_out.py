"""Images held out of training: which they are, what is counted without them, and what a search measures on."""

import csv
import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from lt_cli.train import main

from lt_data.errors import DataError, RecipeError
from lt_train.data.detection_data import load_data
from lt_train.data.images import read_image
from lt_train.engine.calibrate import calibrate_run
from lt_train.engine.calibration_search import Search, write_search
from lt_train.engine.fit import fit
from lt_train.evaluation.comparison.compare import compare_evaluations
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.recipe.sections import Files
from lt_train.report.search_curve import search_figure
from lt_train.runs.checkpoint import load_checkpoint
from lt_train.runs.data import load_run_data
from lt_train.runs.hold_out import held_out_rows, seen_rows


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """24 images of 5 classes, one of which has a single image, and an image without objects."""
    from lt_data.synthetic.pool import write_pool

    out = tmp_path_factory.mktemp("held") / "pool"
    write_pool(out, images=24, categories=20, size=64, instances_per_image=(2, 4))
    path = out / "annotations.json"
    content = json.loads(path.read_text())
    content["categories"] = content["categories"][:5]
    ids = [category["id"] for category in content["categories"]]
    first, empty = (image["id"] for image in content["images"][:2])
    for number, annotation in enumerate(content["annotations"]):
        rare = annotation["image_id"] == first
        annotation["category_id"] = ids[0] if rare else ids[1 + number % 4]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != empty]
    path.write_text(json.dumps(content))
    return out


@pytest.fixture
def recipe_on(tiny_recipe, pool):
    """A recipe of one step on the pool, without validation data; a function of overrides."""
    files = {"annotations": str(pool / "annotations.json"), "images": str(pool / "images")}
    options = (f"data.train={json.dumps(files)}", "data.val=null", "model.name=faster_rcnn_small")
    short = ("schedule.iterations=1", "schedule.decay=[]", "schedule.warmup=0")
    return lambda *overrides: tiny_recipe(*options, *short, *overrides)


def ids_held_out(data):
    return {int(i) for i in data.train.file.image_ids[data.held_out]}


def test_the_order_is_that_of_the_ids_and_every_class_keeps_an_image(pool):
    data = load_data(pool / "annotations.json", pool / "images")
    content = json.loads((pool / "annotations.json").read_text())
    classes = {i["id"]: {a["category_id"] for a in content["annotations"] if a["image_id"] == i["id"]} for i in
               content["images"]}  # fmt: skip
    left = {c["id"]: sum(c["id"] in found for found in classes.values()) for c in content["categories"]}
    wanted = []
    for i in sorted(classes, key=lambda i: hashlib.sha256(f"hold-out:{i}".encode()).digest()):
        if all(left[c] > 1 for c in classes[i]):
            wanted.append(i)
            left.update({c: left[c] - 1 for c in classes[i]})
    assert 1 in left.values()
    for share, number in ((0.0, 0), (0.05, 1), (0.25, 6), (0.5, 12)):
        assert data.file.image_ids[held_out_rows(data, share)].tolist() == wanted[:number]
    assert len(wanted) < 24
    with pytest.raises(DataError, match=r"data.hold_out=0.001: holds out none of the 24 images"):
        held_out_rows(data, 0.001)


def test_what_is_counted_without_them(pool, recipe_on):
    """Heads go by what is trained on; groups and repeat factors stay, so that runs with and without can be compared."""
    options = ("sampler=repeat-factor", "sampler.threshold=0.9", "data.groups=[8,12]")
    whole = load_run_data(recipe_on(*options))
    data = load_run_data(recipe_on(*options, "data.hold_out=0.25", "seed=5"))
    assert len(data.held_out) == 6
    ids, held = data.train.file.image_ids, ids_held_out(data)
    assert {data.dataset.image_id(row) for row in range(len(data.dataset))} == {
        whole.dataset.image_id(row) for row in range(len(whole.dataset))
    } - held
    content = json.loads((pool / "annotations.json").read_text())
    trained = [a for a in content["annotations"] if a["image_id"] not in held]
    for row, category in enumerate(data.train.counts.category_ids.tolist()):
        own = [a["image_id"] for a in trained if a["category_id"] == category]
        assert data.train.counts.instances[row] == len(own) > 0
        assert data.train.counts.images[row] == len(set(own))
    assert data.train.counts.total_images == 18
    assert (data.groups, data.factors.sha256) == (whole.groups, whole.factors.sha256)
    # with images without objects too, and whatever classes are trained
    for more in ("data.keep_empty=true", "data.classes_below=9", "seed=9"):
        other = load_run_data(recipe_on("data.hold_out=0.25", more))
        assert ids_held_out(other) == held
        assert not held & {other.dataset.image_id(row) for row in range(len(other.dataset))}
    assert sum("data.hold_out=0.25: 6 images with" in note for note in data.notes) == 1
    # what was trained on is shown where nothing is held out
    assert set(seen_rows(ids, data.dataset.rows).tolist()) == set(data.dataset.rows.tolist())


def measured_images(monkeypatch):
    """Paths of the images that are opened from now on."""
    opened = []

    def spy(path, *arguments):
        opened.append(path.name)
        return read_image(path, *arguments)

    monkeypatch.setattr("lt_train.inference.detect.read_image", spy)
    return opened


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """Searches an option of a run; the new run, what every output calls the images, and the names of these."""

    def search(source, *overrides, **options):
        opened, out = measured_images(monkeypatch), tmp_path / f"tuned-{len(list(tmp_path.iterdir()))}"
        asked = Search("tau", (1.0,), **options)
        done = calibrate_run(source.path, "tau-norm", out, overrides=overrides, search=asked)
        rows = csv.DictReader((done.report / "search.csv").open())
        record = json.loads(done.data.read_text())["search"]
        (kind,) = {record["measured_on"], *(row["measured_on"] for row in rows)}
        # validation images are looked at afterwards
        return done, kind, set(opened[: record["images"]])

    return search


def test_a_search_measures_on_what_was_held_out(recipe_on, pool, tuned, tmp_path):
    recipe = recipe_on("data.hold_out=0.25", "data.groups=[8,12]")
    run = fit(recipe, tmp_path / "run")
    record, data = json.loads(run.data.read_text()), load_run_data(recipe)
    names = {data.train.paths[row].name for row in data.held_out}
    assert set(record["held_out"]["image_ids"]) == ids_held_out(data)
    assert record["train"]["instances"] > sum(record["categories"]["instances"])
    with pytest.raises(RecipeError, match="data.hold_out"):
        fit(recipe_on("data.hold_out=0.5"), run.path, resume=True)
    held, kind, looked_at = tuned(run)
    assert (kind, looked_at) == ("held-out", names)
    assert "box AP in percent, on held-out training images:" in held.log.read_text()
    # its bounds were laid through all images, and whoever uses the run keeps the groups
    files = Files(annotations=pool / "annotations.json", images=pool / "images")
    measured, _ = evaluate_run(held.path, files=files)
    assert list(measured.metrics["bbox"]["groups"]) == list(record["groups"])
    assert json.loads(held.data.read_text())["groups"] == record["groups"]
    assert not [line for line in measured.warnings if "calibration.tau" in line]
    # the validation data only where it is asked for
    val = f"data.val={json.dumps({'annotations': str(files.annotations), 'images': str(files.images)})}"
    on_val, kind, looked_at = tuned(run, val, on="val")
    assert kind == "val"
    assert len(looked_at) == 24
    assert "box AP in percent, tuned on val:" in on_val.log.read_text()
    assert any("tuned on val: calibration.tau" in line for line in evaluate_run(on_val.path)[0].warnings)
    evaluate_run(run.path, files=files, out=tmp_path / "before")
    beside = compare_evaluations([tmp_path / "before", on_val.path], resamples=1)
    assert f"{on_val.path.name}: annotations.json: tuned on val: calibration.tau" in " ".join(beside.split())


def test_what_any_stage_was_trained_on_is_not_new(recipe_on, tuned, tmp_path):
    seen = fit(recipe_on(), tmp_path / "seen")
    done, kind, looked_at = tuned(seen)
    assert (kind, len(looked_at)) == ("seen", 23)
    assert "warning: seen: search: on 23 images" in done.log.read_text()
    assert "best: tau=1 (seen: on images of the training)" in done.log.read_text()
    # held out of a second stage alone, and of both, as far as they go
    later = fit(recipe_on("data.hold_out=0.25"), tmp_path / "later", init_from=seen.path)
    assert "was trained on 6 of the 6 images that data.hold_out holds out" in later.log.read_text()
    assert tuned(later)[1] == "seen"
    first = fit(recipe_on("data.hold_out=0.25"), tmp_path / "first")
    second = fit(recipe_on("data.hold_out=0.5"), tmp_path / "second", init_from=first.path)
    names = tuned(first)[2]
    assert len(names) == load_checkpoint(second.last)["unseen"] < len(load_run_data(second.load_recipe()).held_out)
    # a run that goes on knows it too
    fit(recipe_on("data.hold_out=0.5"), second.path, resume=True)
    assert load_checkpoint(second.last)["unseen"] == len(names)
    assert tuned(second)[1:] == ("held-out", names)


def test_statistics_are_of_what_is_trained_on(recipe_on, pool, tmp_path):
    run = fit(recipe_on("data.hold_out=0.25"), tmp_path / "run")
    fitted = calibrate_run(run.path, "ncm-fc", tmp_path / "ncm", overrides=["data.val=null"])
    content = load_checkpoint(fitted.last)
    seen = content["model"]["roi_heads.calibration.seen"].tolist()
    assert seen == content["categories"]["instances"]
    assert sum(seen) < len(json.loads((pool / "annotations.json").read_text())["annotations"])
    # no box of a held-out image is one of FRACAL's
    dimensions = []
    for share in (0.0, 0.25):
        done = calibrate_run(run.path, "fracal", tmp_path / f"{share}", overrides=[f"data.hold_out={share}"])
        dimensions.append(load_checkpoint(done.last)["model"]["roi_heads.calibration.dimensions"].numpy())
    assert not np.array_equal(*dimensions)


def test_the_title_says_what_was_measured_on():
    metrics = [{"bbox": {"AP": 0.1, "groups": {"a": 0.1}}}]
    assert search_figure("tau", [1.0], metrics, mark="tuned on val").axes[0].get_title().endswith("\ntuned on val")


def test_values_that_the_images_do_not_tell_apart_are_said(tmp_path):
    def lines(*aps):
        tried = [{"bbox": {"AP": ap, "groups": {"a": ap}}} for ap in aps]
        images = SimpleNamespace(kind="held-out", mark="on held-out training images")
        return write_search(tmp_path, Search("tau", (0.0, 0.5, 1.0)), images, tried)[-2:]

    assert lines(0.1, 0.3, 0.2)[-1] == "best: tau=0.5 (on held-out training images)"
    best, warning = lines(0.1, 0.0, 0.1)
    assert best.startswith("best: tau=0 ")
    assert warning.startswith("warning: 2 of 3 values have the same AP, of which the first is taken")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--on", "val"), "--on is for --search"),
        (("--search", "tau=1", "--on", "val", "--annotations", "a", "--images", "b"), "exclude each other"),
    ],
)
def test_the_command_refuses(arguments, says, tmp_path):
    done = CliRunner().invoke(main, ["calibrate", "run", "--method", "tau-norm", "--out", str(tmp_path), *arguments])
    assert done.exit_code == 2
    assert says in done.stderr
