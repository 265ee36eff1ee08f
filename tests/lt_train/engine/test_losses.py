"""Losses that are read a step late, and what a loss that is not finite never reaches."""

import itertools
import json

import pytest
import torch

from lt_train.engine.fit import fit
from lt_train.engine.losses import Losses, TrainingStopped
from lt_train.engine.state import checkpoint_content
from lt_train.runs.checkpoint import load_checkpoint
from tests.lt_train.engine.stepping import (
    Stepper,
    assert_finite,
    assert_same,
    copied,
    infinite,
    interrupt_in_step,
    nan,
    spoil,
    steep,
)

TEN_STEPS = (
    *("schedule.iterations=10", "schedule.decay=[]", "data.val=null", "trackers=[]", "log_every=100"),
    "model.name=faster_rcnn_small",
)
# convolutions in fp16 are slow on a processor
NO_MASKS = ("model.name=faster_rcnn_small", "model.min_size=[32]", "model.max_size=32")


def test_losses_keep_their_names_and_order():
    losses = Losses({"loss_b": torch.tensor(2.5), "loss_a": torch.tensor(0.0), "loss_c": torch.tensor(-1.0)}, "step 1")
    assert losses.names == ("loss_b", "loss_a", "loss_c")
    assert list(losses.read().items()) == [("loss_b", 2.5), ("loss_a", 0.0), ("loss_c", -1.0)]
    assert losses.read() == losses.read()
    assert losses.stop == 0


@pytest.mark.parametrize("wrong", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_is_named(wrong):
    values = {"loss_a": torch.tensor(1.0), "loss_b": torch.tensor(wrong), "loss_c": torch.tensor(wrong)}
    losses = Losses(values, "step 7 (last images 1, 2)")
    assert losses.stop == 1
    assert losses.stop.dtype == torch.float32
    for _ in range(2):
        with pytest.raises(TrainingStopped, match=r"step 7 \(last images 1, 2\): loss_b, loss_c is not finite"):
            losses.read()


def test_a_step_gives_the_losses_in_the_order_of_the_model(tiny_recipe):
    names = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")
    run = Stepper(tiny_recipe("optim.accumulate=2"))
    assert run.step().names == names


def test_accumulated_losses_are_means(tiny_recipe):
    """Four images in two passes: the means of the losses of two runs that take one pass each."""
    both = Stepper(tiny_recipe("optim.accumulate=2")).step().read()
    single = Stepper(tiny_recipe("optim.lr=1e-30"))
    each = [single.step().read() for _ in range(2)]
    for name, value in both.items():
        assert value == pytest.approx((each[0][name] + each[1][name]) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "passes", "options"),
    [
        (infinite, {1}, ()),
        pytest.param(nan, {1}, (), marks=pytest.mark.slow),
        (infinite, {1}, ("optim.clip=0.5",)),
        pytest.param(nan, {1}, ("optim.clip=0.5",), marks=pytest.mark.slow),
        pytest.param(infinite, {2}, ("optim.accumulate=2",), marks=pytest.mark.slow),
        (nan, {3}, ("optim.accumulate=2", "optim.clip=0.5")),
        (infinite, {1}, ("compute.precision=bf16",)),
        (infinite, {1}, ("compute.precision=fp16", *NO_MASKS)),
        pytest.param(nan, {1}, ("compute.precision=fp16", *NO_MASKS), marks=pytest.mark.slow),
        pytest.param(
            *(infinite, {2}, ("compute.precision=fp16", "optim.accumulate=2", "optim.clip=0.5", *NO_MASKS)),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_no_weight_changes_in_such_a_step_or_later(tiny_recipe, monkeypatch, kind, passes, options):
    spoil(monkeypatch, passes, kind)
    run = Stepper(tiny_recipe(*options, "optim.ema=0.5", "schedule.iterations=4"))
    run.step()
    weights, momentum, average = run.weights(), run.momentum(), run.average()
    losses = run.step()
    with pytest.raises(TrainingStopped, match=r"step 2 \(last images .*loss_classifier is not finite"):
        losses.read()
    for _ in range(2):
        assert_same(run.weights(), weights)
        assert_same(run.momentum(), momentum)
        # after one step the average is the model, and moves towards it
        assert_same(run.average(), average)
        with pytest.raises(TrainingStopped, match=r"step 2 \("):
            run.step()


@pytest.mark.parametrize(
    ("kind", "precision"),
    [(infinite, "fp32"), (nan, "fp32"), (infinite, "fp16"), pytest.param(nan, "fp16", marks=pytest.mark.slow)],
)
def test_the_first_step_can_be_left_out(tiny_recipe, monkeypatch, kind, precision):
    spoil(monkeypatch, {0}, kind)
    run = Stepper(tiny_recipe(f"compute.precision={precision}", *NO_MASKS))
    weights = run.weights()
    run.step()
    assert_same(run.weights(), weights)
    assert not any(bool(value.any()) for value in run.momentum().values())
    with pytest.raises(TrainingStopped, match=r"step 1 \("):
        run.step()


def test_a_first_step_that_overflows_leaves_no_momentum(tiny_recipe):
    """The scaler begins too high; what it leaves out is as if it had never been."""
    run = Stepper(tiny_recipe("compute.precision=fp16", "optim.weight_decay=0", "schedule.warmup=0", *NO_MASKS))
    run.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, backoff_factor=2.0**-110)
    before = run.weights()
    run.step()
    assert_same(run.weights(), before)
    assert run.state.scaler.get_scale() == 2.0**10
    assert not any(bool(value.any()) for value in run.momentum().values())
    run.step()
    gradients = [p.grad for p in run.state.optimizer.param_groups[0]["params"]]
    for gradient, momentum in zip(gradients, run.momentum().values(), strict=True):
        torch.testing.assert_close(momentum, gradient)
    name = "backbone.stages.0.0.weight"
    weight = run.state.model.get_parameter(name)
    torch.testing.assert_close(weight.detach(), before[name] - 0.01 * weight.grad)


def test_the_average_moves_towards_weights_that_stay(tiny_recipe, monkeypatch):
    """At most once, and it is never kept: the next thing that happens to the run reads the losses."""
    spoil(monkeypatch, {2}, nan)
    run = Stepper(tiny_recipe("optim.ema=0.75", "schedule.warmup=0"))
    run.step()
    run.step()
    before = run.average()
    run.step()
    assert_finite(run.average())
    for name, weight in run.weights().items():
        torch.testing.assert_close(run.average()[name], before[name].lerp(weight, 0.25))
    with pytest.raises(TrainingStopped, match=r"step 3 \("):
        checkpoint_content(run.recipe, run.data, run.state)


# --- a whole run: a checkpoint every second step ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoilt", "kept", "options"),
    [
        (3, 2, ()),  # the next step reads it
        (4, 2, ()),  # the checkpoint reads it
        (10, 8, ()),  # the end reads it
        (3, 2, ("log_every=1",)),  # the log reads it
        (3, 2, ("optim.clip=0.5", "optim.ema=0.5", "compute.precision=fp16", *NO_MASKS)),
    ],
)
def test_a_run_stops_and_keeps_its_last_checkpoint(tiny_recipe, tmp_path, monkeypatch, spoilt, kept, options):
    spoil(monkeypatch, {spoilt - 1}, nan)
    with pytest.raises(TrainingStopped, match=rf"step {spoilt} \(.*go back to the last checkpoint"):
        fit(tiny_recipe(*TEN_STEPS, *options), tmp_path / "run")
    content = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert content["done"] == kept
    assert_finite(content["model"])
    logged = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "loss" in line] == ([1, 2] if "log_every=1" in options else [1])


def test_ctrl_c_after_such_a_step_saves_nothing(tiny_recipe, tmp_path, monkeypatch):
    spoil(monkeypatch, {2}, nan)
    interrupt_in_step(monkeypatch, 3)
    with pytest.raises((TrainingStopped, KeyboardInterrupt)) as stopped:
        fit(tiny_recipe(*TEN_STEPS), tmp_path / "run")
    assert stopped.match(r"step 3 \(")
    assert load_checkpoint(tmp_path / "run/checkpoints/last.pt")["done"] == 2


@pytest.mark.parametrize("options", [(), ("optim.clip=0.5",), ("compute.precision=bf16", "optim.ema=0.5")])
def test_a_gradient_that_is_not_finite_changes_no_weight(tiny_recipe, tmp_path, monkeypatch, options):
    """A finite loss can have gradients that are not; the step is the last one here, whose losses nobody reads."""
    spoil(monkeypatch, {9}, steep)
    with pytest.raises(
        TrainingStopped,
        match="step 10 .*the gradient is not finite; no weight was changed",
    ):
        fit(tiny_recipe(*TEN_STEPS, *options), tmp_path / "run")
    content = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert content["done"] == 8
    assert_finite(copied(content["model"]))


def test_a_scaler_leaves_out_steep_steps_and_goes_on(tiny_recipe, monkeypatch):
    spoil(monkeypatch, {1}, steep)
    run = Stepper(tiny_recipe("compute.precision=fp16", *NO_MASKS))
    run.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    seen = [run.weights()]
    for _ in range(3):
        run.step().read()
        seen.append(run.weights())
    name = "backbone.stages.0.0.weight"
    assert [torch.equal(a[name], b[name]) for a, b in itertools.pairwise(seen)] == [False, True, False]
    assert run.state.scaler.get_scale() == 2.0**9
    assert_finite(seen[-1])
