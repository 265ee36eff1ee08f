"""The state of a run: all of it survives a checkpoint, nothing of it hangs on a global random number."""

import random
from dataclasses import fields

import numpy as np
import pytest
import torch

from lt_train.engine.fit import fit
from lt_train.engine.restore import restore_state
from lt_train.engine.resume import read_begun
from lt_train.engine.state import RunState, checkpoint_content
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint
from lt_train.runs.directory import RunDir
from tests.lt_train.engine.stepping import Stepper, assert_same, copied

# what a run makes anew when it goes on, and why that is no loss
MADE_ANEW = {
    "losses": "of the last step, read before it is saved",
    "saved": "the step of the checkpoint that is read",
    "last_is_whole": "told by the checkpoint that is read",
    "notes": "lines of the start",
    "processes": "of this start",
    "trained": "the model, or what wraps it",
    "masks": "told by the recipe",
    "stuff": "told by the recipe",
    "bad_images": "of this start",
    "features": "opened again",
    "heads": "of the last two steps, to show one that went wrong",
}
SAVED = {"model", "optimizer", "scaler", "ema", "done", "best", "best_step", "waited", "evaluated", "unseen"}


def test_every_field_is_saved_or_made_anew():
    """Whoever adds a field says which, and compares it below if it is saved."""
    assert {field.name for field in fields(RunState)} == SAVED | set(MADE_ANEW)


def test_what_is_saved_survives(tiny_recipe, tmp_path):
    options = ("optim.ema=0.5", "schedule.iterations=4", "schedule.decay=[]", "data.val=null")
    recipe = tiny_recipe(*options)
    fit(recipe, tmp_path / "run")
    stepper, fresh = Stepper(recipe), Stepper(recipe)
    for _ in range(3):
        stepper.step().read()
    state = stepper.state
    state.best, state.evaluated, state.unseen = 0.25, 2, 3
    state.best_step, state.waited = 1, 4
    state.scaler._init_scale = 64.0
    run = RunDir(tmp_path / "run")
    save_checkpoint(run.last, checkpoint_content(recipe, stepper.data, state))
    run.best.unlink(missing_ok=True)
    save_checkpoint(run.best, load_checkpoint(run.last))
    restore_state(fresh.state, run, read_begun(run), recipe, fresh.data, steps=4)
    got = fresh.state
    assert (got.done, got.best, got.evaluated, got.unseen) == (3, 0.25, 2, 3)
    assert (got.best_step, got.waited) == (1, 4)
    assert_same(copied(got.model.state_dict()), copied(state.model.state_dict()))
    assert_same(copied(got.ema.state_dict()), copied(state.ema.state_dict()))
    assert_same(fresh.momentum(), stepper.momentum())
    assert got.scaler.state_dict() == state.scaler.state_dict()


@pytest.mark.parametrize("system", [("method=softmax",), ("method=rfs", "head.name=bags")], ids=["softmax", "BAGS"])
def test_global_seeds_change_nothing(tiny_recipe, tmp_path, system):
    """Every draw is keyed: what else drew from the global generators before does not matter."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        run = fit(tiny_recipe(*system, "data.val=null"), tmp_path / f"run{seed}")
        found.append(load_checkpoint(run.last)["model"])
    assert_same(*found)
