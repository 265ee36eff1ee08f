"""Runs of detectors of several stages: going on bit by bit, and in several processes."""

from functools import partial

import pytest
import torch
from PIL import Image

from lt_train.engine.fit import fit
from lt_train.processes import run_together
from lt_train.runs.directory import RunDir
from tests.lt_train.engine.reading_runs import losses, weights
from tests.lt_train.engine.stepping import Stepper, assert_same, interrupt_in_step
from tests.lt_train.several import start

HTC = ("model.name=htc_small", "model.semantic=stuff")


@pytest.fixture(scope="module")
def stuff(tiny_pool, tmp_path_factory):
    """The key that names stuff maps of the pool."""
    out = tmp_path_factory.mktemp("stuff")
    for number, path in enumerate(sorted((tiny_pool / "images").iterdir())):
        Image.new("L", (64, 64), 255 if number % 4 == 0 else number).save(out / f"{path.stem}.png")
    return f"data.train.stuff={out}"


@pytest.mark.parametrize("method", ["seesaw", pytest.param("bags-train-cls", marks=pytest.mark.slow)])
def test_a_run_goes_on_in_the_middle_of_an_epoch_as_if_never_stopped(method, stuff, tiny_recipe, tmp_path, monkeypatch):
    """The heads of the stages carry counts of their own."""
    monkeypatch.setattr("lt_train.engine.fit._save_every", lambda _: 1)
    given = (*HTC, "data.val=null", "schedule.iterations=3", "schedule.decay=[]")
    recipe = tiny_recipe(*given, f"method={method}", "train=all", stuff)
    straight = fit(recipe, tmp_path / "straight")
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run")
    go_on()
    run = fit(recipe, tmp_path / "run", resume=True)
    assert losses(run) == losses(straight)
    assert_same(weights(run), weights(straight))
    if method == "seesaw":
        seen = [weights(RunDir(run.path))[f"roi_heads.stages.{i}.head.seen"] for i in range(3)]
        assert all(bool(part.any()) for part in seen)
        assert not torch.equal(seen[0], seen[2])


def train(recipe, out):
    """Losses and weights after two steps; written by process 0."""

    def work(processes):
        stepper = Stepper(recipe, processes, stored=True)
        losses = [stepper.step().read() for _ in range(2)]
        if processes.is_first:
            torch.save({"losses": losses, "weights": stepper.weights()}, out / f"{processes.world}.pt")
        return "done"

    return run_together(work)


def test_two_processes_take_the_steps_of_one(stuff, tmp_path, make_tiny_recipe):
    given = ("optim.batch=4", "optim.base_batch=4", "optim.micro_batch=2", "schedule.iterations=2", "schedule.decay=[]")
    recipe = make_tiny_recipe(*given, *HTC, stuff, "head.name=bags", "data.val=null", "schedule.warmup=0")
    for world in (1, 2):
        assert start(world, partial(train, recipe, tmp_path)) == ["'done'"] + ["None"] * (world - 1)
    one, two = (torch.load(tmp_path / f"{world}.pt") for world in (1, 2))
    assert set(one["losses"][0]) >= {"s0.loss_group_0", "s2.loss_mask", "loss_semantic"}
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-3, atol=1e-4)
