"""``benchmarks/groceries.py``: on a tree of a few drawn images, and the counts of the real one where it is."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from lt_data import read_annotations
from lt_train.recipe.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "groceries.py"
TINY = (
    *("model.name=faster_rcnn_small", "model.weights=none", "model.min_size=[64]", "model.max_size=64"),
    *("model.num_detections=20", "schedule.decay=[]", "schedule.warmup=0"),
    *("model.pre_nms_topk=200", "optim.batch=1", "optim.base_batch=1", "trackers=[]"),
)
COLOURS = {"ham": "red", "tea": "blue", "jam": "lime"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Ninety images of one box each, laid out as the clone; a third of them of each class."""
    folder = tmp_path_factory.mktemp("clone")
    for number in range(90):
        name = list(COLOURS)[number % 3]
        for part in ("images", "annotations"):
            (folder / "dataset" / part / name).mkdir(parents=True, exist_ok=True)
        left = 4 + number % 20
        image = Image.new("RGB", (64, 64), "gray")
        ImageDraw.Draw(image).rectangle((left, 10, left + 30, 40), COLOURS[name])
        image.save(folder / "dataset" / "images" / name / f"{number}.png")
        corners = {"xmin": left, "ymin": 10, "xmax": left + 31, "ymax": 41}
        box = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
        (folder / "dataset" / "annotations" / name / f"{number}.xml").write_text(
            f"<annotation><size><width>64</width><height>64</height></size><object><name>{name}</name>"
            f"<difficult>0</difficult><bndbox>{box}</bndbox></object></annotation>"
        )
    return folder


def options(clone, out, *words):
    return [str(word) for word in ("--data", clone, "--out", out, "--other-data", *TINY, *words)]


def script(clone, out, *words):
    """In this process; the runs that it starts have their own, unless ``in_process`` was called."""
    from groceries import main

    with contextlib.chdir(out.parent):
        done = CliRunner().invoke(main, options(clone, out, *words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def rows(out):
    with (out / "figures.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def in_process(patch):
    """Runs are commands in this process from now on: each one that starts imports PyTorch."""
    from common.method_runs import Runner
    from lt_cli.train import main

    def call(runner, words, name):
        done = CliRunner().invoke(main, [str(word) for word in words])
        runner._note(name, 1.0, 2.0)
        return "" if done.exit_code == 0 else f"exit code {done.exit_code}"

    patch.setattr(Runner, "_call", call)


@pytest.fixture(scope="module")
def finished(clone, tmp_path_factory):
    out = tmp_path_factory.mktemp("groceries") / "out"
    with pytest.MonkeyPatch.context() as patch:
        in_process(patch)
        done = script(clone, out, "schedule.iterations=2", "--methods", "bags,tau-norm", "--seeds", 1)
    assert done.exit_code == 0, done.stderr
    return out, done


def test_one_command_gives_data_runs_table_and_pictures(finished, clone):
    out, done = finished
    found = rows(out)
    assert [(row["run"], row["seed"]) for row in found] == [("softmax", "0"), ("bags", "0"), ("tau-norm", "0")]
    assert [row["how"] for row in found] == [
        "method=softmax",
        "method=bags from softmax",
        "method=tau-norm from softmax",
    ]
    metrics = json.loads((out / "runs" / "seed-0" / "bags" / "eval" / "metrics.json").read_text())
    assert found[1]["AP"] == f"{100 * metrics['bbox']['AP']:.2f}"
    assert {(row["seconds"], row["processor_seconds"]) for row in found} == {("1", "2")}
    assert "| run | AP | AP50 | " in done.stdout
    assert (out / "table.md").read_text().strip() in done.stdout
    for picture in ("group_ap.png", "predictions.png"):
        with Image.open(out / picture) as image:
            assert min(image.size) > 100
    assert {path.name for path in clone.iterdir()} == {"dataset"}


def test_validation_and_pool_share_no_image_and_leave_none_out(finished):
    data = finished[0] / "data"
    val, pool, train = (
        set(read_annotations(data / name).file_names)
        for name in ("val.json", "pool.json", "groceries_lt/annotations.json")
    )
    assert not val & pool
    assert len(val | pool) == 90
    assert train < pool


def test_what_is_finished_is_left_alone(finished, clone):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    done = script(clone, out, "schedule.iterations=2", "--methods", "bags", "--seeds", 1)
    assert done.exit_code == 0, done.stderr
    assert (out / "table.md").read_text().strip() in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.fixture
def told(tmp_path):
    """Runs rows that are given their AP instead of being trained; says which."""
    from common.method_runs import Runner, chosen
    from groceries import plan, run_all

    groups = ["(0, 10)", "[10, ~)"]
    begun = []

    class Told(Runner):
        def run(self, entry, seed):
            begun.append((entry.name, seed))
            ap = self.aps.get((entry.name, seed), 0.25)
            block = {"AP": ap, "AP50": 0.5, "groups": {groups[0]: None, groups[1]: ap}}
            environment = {"date": "2026-11-30T01:02:03", "gpu": None, "threads": 2, "packages": {"torch": "2.11"}}
            path = self.path(entry.name, seed)
            (path / "eval").mkdir(parents=True)
            (path / "eval" / "metrics.json").write_text(json.dumps({"bbox": block}))
            (path / "environment.json").write_text(json.dumps(environment))
            return ""

    def run(methods, seeds, aps):
        begun.clear()
        runner = Told(tmp_path / "runs", "any", [])
        runner.aps = aps
        data = SimpleNamespace(groups=lambda: groups)
        assert run_all(runner, chosen(plan(), methods), seeds, data, tmp_path / "figures.csv") == []
        return list(begun), rows(tmp_path)

    return run


def test_a_second_seed_comes_after_all_methods_of_the_first(told):
    begun, _ = told(["bags"], 1, {})
    assert begun == [("softmax", 0), ("bags", 0)]
    begun, found = told(["rfs", "bags"], 2, {("softmax", 1): 0.125})
    assert begun == [("rfs", 0), ("softmax", 1), ("bags", 1), ("rfs", 1)]
    assert [(row["run"], row["seed"]) for row in found] == [
        *(("softmax", "0"), ("bags", "0"), ("rfs", "0"), ("softmax", "1"), ("bags", "1"), ("rfs", "1")),
    ]
    from common.group_table import best_runs, markdown

    text = markdown(found, ["AP", "(0, 10)", "[10, ~)"], {"(0, 10)": 2, "[10, ~)": 3})
    assert text.splitlines()[0] == "| run | AP | (0, 10), 2 classes | [10, ~), 3 classes | seeds |"
    assert text.splitlines()[2] == "| softmax | 18.8 (12.5..25.0) | - | 18.8 (12.5..25.0) | 2 |"
    assert best_runs(found, 3) == ["bags", "rfs", "softmax"]


def test_other_settings_are_not_mixed_in(finished, clone):
    done = script(clone, finished[0], "schedule.iterations=3", "--methods", "softmax", "--seeds", 1)
    assert done.exit_code == 1
    assert "holds runs of other settings (overrides was " in done.stderr


def test_a_run_that_fails_is_named_and_what_starts_from_it_is_not_begun(clone, tmp_path):
    done = script(clone, tmp_path / "out", "schedule.iterations=2", "optim.lr=-1", "--methods", "bags", "--seeds", 1)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-2:] == [
        "softmax, seed 0: exit code 1",
        "bags, seed 0: not begun: softmax failed",
    ]
    assert "no run is finished yet" in done.stdout


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_where_it_was(clone, tmp_path):
    out = tmp_path / "out"
    words = ("schedule.iterations=40", "log_every=1", "--methods", "softmax", "--seeds", 1)
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *options(clone, out, *words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    lines = out / "runs" / "seed-0" / "softmax" / "metrics.jsonl"
    while not (lines.exists() and lines.read_text().count("\n") > 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed, told = process.communicate()
    assert process.returncode == 0
    assert b"no run is finished yet" in printed
    assert told.decode().splitlines()[-1] == "ended before everything was done; the same command goes on"
    done_before = lines.read_text().splitlines()
    assert 2 < len(done_before) < 40
    spent = json.loads((out / "runs" / "seconds.json").read_text())["seed-0/softmax"]

    done = script(clone, out, *words)
    assert done.exit_code == 0, done.stderr
    steps = lines.read_text().splitlines()
    assert len([line for line in steps if '"loss"' in line]) == 40
    assert steps[: len(done_before)] == done_before
    assert float(rows(out)[0]["seconds"]) >= round(spent[0])
    assert float(rows(out)[0]["processor_seconds"]) > 0


def test_no_time_is_no_run(clone, tmp_path):
    done = script(clone, tmp_path / "out", "--minutes", 0, "--methods", "softmax")
    assert done.exit_code == 0
    assert not (tmp_path / "out" / "runs").exists()
    assert "the same command goes on" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--methods", "bags,none"), "no such row: none; there are softmax, bags, "),
        (("--record",), "--record is for the recipe and the data that figures are recorded for"),
    ],
)
def test_mistakes(clone, tmp_path, words, says):
    done = script(clone, tmp_path / "out", *words)
    assert done.exit_code == 2
    assert says in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_no_clone_or_another_one(clone, tmp_path):
    from common.groceries_data import prepare

    with pytest.raises(click.ClickException, match="no dataset/annotations and dataset/images in it; git clone"):
        prepare(tmp_path, tmp_path / "data")
    with pytest.raises(click.ClickException, match="validation images .* instead of 978"):
        prepare(clone, tmp_path / "data")


def test_every_method_has_a_row_and_comes_after_what_it_starts_from():
    from groceries import plan

    names = [entry.name for entry in plan()]
    assert names[:2] == ["softmax", "bags"]
    assert set(METHODS) <= set(names)
    assert len(names) == len(set(names))
    starts = {entry.name: entry.start for entry in plan()}
    alone = {name for name, start in starts.items() if not start}
    assert alone == {name for name, method in METHODS.items() if not method.starts_from_run}
    assert {"softmax", "rfs", "class-aware"} < alone
    assert starts["bags-tune-all"] == "bags-train-cls"
    assert all(names.index(start) < names.index(name) for name, start in starts.items() if start)


def test_every_row_is_a_recipe():
    from groceries import RECIPE, plan

    from lt_train.recipe.load import load_recipe

    recipes = {row.name: load_recipe(RECIPE, [f"method={row.method}", *row.overrides]) for row in plan()}
    assert recipes["bags-2-groups"].head.edges == (30,)
    assert len(recipes["bags-8-groups"].head.edges) == 7
    assert recipes["bags-all-others"].head.others_ratio == float("inf")
    assert recipes["bags-train-cls"].head.others_ratio == 1
    # one budget, but for the three that their source trains for ten epochs
    budgets = {name: recipe.schedule.epochs for name, recipe in recipes.items() if recipe.train != "none"}
    own = {"finetune-tail", "bags-tune-head", "bags-tune-all"}
    assert {epochs for name, epochs in budgets.items() if name not in own} == {recipes["softmax"].schedule.epochs}


def test_the_real_data(tmp_path):
    from common.groceries_data import EXPECTED, counts_of, prepare

    clone = os.environ.get("LT_GROCERIES")
    if not clone:
        pytest.skip("LT_GROCERIES names no clone of the real data")
    data = prepare(Path(clone), tmp_path)
    assert counts_of(data) == EXPECTED
    assert data.groups() == ["(0, 10)", "[10, 30)", "[30, 100)", "[100, ~)"]
