"""A signal to all processes of an evaluation: it ends with its own line, whatever its loaders are doing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lt_data.errors import OutputError
from lt_train.engine.fit import fit
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.recipe.load import make_recipe
from lt_train.recipe.sections import Files
from tests.lt_train.narrow import NARROW_CODE

ROOT = Path(__file__).parents[3]
# a loader that is asked for something else than the work that it is there for
SLOW_LOADERS = """
import sys, time
import lt_train.data.workers as workers
settle = workers.settle_worker
def late(worker):
    print("loader", flush=True)
    time.sleep(1)
    settle(worker)
workers.settle_worker = late
from cli.train import main
main()
"""


@pytest.fixture(scope="module")
def run(tiny_pool, tmp_path_factory):
    files = {"annotations": str(tiny_pool / "annotations.json"), "images": str(tiny_pool / "images")}
    recipe = {
        "data": {"train": files, "groups": [2, 3], "workers": 2},
        "model": {"name": "faster_rcnn_small", "min_size": [64], "max_size": 64},
        "optim": {"batch": 2, "base_batch": 2},
        "schedule": {"iterations": 1, "decay": [], "warmup": 0},
        "device": "cpu",
    }
    out = tmp_path_factory.mktemp("signals") / "run"
    fit(make_recipe(recipe, ("trackers=[]",)), out)
    return out


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs groups of processes")
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_the_group_ends_an_evaluation_in_one_line(run, tiny_pool, tmp_path, number):
    """Its loaders get the signal before they are settled, which is when they would die of it."""
    command = [
        *(sys.executable, "-c", NARROW_CODE + SLOW_LOADERS, "eval", run, "--out", tmp_path / "out"),
        *("--annotations", tiny_pool / "annotations.json", "--images", tiny_pool / "images"),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    assert process.stdout.readline() == "loader\n"
    time.sleep(0.1)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=120)
    assert said.splitlines()[-1] == {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}[number]
    assert "Exception ignored" not in said
    assert "Traceback" not in said
    assert process.returncode == 1
    assert not (tmp_path / "out").exists()


def test_paths_that_are_not_utf_8_are_lines(run, tiny_pool, tiny_recipe, tmp_path):
    """What the system calls by any bytes, no record in UTF-8 can name."""
    odd = tmp_path / os.fsdecode(b"odd\xff")
    with pytest.raises(OutputError, match=r"odd\\xff: the path is not UTF-8, so environment.json cannot name it"):
        fit(tiny_recipe(), odd)
    odd.symlink_to(tiny_pool)
    files = Files(annotations=odd / "annotations.json", images=tiny_pool / "images")
    with pytest.raises(OutputError, match=r"annotations.json: the path is not UTF-8, so inputs.json cannot name it"):
        evaluate_run(run, files=files, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
