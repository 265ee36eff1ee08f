"""A run that goes on: as if it had never stopped, or not at all."""

import shutil

import pytest
import torch
import yaml

from lt_data.errors import DataError, RecipeError
from lt_train.engine.fit import fit
from lt_train.runs.checkpoint import load_checkpoint
from lt_train.runs.directory import RunDir
from tests.lt_train.engine.reading_runs import losses, weights
from tests.lt_train.engine.stepping import assert_same, interrupt_in_step


def test_resume_goes_on_as_if_never_stopped(softmax_run, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("lt_train.engine.fit._save_every", lambda _: 1)
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_recipe(), tmp_path / "run")
    go_on()
    run = fit(tiny_recipe(), tmp_path / "run", resume=True)
    assert losses(run) == losses(softmax_run)
    assert_same(weights(run), weights(softmax_run))
    assert "continuing at step 2 of 3" in run.log.read_text()


def test_a_run_of_a_version_without_a_key_goes_on_with_its_default(softmax_run, tiny_recipe, tmp_path):
    run = RunDir(shutil.copytree(softmax_run.path, tmp_path / "old"))
    content = torch.load(run.last, weights_only=True)
    plain = content["recipe"]
    del plain["model"]["mask_target"], plain["compute"], plain["optim"]["ema"]
    torch.save(content, run.last)
    run.recipe.write_text(yaml.safe_dump(plain))
    assert run.load_recipe() == tiny_recipe()
    fit(tiny_recipe(), run.path, resume=True)
    with pytest.raises(RecipeError, match="model.mask_target was 'exact', is now 'polygon'"):
        fit(tiny_recipe("model.mask_target=polygon"), run.path, resume=True)


def test_a_run_goes_on_with_the_warm_up_it_began_with(tiny_recipe, tmp_path, monkeypatch):
    """The shipped recipes once had a number where they leave it open now."""
    monkeypatch.setattr("lt_train.engine.fit._save_every", lambda _: 1)
    straight = fit(tiny_recipe("schedule.warmup=2", "data.val=null"), tmp_path / "straight")
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_recipe("schedule.warmup=2", "data.val=null"), tmp_path / "run")
    go_on()
    run = fit(tiny_recipe("data.val=null"), tmp_path / "run", resume=True)
    assert losses(run) == losses(straight)
    assert "note: goes on with schedule.warmup=2, with which the run began" in run.log.read_text()
    assert load_checkpoint(run.last)["recipe"]["schedule"]["warmup"] == 2
    with pytest.raises(RecipeError, match="schedule.warmup was 2, is now 1"):
        fit(tiny_recipe("data.val=null", "schedule.warmup=1"), run.path, resume=True)


@pytest.mark.parametrize("now", ["auto", "500"])
def test_a_run_that_began_with_a_warm_up_longer_than_itself_goes_on(tiny_recipe, tmp_path, now):
    """It is refused today."""
    options = ("data.val=null", "schedule.decay=[]")
    with pytest.raises(RecipeError, match="schedule.warmup: got 500 steps, the run has 3"):
        fit(tiny_recipe(*options, "schedule.warmup=500"), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    run = fit(tiny_recipe(*options), tmp_path / "run")
    content = torch.load(run.last, weights_only=True)
    content["recipe"]["schedule"]["warmup"] = 500
    torch.save(content, run.last)
    fit(tiny_recipe(*options, f"schedule.warmup={now}"), run.path, resume=True)
    assert "warm-up: 500 of 3 steps" in run.log.read_text()


def test_resume_refuses_another_recipe(softmax_run, tiny_recipe):
    with pytest.raises(RecipeError) as error:
        fit(tiny_recipe("optim.lr=0.5", "log_every=7"), softmax_run.path, resume=True)
    assert "optim.lr was 0.01, is now 0.5" in error.value.problems[0]
    assert len(error.value.problems) == 2
    assert "--init-from" in error.value.problems[-1]


def test_resume_needs_a_run(tiny_recipe, tmp_path):
    with pytest.raises(DataError, match="no such checkpoint"):
        fit(tiny_recipe(), tmp_path / "none", resume=True)
    with pytest.raises(DataError, match="none: no such run or checkpoint"):
        fit(tiny_recipe("method=bags"), tmp_path / "new", init_from=tmp_path / "none")


def test_resume_survives_a_line_that_was_cut_off(tiny_recipe, tmp_path):
    run = fit(tiny_recipe("data.val=null"), tmp_path / "run")
    before = losses(run)
    with run.metrics.open("a") as handle:
        handle.write('{"step": 4, "lo')
    fit(tiny_recipe("data.val=null"), run.path, resume=True)
    assert losses(run) == before


def test_resume_names_metrics_that_are_not_utf_8(tiny_recipe, tmp_path):
    recipe = tiny_recipe("data.val=null", "trackers=[]")
    run = fit(recipe, tmp_path / "run")
    whole = run.metrics.read_bytes()
    run.metrics.write_bytes(whole + b"\xff\n")
    with pytest.raises(DataError, match=r"metrics.jsonl: line 4 is not UTF-8; remove this line"):
        fit(recipe, run.path, resume=True)
    run.metrics.write_bytes(whole)
    fit(recipe, run.path, resume=True)
