"""``benchmarks/cascades.py``: its rehearsal, and that what is finished is left alone."""

import csv
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from lt_train.quickstart import quickstart_recipe
from tests.lt_train.commands import in_this_process

AP75 = ["bbox_AP75", "segm_AP75"]


def script(*words):
    from cascades import main

    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture
def begun(monkeypatch):
    """Which runs are begun; they are commands in this process."""
    import cascades

    names = []

    def start(words, log, place):
        names.append("/".join(Path(words[words.index("--out") + 1]).parts[-2:]))
        return in_this_process(words, log, place)

    monkeypatch.setattr(cascades, "own_commands", lambda jobs: start)
    return names


@pytest.mark.slow
def test_the_rehearsal_records_each_model_once_and_goes_on(begun, tmp_path):
    from cascades import COLUMNS, MODELS, RESULTS

    before = RESULTS.read_bytes() if RESULTS.exists() else None
    out = tmp_path / "out"
    done = script("--out", out, "--seeds", 1, "--tiny")
    assert done.exit_code == 0, done.output
    assert begun == [f"seed-0/{model}" for model in MODELS]
    with (out / "tiny/cascades.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["model"], row["seed"], row["steps"]) for row in rows] == [(model, "0", "2") for model in MODELS]
    assert set(rows[0]) == set(COLUMNS)
    assert all(0 <= float(row[name]) <= 100 for row in rows for name in AP75)
    assert done.stdout.splitlines()[-4].startswith("AP75, mean of 1 seeds (0)")
    # nothing was written where figures are recorded
    assert (RESULTS.read_bytes() if RESULTS.exists() else None) == before
    begun.clear()
    shutil.rmtree(out / "tiny/seed-0/htc_small")
    again = script("--out", out, "--seeds", 1, "--tiny", "--minutes", 0)
    assert begun == []
    assert "no seed has all models yet" in again.output
    assert "the same command goes on" in again.output
    assert script("--out", out, "--seeds", 1, "--tiny").exit_code == 0
    assert begun == ["seed-0/htc_small"]


def test_a_seed_is_the_quickstarts(tmp_path):
    """All of the recipe but the model, the places and what is logged."""
    from cascades import MODELS, Size, step_of

    from lt_train.recipe.load import load_recipe

    words = step_of(MODELS[0], tmp_path, 1, Size()).words
    recipe = load_recipe(words[2], words[3 : words.index("--out")])
    assert recipe.model_copy(update={"trackers": ("tensorboard",)}) == quickstart_recipe(tmp_path / "data-1", 1)
