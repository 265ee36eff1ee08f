"""Loader processes: one that dies is one line, though PyTorch raises anywhere; none outlives what it loads for."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lt_train.engine import step as engine
from lt_train.engine.fit import fit
from lt_train.engine.losses import TrainingStopped
from lt_train.engine.step import name_lost_workers
from lt_train.recipe.origins import Setting
from lt_train.trials.dry_run import dry_run
from tests.lt_train.narrow import NARROW_CODE

ROOT = Path(__file__).resolve().parents[3]

OPTIONS = ("data.val=null", "data.workers=1", "trackers=[]", "schedule.iterations=100", "schedule.decay=[]")


def children():
    return set(multiprocessing.active_children())


@pytest.fixture
def killed(monkeypatch):
    """Kills the loader processes in the second step, as a system without memory does; their ids."""
    original, ids, steps = engine._change_weights, [], []
    others = children()

    def kill(*args, **options):
        steps.append(None)
        for child in children() - others if len(steps) == 2 else ():
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
    (pid,) = killed
    assert line.startswith(f"data.workers=1: loader process {pid} is killed by signal: Killed; as a rule ")
    assert "set fewer data.workers or give the container more memory (--shm-size=8g)" in line
    assert not (tmp_path / "run/checkpoints/last.pt").exists()


def test_the_dry_run_says_the_same(tiny_recipe, killed):
    with pytest.raises(TrainingStopped, match="data.workers=1: loader process .* is killed by signal: Killed"):
        list(dry_run(tiny_recipe(*OPTIONS), (Setting("seed", 0, "default"),)))


@pytest.fixture
def broken(monkeypatch):
    """Every step ends in an error; the processes that were there before."""
    others = children()

    def fail(*args, **options):
        assert children() > others
        raise ZeroDivisionError

    monkeypatch.setattr(engine, "_change_weights", fail)
    return others


def test_a_run_that_fails_leaves_no_process(tiny_recipe, tmp_path, broken):
    # the error is kept, as a notebook keeps its last one, and with it every name on the way to it
    with pytest.raises(ZeroDivisionError) as error:
        fit(tiny_recipe(*OPTIONS), tmp_path / "run")
    assert error.traceback
    assert children() == broken


@pytest.mark.slow
def test_the_command_ends_after_an_error(tiny_recipe, tiny_pool, tmp_path):
    """A process that still loads images would be waited for at the end of the program, for ever."""
    images, file = tmp_path / "images", tmp_path / "recipe.yaml"
    images.mkdir()
    for path in (tiny_pool / "images").iterdir():
        (images / path.name).write_bytes(path.read_bytes()[:100])
    recipe = tiny_recipe(*OPTIONS, f"data.train.images={images}", "data.workers=2")
    file.write_text(yaml.safe_dump(recipe.to_plain()))
    program = NARROW_CODE + "from cli.train import main\nmain()\n"
    command = [sys.executable, "-c", program, "fit", file, "--out", tmp_path / "run"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=600, check=False)
    assert done.returncode == 1
    assert "not a readable image" in done.stderr


def test_a_dry_run_that_fails_leaves_no_process(tiny_recipe, broken, monkeypatch):
    # the step that memory is judged by loads its images itself
    monkeypatch.setattr("lt_train.trials.dry_run._expected_memory", lambda *_: "")
    with pytest.raises(ZeroDivisionError) as error:
        list(dry_run(tiny_recipe(*OPTIONS), (Setting("seed", 0, "default"),)))
    assert error.traceback
    assert children() == broken


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
