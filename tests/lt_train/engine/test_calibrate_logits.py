"""``lt-train calibrate`` with the methods that change logits: counts, boxes and logits of training, no weight."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from lt_cli.train import main

from lt_data.errors import RecipeError
from lt_train.calibration.fractal_dimension import fractal_dimensions
from lt_train.engine.calibrate import calibrate_run
from lt_train.engine.calibration_search import Search
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint
from lt_train.runs.directory import RunDir
from tests.lt_train.several import start

METHODS = {"norcal": "gamma=0:1:0.5", "logit-adjustment": "tau=0,1", "fracal": "power=0:2:1", "logn": None}
CALIBRATION = "roi_heads.calibration."


@pytest.fixture
def trained(softmax_run, _module_cache, tmp_path_factory):
    """A run whose classifier tells classes apart: one this short calls everything background."""
    if "decided" not in _module_cache:
        run = tmp_path_factory.mktemp("runs") / "decided"
        shutil.copytree(softmax_run.path, run)
        content = load_checkpoint(run / "checkpoints" / "last.pt")
        weight = content["model"]["roi_heads.box_predictor.cls_score.weight"]
        weight.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
        save_checkpoint(run / "checkpoints" / "last.pt", content)
        evaluate_run(run)
        _module_cache["decided"] = run
    return _module_cache["decided"]


def state_of(run, *, calibration):
    content = load_checkpoint(run / "checkpoints" / "last.pt")["model"]
    return {key: value for key, value in content.items() if key.startswith(CALIBRATION) == calibration}


def scores_of(run):
    return [p["score"] for p in json.loads((run / "eval" / "predictions.json").read_text())]


def lt_train(*arguments):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    # whatever else it raises would be a traceback
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


# each way to treat the background once more would be the same for every method
WAYS = [
    pytest.param(method, way, marks=() if way == "normalise" or method == "fracal" else pytest.mark.slow)
    for method in METHODS
    for way in ("normalise", "keep-probability")
]


@pytest.mark.parametrize(("method", "background"), WAYS)
def test_a_run_gets_other_scores(trained, method, background, tmp_path):
    out, option = tmp_path / "run", f"calibration.background={background}"
    done = lt_train("calibrate", trained, "--method", method, "--out", out, option)
    assert done.exit_code == 0, done.output
    before, after = (state_of(run, calibration=False) for run in (trained, out))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert state_of(out, calibration=True)
    assert sorted(scores_of(out)) != sorted(scores_of(trained))
    # it is a run like any other, and its scores are made of what it saved
    measured = (out / "eval" / "metrics.json").read_bytes()
    evaluate_run(out)
    assert (out / "eval" / "metrics.json").read_bytes() == measured


@pytest.mark.parametrize(("method", "option"), [("norcal", "gamma"), ("logit-adjustment", "tau")])
def test_zero_changes_nothing(trained, method, option, tmp_path):
    run = calibrate_run(trained, method, tmp_path / "run", overrides=[f"calibration.{option}=0"])
    threshold = 1e-3 + 1e-5
    ours, before = ([s for s in scores_of(path) if s > threshold] for path in (run.path, trained))
    np.testing.assert_allclose(ours, before, atol=1e-6)


@pytest.mark.parametrize(("method", "search"), [(method, search) for method, search in METHODS.items() if search])
def test_numbers_can_be_searched(trained, method, search, tmp_path):
    done = lt_train("calibrate", trained, "--method", method, "--search", search, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    option, lines = search.partition("=")[0], (tmp_path / "run/report/search.csv").read_text().splitlines()
    assert lines[0].startswith(f"{option},AP,")
    assert len(lines) == (3 if "," in search else 4)


def test_without_a_number_there_is_nothing_to_search(trained, tmp_path):
    done = lt_train("calibrate", trained, "--method", "logn", "--search", "power=0,1", "--out", tmp_path / "run")
    assert done.exit_code == 1
    said = "--search: got 'power'; calibration logn has no option that is a number; leave it out"
    assert done.stderr.strip() in (said, f"error: {said}", f"Error: {said}")
    assert not (tmp_path / "run").exists()


def test_fracal_goes_by_the_boxes_of_the_training_file_and_opens_no_image(trained, tiny_pool, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("an image was asked for")

    monkeypatch.setattr("lt_train.engine.calibrate.make_loader", refuse)
    # what a method trains on is no matter: the dimension is that of all boxes
    overrides = ["data.val=null", "data.classes_below=3"]
    run = calibrate_run(trained, "fracal", tmp_path / "run", overrides=overrides)
    content = json.loads((tiny_pool / "annotations.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    labels = {number: label for label, number in enumerate(sorted(c["id"] for c in content["categories"]), start=1)}
    boxes = [(*a["bbox"], *sizes[a["image_id"]], labels[a["category_id"]]) for a in content["annotations"]]
    x, y, w, h, width, height, label = np.array(boxes).T
    centres = np.stack([(x + w / 2) / width, (y + h / 2) / height], axis=1)
    want = fractal_dimensions(centres, label.astype(int), len(labels))
    state = state_of(run.path, calibration=True)
    np.testing.assert_allclose(state[CALIBRATION + "dimensions"].numpy(), want, rtol=1e-6)
    assert want.max() > 1
    images = [len({a["image_id"] for a in content["annotations"] if a["category_id"] == c}) for c in sorted(labels)]
    rarity = np.log10(len(sizes) / np.maximum(images, 1)) - np.log10(len(labels))
    np.testing.assert_allclose(state[CALIBRATION + "rarity"].numpy(), rarity, rtol=1e-5, atol=1e-6)
    assert "fractal dimensions 1.000 to" in run.log.read_text()


def test_fracal_keeps_the_sigmoids_of_a_head(softmax_run, tiny_recipe, tmp_path):
    from lt_train.engine.fit import fit

    focal = fit(tiny_recipe("method=focal", "data.val=null"), tmp_path / "focal", init_from=softmax_run.path)
    run = calibrate_run(focal.path, "fracal", tmp_path / "run", overrides=["data.val=null"])
    assert run.load_recipe().head.name == "focal"
    with pytest.raises(RecipeError, match="calibration norcal: needs a head .*; this one is FocalHead"):
        calibrate_run(focal.path, "norcal", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def calibrated(source, method, out, search=None):
    done = calibrate_run(source, method, out, search=search)
    return done and done.path.name


@pytest.mark.parametrize("method", ["fracal", "logn"])
def test_several_processes_fit_what_one_does(trained, tmp_path, method):
    search = Search("power", (0.0, 2.0)) if method == "fracal" else None
    calibrated(trained, method, tmp_path / "one", search)
    said = start(2, partial(calibrated, trained, method, tmp_path / "two", search))
    assert said == ["'two'", "None"]
    one, two = (state_of(tmp_path / name, calibration=True) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-9, atol=0, msg=name)
    per_class = [(tmp_path / name / "eval" / "per_class.csv").read_bytes() for name in ("one", "two")]
    assert per_class[0] == per_class[1]


def test_logn_looks_at_all_regions_that_training_samples(trained, tmp_path):
    """Objects and background of every image, once."""
    run = calibrate_run(trained, "logn", tmp_path / "run", overrides=["data.val=null"])
    state, recipe = state_of(run.path, calibration=True), RunDir(trained).load_recipe()
    objects = sum(load_checkpoint(run.last)["categories"]["instances"])
    seen = int(state[CALIBRATION + "seen"])
    assert objects * 2 < seen <= 12 * 512
    assert recipe.head.name == "softmax"
    mean = state[CALIBRATION + "sums"][0] / seen
    again = calibrate_run(trained, "logn", tmp_path / "again", overrides=["data.val=null", "optim.batch=5"])
    other = load_checkpoint(again.last)["model"]
    assert int(other[CALIBRATION + "seen"]) == seen
    torch.testing.assert_close(other[CALIBRATION + "sums"][0] / seen, mean, rtol=1e-3, atol=1e-4)
