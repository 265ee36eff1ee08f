"""Runs of heads that carry something from step to step: it goes on with the run, and no average is taken of it."""

import json
from functools import partial

import pytest
import torch

from lt_train.engine.fit import fit
from lt_train.runs.checkpoint import load_checkpoint
from lt_train.runs.directory import RunDir
from tests.lt_train.engine.reading_runs import losses, weights
from tests.lt_train.engine.stepping import assert_same, interrupt_in_step
from tests.lt_train.engine.test_together import COMMON, train
from tests.lt_train.several import start

# a method, and what its head carries
CARRIED = {"equalization-v2": ("positive_gradient", "negative_gradient"), "seesaw": ("seen",), "loce": ("mean_scores",)}


def of_head(state):
    """What the head carries, in the state of a model."""
    own = {name: value for name, value in state.items() if name.startswith("roi_heads.head.")}
    return {name: value for name, value in own.items() if not name.endswith("instance_counts")}


@pytest.mark.parametrize("method", CARRIED)
@pytest.mark.parametrize("average", [(), pytest.param(("optim.ema=0.5",), marks=pytest.mark.slow)], ids=["", "average"])
def test_a_run_goes_on_in_the_middle_of_an_epoch_as_if_never_stopped(
    method, average, tiny_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr("lt_train.engine.fit._save_every", lambda _: 1)
    recipe = tiny_recipe(
        f"method={method}", "train=all", "data.val=null", "schedule.iterations=4", "schedule.decay=[]", *average
    )
    straight = fit(recipe, tmp_path / "straight")
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run")
    middle = of_head(weights(RunDir(tmp_path / "run")))
    go_on()
    run = fit(recipe, tmp_path / "run", resume=True)
    assert losses(run) == losses(straight)
    assert_same(weights(run), weights(straight))
    end = of_head(weights(run))
    assert {name.rpartition(".")[2] for name in end} == set(CARRIED[method])
    for name, value in end.items():
        assert value.any()
        assert bool((value >= middle[name]).all())
        assert not torch.equal(value, middle[name])


@pytest.mark.parametrize("method", CARRIED)
def test_what_is_carried_is_no_average(method, tiny_recipe, tmp_path):
    run = fit(tiny_recipe(f"method={method}", "train=all", "data.val=null", "optim.ema=0.5"), tmp_path / "run")
    content = load_checkpoint(run.last)
    assert_same(of_head(content["model"]), of_head(content["trained_model"]))


@pytest.mark.parametrize("method", CARRIED)
def test_a_run_that_starts_from_another_counts_anew(method, tiny_recipe, tmp_path):
    """Weights are taken over; what the head has seen belongs to the run that saw it."""
    recipe = tiny_recipe(f"method={method}", "train=all", "data.val=null", "schedule.iterations=1", "schedule.decay=[]")
    first = fit(recipe, tmp_path / "first")
    second = fit(recipe, tmp_path / "second", init_from=first.path)
    assert "newly initialised: nothing" in second.log.read_text()
    was, now = (sum(float(v.double().sum()) for v in of_head(weights(run)).values()) for run in (first, second))
    assert 0 < now < 1.5 * was


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_tiny_recipe):
    """The folder with what 1, 2 and 3 processes trained."""
    out = tmp_path_factory.mktemp("carried")
    recipes = [make_tiny_recipe(*COMMON, f"method={method}", "train=all") for method in CARRIED]
    for world in (1, 2, 3):
        assert start(world, partial(train, recipes, out)) == ["'done'"] + ["None"] * (world - 1)
    return out


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("number", range(len(CARRIED)), ids=CARRIED)
def test_several_processes_carry_what_one_does(trained, world, number):
    one, several = (torch.load(trained / f"{w}-{number}.pt") for w in (1, world))
    for got, wanted in zip(several["losses"], one["losses"], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)
    carried = of_head(one["buffers"])
    assert carried
    for name, value in carried.items():
        torch.testing.assert_close(several["buffers"][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("method", "what"), [("balanced-softmax", "instances"), ("equalization", "images")])
def test_classes_that_no_image_has_are_said_to_count_as_one(method, what, tiny_recipe, tiny_pool, tmp_path):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    content["categories"] += [{"id": 1000 + i, "name": f"unseen {i}"} for i in range(2)]
    (tmp_path / "more.json").write_text(json.dumps(content))
    run = fit(
        tiny_recipe(f"method={method}", "data.val=null", f"data.train.annotations={tmp_path / 'more.json'}"),
        tmp_path / "run",
    )
    line = f"note: 2 classes without {what} in training count as having one in the formula of head {method}"
    assert run.log.read_text().count(line) == 1
