"""Averages of the weights over the steps: their values, what is kept of them, resuming, and who uses them."""

import json

import pytest
import torch

from lt_data.errors import RecipeError
from lt_train.engine.fit import fit
from lt_train.inference.detect import load_trained
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.inference.predict_images import predict_images
from lt_train.runs.checkpoint import load_checkpoint
from tests.lt_train.engine.stepping import Stepper, assert_finite, assert_same, interrupt_in_step

DECAY = 0.6
EMA = (f"optim.ema={DECAY}", "trackers=[]", "schedule.warmup=0", "optim.lr=0.05")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture
def averaged_run(tiny_recipe, _module_cache, tmp_path_factory):
    if "run" not in _module_cache:
        _module_cache["run"] = fit(tiny_recipe(*EMA), tmp_path_factory.mktemp("averages") / "run")
    return _module_cache["run"]


def statistics(model):
    found = {name: value for name, value in model.items() if name.endswith(STATISTICS)}
    assert len(found) == 3 * 8
    return found


@pytest.mark.parametrize("options", [(), ("compute.channels_last=true", "compute.precision=bf16")])
def test_it_is_the_slow_average(tiny_recipe, options):
    """Written out in float64: it starts as the weights after the first step."""
    run = Stepper(tiny_recipe(*EMA, *options, "schedule.iterations=5"))
    wanted = {}
    for _ in range(5):
        run.step().read()
        for name, weight in run.weights().items():
            weight = weight.double()
            wanted[name] = DECAY * wanted[name] + (1 - DECAY) * weight if name in wanted else weight
    average, trained = run.average(), run.weights()
    for name, value in wanted.items():
        torch.testing.assert_close(average[name].double(), value, atol=1e-7, rtol=1e-6)
    assert run.state.result is run.state.ema.module
    assert any(not torch.equal(average[name], trained[name]) for name in average)
    assert_finite(average)


def test_without_a_decay_there_is_none(tiny_recipe):
    run = Stepper(tiny_recipe())
    assert run.state.ema is None
    assert run.state.result is run.state.model


def test_statistics_are_those_of_the_trained_model(averaged_run):
    """Batch norms that learn in training would else be evaluated with mean 0 and variance 1."""
    content = load_checkpoint(averaged_run.last)
    average, trained = statistics(content["model"]), statistics(content["trained_model"])
    assert_same(average, trained)
    for name, value in average.items():
        if name.endswith("running_mean"):
            assert bool(value.any())
        if name.endswith("num_batches_tracked"):
            assert value == 3


def test_statistics_follow_every_step(tiny_recipe):
    run = Stepper(tiny_recipe(*EMA))
    for _ in range(3):
        run.step()
        assert_same(statistics(run.state.result.state_dict()), statistics(run.state.model.state_dict()))


def test_checkpoints_hold_both(averaged_run, tiny_recipe, tmp_path):
    content = load_checkpoint(averaged_run.last)
    assert content["averaged"] == content["done"] == 3
    average, trained = content["model"], content["trained_model"]
    assert average.keys() == trained.keys()
    assert all(value.shape == trained[name].shape for name, value in average.items())
    plain = load_checkpoint(fit(tiny_recipe(*EMA[1:], "data.val=null"), tmp_path / "plain").last)
    # averaging changes nothing of the training
    assert_same(trained, plain["model"])
    assert not {"trained_model", "averaged"} & plain.keys()
    weight = "roi_heads.box_head.fc6.weight"
    assert not torch.equal(average[weight], trained[weight])


def test_the_average_is_what_is_evaluated_and_used(averaged_run, tiny_pool, tmp_path):
    """The detections of the fit are those of the average, read from the checkpoint into a new model."""
    before = (averaged_run.evaluation / "predictions.json").read_bytes()
    evaluate_run(averaged_run.path)
    assert (averaged_run.evaluation / "predictions.json").read_bytes() == before
    trained = load_trained(averaged_run, "last")
    assert_same(trained.model.state_dict(), load_checkpoint(averaged_run.last)["model"])
    predict_images(averaged_run.path, tiny_pool / "images", tmp_path / "out", pictures=0)
    scores = [sorted(r["score"] for r in json.loads(text)) for text in (before, read(tmp_path / "out"))]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def read(folder):
    return (folder / "predictions.json").read_bytes()


def test_a_second_stage_starts_from_the_average(averaged_run, tiny_recipe, tmp_path):
    """What it does not train stays as it is, in its own average too."""
    run = fit(tiny_recipe("method=bags", *EMA, "data.val=null"), tmp_path / "bags", init_from=averaged_run.path)
    start, content = load_checkpoint(averaged_run.last)["model"], load_checkpoint(run.last)
    trained = ("roi_heads.box_predictor.cls_score.", "roi_heads.head.")
    fixed = {name: value for name, value in start.items() if not name.startswith(trained)}
    for kind in ("model", "trained_model"):
        assert_same({name: content[kind][name] for name in fixed}, fixed)
    classifier = trained[0] + "weight"
    assert not torch.equal(content["model"][classifier], content["trained_model"][classifier])


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("compute.channels_last=true",),
        # processors without half precision are slow at it
        pytest.param(("compute.precision=fp16", "model.name=faster_rcnn_small"), marks=pytest.mark.slow),
    ],
)
def test_resume_goes_on_as_if_never_stopped(tiny_recipe, tmp_path, monkeypatch, options):
    recipe = tiny_recipe(*EMA, *options, "data.val=null")
    straight = load_checkpoint(fit(recipe, tmp_path / "straight").last)
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run")
    stopped = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert (stopped["done"], stopped["averaged"]) == (2, 2)
    go_on()
    resumed = load_checkpoint(fit(recipe, tmp_path / "run", resume=True).last)
    for kind in ("model", "trained_model"):
        assert_same(resumed[kind], straight[kind])
    momentum = [{i: s["momentum_buffer"] for i, s in c["optimizer"]["state"].items()} for c in (resumed, straight)]
    assert_same(*momentum)
    assert resumed["scaler"] == straight["scaler"]
    assert bool(resumed["scaler"]) == ("compute.precision=fp16" in options)
    assert (resumed["done"], resumed["averaged"]) == (3, 3)


def test_resume_keeps_the_decay(averaged_run, tiny_recipe):
    with pytest.raises(RecipeError, match="optim.ema was 0.6, is now None"):
        fit(tiny_recipe(*EMA[1:]), averaged_run.path, resume=True)


@pytest.mark.parametrize("decay", ["0", "1", "1.5"])
def test_decays_that_average_nothing(tiny_recipe, decay):
    with pytest.raises(RecipeError, match="optim.ema"):
        tiny_recipe(f"optim.ema={decay}")
