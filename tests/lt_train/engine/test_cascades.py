"""Runs of detectors of several stages: going on bit by bit, and in several processes."""

from functools import partial

import pytest
import torch
from PIL import Image

from lt_train.engine.fit import fit
from lt_train.runs.directory import RunDir
from tests.lt_train.engine.reading_runs import losses, weights
from tests.lt_train.engine.stepping import assert_same, interrupt_in_step
from tests.lt_train.engine.test_together import COMMON, train
from tests.lt_train.several import start

MASKS, HTC = ("model.name=cascade_mask_rcnn_small",), ("model.name=htc_small", "model.semantic=stuff")


@pytest.fixture(scope="module")
def stuff(tiny_pool, tmp_path_factory):
    """The key that names stuff maps of the pool."""
    out = tmp_path_factory.mktemp("stuff")
    for number, path in enumerate(sorted((tiny_pool / "images").iterdir())):
        Image.new("L", (64, 64), 255 if number % 4 == 0 else number).save(out / f"{path.stem}.png")
    return f"data.train.stuff={out}"


@pytest.mark.parametrize("method", ["seesaw", "bags-train-cls"])
def test_a_run_goes_on_in_the_middle_of_an_epoch_as_if_never_stopped(method, stuff, tiny_recipe, tmp_path, monkeypatch):
    """The heads of the stages carry counts of their own."""
    monkeypatch.setattr("lt_train.engine.fit._save_every", lambda _: 1)
    given = (*HTC, "data.val=null", "schedule.iterations=3", "schedule.decay=[]")
    recipe = tiny_recipe(*given, f"method={method}", stuff)
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


def test_two_processes_take_the_steps_of_one(stuff, tmp_path, make_tiny_recipe):
    recipes = [
        make_tiny_recipe(*COMMON, *HTC, stuff, "method=seesaw"),
        make_tiny_recipe(*COMMON, *MASKS, "head.name=bags", "optim.micro_batch=2"),
    ]
    for world in (1, 2):
        assert start(world, partial(train, recipes, tmp_path)) == ["'done'"] + ["None"] * (world - 1)
    for number in range(len(recipes)):
        one, two = (torch.load(tmp_path / f"{world}-{number}.pt") for world in (1, 2))
        for got, wanted in zip(two["losses"], one["losses"], strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-3, atol=1e-4)
