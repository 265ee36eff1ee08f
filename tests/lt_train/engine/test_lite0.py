"""Runs of the detectors with an EfficientNet-Lite0, from its ImageNet weights to the table."""

import csv
import re

import pytest
import torch

from lt_train.detectors.table import LITE0
from lt_train.engine.calibrate import calibrate_run
from lt_train.engine.fit import fit
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.recipe.origins import Setting
from lt_train.trials.dry_run import dry_run
from tests.lt_train.engine.reading_runs import losses, weights
from tests.lt_train.engine.stepping import interrupt_in_step

CLASSIFIER = "roi_heads.box_predictor.cls_score."
PRETRAINED = "model.weights=imagenet"
SEED = Setting("seed", 0, "default")


@pytest.fixture(scope="module")
def runs():
    """A baseline for each model, trained when it is first asked for."""
    return {}


@pytest.fixture(params=["mask_rcnn_lite0", pytest.param("faster_rcnn_lite0", marks=pytest.mark.slow)])
def baseline(request, runs, tiny_recipe, tmp_path_factory):
    if request.param not in runs:
        recipe = tiny_recipe(f"model.name={request.param}", PRETRAINED)
        runs[request.param] = fit(recipe, tmp_path_factory.mktemp("runs") / "softmax")
    return runs[request.param]


def model_of(run):
    return f"model.name={run.load_recipe().model.name}"


def test_a_run_trains_all_but_the_first_stages(baseline):
    log = baseline.log.read_text()
    assert re.search(r"weights 'imagenet': \d+ tensors; newly initialised: backbone.fpn", log)
    names = {row["name"] for row in csv.DictReader((baseline.report / "trainable.csv").open())}
    assert {"backbone.body.stage3.0.expand.0.weight", "backbone.body.stage7.0.project.1.bias"} < names
    assert not [name for name in names if name.startswith(LITE0.frozen)]
    assert all(bool(value.isfinite().all()) for value in weights(baseline).values() if value.is_floating_point())
    assert (baseline.evaluation / "metrics.json").exists()


@pytest.mark.slow
def test_it_goes_on_as_if_never_stopped(baseline, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("lt_train.engine.fit._save_every", lambda _: 1)
    recipe = tiny_recipe(model_of(baseline), PRETRAINED)
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run")
    go_on()
    run = fit(recipe, tmp_path / "run", resume=True)
    assert losses(run) == losses(baseline)
    resumed, straight = weights(run), weights(baseline)
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())


def test_stage_two_trains_the_classifier_alone(baseline, tiny_recipe, tmp_path):
    bags = fit(tiny_recipe(model_of(baseline), PRETRAINED, "method=bags"), tmp_path / "bags", init_from=baseline.path)
    before, after = weights(baseline), weights(bags)
    others = [name for name in before if not name.startswith((CLASSIFIER, "roi_heads.head."))]
    assert all(torch.equal(before[name], after[name]) for name in others)
    assert "weights 'imagenet'" not in bags.log.read_text()


@pytest.mark.parametrize("method", ["ncm-conv", pytest.param("tau-norm-select", marks=pytest.mark.slow)])
def test_other_scores_for_a_run(baseline, tmp_path, method):
    run = calibrate_run(baseline.path, method, tmp_path / "run")
    evaluate_run(run.path, out=tmp_path / "eval")
    assert (tmp_path / "eval" / "metrics.json").exists()


def test_dry_run(baseline, tiny_recipe):
    lines = list(dry_run(tiny_recipe(model_of(baseline), PRETRAINED), (SEED,)))
    assert any("weights 'imagenet'" in line for line in lines)
