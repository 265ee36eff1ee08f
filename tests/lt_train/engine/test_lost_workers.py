"""A loader process that dies: PyTorch raises anywhere, people read one line."""

import multiprocessing
import os
import signal
import time

import pytest

from lt_train.engine import step as engine
from lt_train.engine.fit import fit
from lt_train.engine.losses import TrainingStopped
from lt_train.engine.step import name_lost_workers
from lt_train.recipe.origins import Setting
from lt_train.trials.dry_run import dry_run

OPTIONS = ("data.val=null", "data.workers=1", "trackers=[]", "schedule.iterations=100", "schedule.decay=[]")


@pytest.fixture
def killed(monkeypatch):
    """Kills the loader processes in the second step, as a system without memory does; their ids."""
    original, ids, steps = engine._change_weights, [], []

    def kill(*args, **options):
        steps.append(None)
        for child in multiprocessing.active_children() if len(steps) == 2 else ():
            ids.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)
            time.sleep(10)  # the handler of SIGCHLD raises here
        return original(*args, **options)

    monkeypatch.setattr(engine, "_change_weights", kill)
    return ids


def test_a_loader_process_that_is_killed_is_one_line(tiny_recipe, tmp_path, killed):
    with pytest.raises(TrainingStopped) as error:
        fit(tiny_recipe(*OPTIONS), tmp_path / "run")
    (line,) = error.value.problems
    # other tests of the same process may have left children too
    assert any(
        line.startswith(f"data.workers=1: loader process {pid} is killed by signal: Killed; as a rule ")
        for pid in killed
    )
    assert "set fewer data.workers or give the container more memory (--shm-size=8g)" in line
    assert not (tmp_path / "run/checkpoints/last.pt").exists()


def test_the_dry_run_says_the_same(tiny_recipe, killed):
    with pytest.raises(TrainingStopped, match="data.workers=1: loader process .* is killed by signal: Killed"):
        list(dry_run(tiny_recipe(*OPTIONS), (Setting("seed", 0, "default"),)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that",
            "7 is killed by signal: Bus error;",
        ),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "7, 8 exited unexpectedly;"),
        ("DataLoader worker (pid 7) exited unexpectedly with exit code 1. Details are lost", "7 exited unexpectedly;"),
    ],
)
def test_the_ways_in_which_they_die(text, says):
    with pytest.raises(TrainingStopped) as error, name_lost_workers(2):
        raise RuntimeError(text)
    assert f"data.workers=2: loader process {says}" in str(error.value)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="CUDA error"), name_lost_workers(2):
        raise RuntimeError("CUDA error: out of memory")
