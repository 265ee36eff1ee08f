"""Runs of SimCal: what they change, how they go on, in how many processes."""

import csv
import json
from functools import partial

import numpy as np
import pytest
import torch

from lt_data.errors import RecipeError
from lt_train.engine.calibrate import calibrate_run
from lt_train.engine.fit import fit
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.runs.data import load_run_data, make_plan
from lt_train.runs.directory import RunDir
from lt_train.runs.model import model_from_run
from tests.lt_train.engine.reading_runs import losses, weights
from tests.lt_train.engine.stepping import assert_same, interrupt_in_step
from tests.lt_train.engine.test_together import COMMON, train
from tests.lt_train.several import start

SIMCAL = ("method=simcal", "second_head.below=3", "schedule.iterations=4", "schedule.decay=[]", "log_every=1")
# 2 of 6 steps of an epoch, which is half a pass of 4 steps
PASSES = ("schedule.iterations=null", "schedule.epochs=2", "schedule.epoch=sampler", "sampler.steps=3")


def test_a_run_changes_the_second_head_alone_and_scores_with_both(softmax_run, tiny_recipe, tmp_path):
    run = fit(tiny_recipe(*SIMCAL), tmp_path / "run", init_from=softmax_run.path)
    before, after = weights(softmax_run), weights(run)
    second = {name: value for name, value in after.items() if name not in before}
    assert_same({name: after[name] for name in before}, before)
    assert {name.rpartition(".")[0] for name in second} == {
        f"roi_heads.calibrated.{layer}" for layer in ("fc6", "fc7", "cls_score")
    }
    start = {"fc6": "box_head.fc6", "fc7": "box_head.fc7", "cls_score": "box_predictor.cls_score"}
    for name, value in second.items():
        _, _, layer, part = name.split(".")
        assert not torch.equal(value, before[f"roi_heads.{start[layer]}.{part}"])
    log = run.log.read_text()
    assert "second head 3fc-ft: scores the 18 of 20 classes with fewer than 3 training instances" in log
    assert "bi-level sampling: a step draws 2 of 20 classes with images" in log
    # the checkpoint gives the figures that the run measured
    kept = json.loads((run.evaluation / "metrics.json").read_text())
    measured, _ = evaluate_run(run.path, scores="dual")
    assert measured.metrics["bbox"] == kept["bbox"]
    first = json.loads((softmax_run.evaluation / "metrics.json").read_text())
    original, where = evaluate_run(run.path, scores="original")
    assert where == run.path / "eval-last-original"
    assert original.metrics["bbox"] == first["bbox"]
    found = [(run.path / f"eval-last-{scores}" / "predictions.json").read_bytes() for scores in ("dual", "original")]
    assert found[0] != found[1]
    assert found[1] == (softmax_run.evaluation / "predictions.json").read_bytes()
    with pytest.raises(RecipeError, match=r"^--scores: got dual, and .* has one head; leave it out"):
        evaluate_run(softmax_run.path, scores="dual")
    # what was seen of a class are the places that drew it
    recipe = run.load_recipe()
    data = load_run_data(recipe)
    drawn = [draw for step in make_plan(recipe, data).steps() for part in step.batches for draw in part]
    assert len(drawn) == 8
    seen = [int(row["images_seen"]) for row in csv.DictReader((run.report / "seen.csv").open())]
    assert seen == np.bincount([draw.label for draw in drawn], minlength=21)[1:].tolist()


def test_a_run_goes_on_in_the_middle_of_an_epoch_as_if_never_stopped(softmax_run, tiny_recipe, tmp_path, monkeypatch):
    recipe = tiny_recipe(*SIMCAL, *PASSES, "data.val=null")
    straight = fit(recipe, tmp_path / "straight", init_from=softmax_run.path)
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run", init_from=softmax_run.path)
    go_on()
    run = fit(recipe, tmp_path / "run", resume=True)
    assert losses(run) == losses(straight)
    assert len(losses(run)) == 6
    assert_same(weights(run), weights(straight))


def test_several_processes_train_what_one_does(softmax_run, make_tiny_recipe, tmp_path):
    second = ("sampler.name=bi-level", "train=calibrated", "second_head.kind=3fc-rand", "optim.momentum=0")
    parts = (("optim.batch=12",), ("optim.batch=6", "optim.accumulate=2"))
    trained = f"model.weights={softmax_run.last}"
    recipes = [make_tiny_recipe(*COMMON, *second, trained, *part) for part in parts]
    stages = ("model.name=cascade_rcnn_small", "data.val=null", "schedule.decay=[]")
    cascade = fit(make_tiny_recipe(*stages, "schedule.iterations=1"), tmp_path / "cascade").last
    recipes.append(make_tiny_recipe(*COMMON, *second, *stages, f"model.weights={cascade}"))
    for world in (1, 2):
        assert start(world, partial(train, recipes, tmp_path)) == ["'done'"] + ["None"] * (world - 1)
    for number in range(len(recipes)):
        one, two = (torch.load(tmp_path / f"{world}-{number}.pt") for world in (1, 2))
        for got, wanted in zip(two["losses"], one["losses"], strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-4, atol=1e-6)


def test_it_goes_on_from_a_trained_classifier_alone(tiny_recipe, tmp_path):
    with pytest.raises(RecipeError, match="goes on from a trained one; it needs --init-from RUN"):
        fit(tiny_recipe(*SIMCAL), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_starts_from_such_a_run_leaves_the_second_head_out_and_says_so(softmax_run, tiny_recipe, tmp_path):
    small = ("data.val=null", "schedule.iterations=1", "model.score_threshold=0.0")
    simcal = fit(tiny_recipe(*SIMCAL, *small), tmp_path / "simcal", init_from=softmax_run.path)
    note = "has a second head, which is left out; this run starts from the detector's own"
    fitted = calibrate_run(simcal.path, method="norcal", out=tmp_path / "norcal")
    assert note in fitted.log.read_text()
    assert fitted.load_recipe().second_head.kind == "none"
    assert_same(
        {name: value for name, value in weights(fitted).items() if "calibration" not in name}, weights(softmax_run)
    )
    again = fit(tiny_recipe("method=bags", *small), tmp_path / "bags", init_from=simcal.path)
    assert note in again.log.read_text()
    assert not any("calibrated" in name for name in weights(RunDir(again.path)))


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (("second_head.kind=3fc-ft",), "second_head.kind: got 3fc-ft with train=all; .* set train=calibrated"),
        (("train=calibrated",), "train: got calibrated, and there is no second head to train; set second_head.kind"),
        (("sampler=bi-level",), "sampler: 'bi-level' draws the class that a second head is trained on"),
        (("method=simcal", "second_head.kind=2fc-ft"), "second_head.kind: got '2fc-ft'; allowed are .*3fc-ft"),
        (("method=simcal", "calibration=norcal"), "calibration: 'norcal' is fitted to a trained run"),
    ],
)
def test_what_does_not_belong_together_is_refused_in_a_line(overrides, problem, tiny_recipe):
    with pytest.raises(RecipeError, match=problem) as caught:
        tiny_recipe(*overrides)
    assert len(str(caught.value).splitlines()) == 1


def test_each_stage_of_a_cascade_trains_one(tiny_recipe, tmp_path, monkeypatch):
    """From the run of a cascade, in several sittings; the detector's own heads score as before."""
    small = ("model.name=htc_small", "model.num_detections=20", "schedule.decay=[]", "log_every=1")
    base = fit(tiny_recipe(*small, "schedule.iterations=1"), tmp_path / "base")
    simcal = ("method=simcal", *small, "second_head.below=3", "schedule.iterations=3")
    recipe = tiny_recipe(*simcal)
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run", init_from=base.path)
    go_on()
    run = fit(recipe, tmp_path / "run", resume=True)
    straight = fit(tiny_recipe(*simcal, "data.val=null"), tmp_path / "straight", init_from=base.path)
    assert losses(run) == losses(straight)
    before, after = weights(base), weights(run)
    assert_same(after, weights(straight))
    assert_same({name: after[name] for name in before}, before)
    second = {name: value for name, value in after.items() if name not in before}
    own = {"fc6": "box_head.fc6", "fc7": "box_head.fc7", "cls_score": "box_predictor.cls_score"}
    parts = [(layer, part) for layer in own for part in ("weight", "bias")]
    stages = [f"roi_heads.stages.{i}" for i in range(3)]
    assert set(second) == {f"{stage}.calibrated.{layer}.{part}" for stage in stages for layer, part in parts}
    assert not any(
        torch.equal(second[f"{stage}.calibrated.{layer}.{part}"], before[f"{stage}.{own[layer]}.{part}"])
        for stage in stages
        for layer, part in parts
    )
    evaluate_run(run.path, scores="original")
    found = [run.path / "eval-last-original", run.evaluation, base.evaluation]
    original, dual, first = [(path / "predictions.json").read_bytes() for path in found]
    assert original == first != dual
    bags = tiny_recipe("method=bags", *small)
    again = model_from_run(bags, load_run_data(bags), run.path)
    assert any(
        "second head, which is left out; this run starts from the detector's own" in note for note in again.notes
    )
    assert not any("calibrated" in name for name in again.model.state_dict())
