"""Calibrating a trained run: other scores, nothing trained, a run directory like any other."""

import csv
import json

import numpy as np
import pytest
import torch

from lt_data.errors import DataError, OutputError, RecipeError
from lt_train.engine.calibrate import calibrate_run
from lt_train.engine.calibration_search import Search, parse_search
from lt_train.engine.checkpoint import load_checkpoint
from lt_train.engine.evaluate import evaluate_run
from lt_train.engine.fit import fit
from lt_train.engine.predict import predict_images
from lt_train.recipe import Files


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def softmax_run(runs, tiny_recipe):
    if not (runs / "softmax").is_dir():
        fit(tiny_recipe("schedule.iterations=12", "schedule.decay=[10]", "optim.lr=0.05"), runs / "softmax")
    return runs / "softmax"


def weights_of(run):
    content = load_checkpoint(run / "checkpoints" / "last.pt")["model"]
    return {key: value for key, value in content.items() if not key.startswith("roi_heads.calibration.")}


def predictions_of(run):
    return json.loads((run / "eval" / "predictions.json").read_text())


@pytest.mark.parametrize("method", ["tau-norm", "tau-norm-select", "ncm-fc", "ncm-conv"])
def test_scores_change_and_weights_do_not(softmax_run, method, tmp_path):
    run = calibrate_run(
        softmax_run, method, tmp_path / "run", overrides=["calibration.tail_below=3"] * ("tau" in method)
    )
    before, after = weights_of(softmax_run), weights_of(run.path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    scores = [sorted(p["score"] for p in predictions_of(path)) for path in (softmax_run, run.path)]
    # a run this short calls every region background, and a selection leaves those as they were
    assert (scores[0] != scores[1]) == (method != "tau-norm-select")
    log = run.log.read_text()
    assert "trainable: 0 numbers" in log
    assert f"weights from {softmax_run}" in log
    assert not list(csv.DictReader((run.report / "trainable.csv").open()))
    # it can be used like any run, and gives the same again
    bytes_before = (run.evaluation / "metrics.json").read_bytes()
    evaluate_run(run.path)
    assert (run.evaluation / "metrics.json").read_bytes() == bytes_before


def test_tau_zero_changes_nothing(softmax_run, tmp_path):
    run = calibrate_run(softmax_run, "tau-norm", tmp_path / "run", overrides=["calibration.tau=0"])
    ours, before = predictions_of(run.path), predictions_of(softmax_run)
    assert len(ours) == len(before)
    np.testing.assert_allclose([p["score"] for p in ours], [p["score"] for p in before], atol=1e-6)


@pytest.mark.parametrize("boxes", ["ground-truth", "proposals"])
def test_class_means_are_those_of_the_training_objects(softmax_run, tiny_recipe, boxes, tmp_path):
    """Every object is seen once; proposals hold each object's own box and what lies on it."""
    options = [f"calibration.boxes={boxes}", "data.val=null"]
    run = calibrate_run(softmax_run, "ncm-fc", tmp_path / "run", overrides=options)
    content = load_checkpoint(run.last)
    instances = torch.tensor(content["categories"]["instances"])
    seen = content["model"]["roi_heads.calibration.seen"]
    assert torch.equal(seen, instances) if boxes == "ground-truth" else bool((seen >= instances).all())
    assert "no validation data" in run.log.read_text()
    again = calibrate_run(softmax_run, "ncm-fc", tmp_path / "again", overrides=[*options, "optim.batch=5"])
    sums = [load_checkpoint(r.last)["model"]["roi_heads.calibration.sums"] for r in (run, again)]
    if boxes == "ground-truth":
        torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-4)


def test_the_run_may_have_another_head(softmax_run, tiny_recipe, tmp_path):
    """A calibration keeps the head of the run: nearest class means work on top of BAGS."""
    bags = fit(tiny_recipe("method=bags", "data.val=null"), tmp_path / "bags", init_from=softmax_run)
    run = calibrate_run(bags.path, "ncm-fc", tmp_path / "run", overrides=["data.val=null"])
    assert run.load_recipe().head.name == "bags"
    assert "head=bags is set explicitly and beats softmax" in run.log.read_text()
    with pytest.raises(RecipeError, match="this one is BagsHead"):
        calibrate_run(bags.path, "tau-norm", tmp_path / "other")


def test_fit_with_a_calibration_recipe(softmax_run, tiny_recipe, tmp_path):
    recipe = tiny_recipe("method=tau-norm-select", "data.val=null")
    run = fit(recipe, tmp_path / "run", init_from=softmax_run)
    assert run.load_recipe().calibration.background == "select-tail"
    with pytest.raises(RecipeError, match="--init-from RUN"):
        fit(recipe, tmp_path / "other")
    with pytest.raises(RecipeError, match="nothing to continue"):
        fit(recipe, tmp_path / "run", resume=True)
    with pytest.raises(OutputError, match="--force"):
        fit(recipe, tmp_path / "run", init_from=softmax_run)
    with pytest.raises(DataError, match=r"cls_score does not fit head=bags"):
        fit(tiny_recipe("method=ncm-fc", "head.name=bags"), tmp_path / "other", init_from=softmax_run)


def test_a_run_is_never_written_over_itself(softmax_run):
    with pytest.raises(RecipeError, match="is the run that is calibrated"):
        calibrate_run(softmax_run, "tau-norm", softmax_run, force=True)
    assert (softmax_run / "checkpoints" / "last.pt").is_file()


def test_search(softmax_run, tiny_pool, tmp_path):
    """Each value's AP is what a calibration with that value measures; the best one is kept."""
    values = (0.0, 0.5, 1.0)
    run = calibrate_run(softmax_run, "tau-norm", tmp_path / "run", search=Search("tau", values))
    rows = list(csv.DictReader((run.report / "search.csv").open()))
    assert [float(row["tau"]) for row in rows] == list(values)
    assert (run.report / "search.png").stat().st_size > 1000
    measured = []
    for value in values:
        one = calibrate_run(softmax_run, "tau-norm", tmp_path / f"{value}", overrides=[f"calibration.tau={value}"])
        measured.append(json.loads((one.evaluation / "metrics.json").read_text())["bbox"])
    assert [float(row["AP"]) for row in rows] == pytest.approx([m["AP"] for m in measured], abs=1e-12)
    best = values[int(np.argmax([m["AP"] for m in measured]))]
    assert run.load_recipe().calibration.tau == best
    assert load_checkpoint(run.last)["recipe"]["calibration"]["tau"] == best
    ours = json.loads((run.evaluation / "metrics.json").read_text())["bbox"]
    assert ours == measured[values.index(best)]
    assert "optimistic" in run.log.read_text()
    files = Files(annotations=tiny_pool / "annotations.json", images=tiny_pool / "images")
    other = calibrate_run(softmax_run, "ncm-fc", tmp_path / "ncm", search=Search("temperature", (0.05, 1.0), files))
    assert "optimistic" not in other.log.read_text()
    assert predict_images(other.path, tiny_pool / "images", tmp_path / "predicted", pictures=0).images == 12


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tau=0:1:0.1", ("tau", tuple(i / 10 for i in range(11)))),
        ("tau=0.5", ("tau", (0.5,))),
        ("temperature=1,0.1,1", ("temperature", (0.1, 1.0))),
        ("tau=0:1:0.4", ("tau", (0.0, 0.4, 0.8))),
    ],
)
def test_search_texts(text, wanted):
    assert parse_search(text) == wanted


NOTHING = ["tau", "=1", "tau=", "tau=a", "tau=0:1", "tau=1:0:0.1", "tau=0:1:0", "tau=0:1e9:1", "tau=nan"]


@pytest.mark.parametrize("text", NOTHING)
def test_search_texts_that_say_nothing(text):
    with pytest.raises(RecipeError, match="write OPTION=FIRST:LAST:STEP"):
        parse_search(text)


def test_search_of_what_is_no_option(softmax_run, tmp_path):
    with pytest.raises(RecipeError, match=r"unknown key 'calibration.taw'; did you mean 'calibration.tau'"):
        calibrate_run(softmax_run, "tau-norm", tmp_path / "run", search=Search("taw", (1.0,)))
    with pytest.raises(RecipeError, match="calibration.tau: got -1"):
        calibrate_run(softmax_run, "tau-norm", tmp_path / "other", search=Search("tau", (-1.0,)))
    with pytest.raises(DataError, match="no data.val; give the split"):
        calibrate_run(
            softmax_run, "tau-norm", tmp_path / "third", overrides=["data.val=null"], search=Search("tau", (1.0,))
        )
    assert not any((tmp_path / name).exists() for name in ("run", "other", "third"))
