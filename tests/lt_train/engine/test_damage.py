"""Runs whose files, data or disk were damaged: what is whole goes on bit for bit, the rest is a line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner

import lt_train.engine.fit as engine
from cli.train import main
from lt_data.errors import DataError, OutputError, RecipeError
from lt_train.engine import step as stepping
from lt_train.engine.fit import fit
from lt_train.inference.detect import load_trained
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint
from lt_train.runs.directory import RunDir
from lt_train.runs.lock import writing_run
from lt_train.runs.log import RunLog
from tests.lt_train.engine.stepping import assert_same
from tests.lt_train.full_disk import files_take
from tests.lt_train.narrow import NARROW_CODE

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = ("schedule.iterations=4", "schedule.decay=[]", "trackers=[]", "model.name=faster_rcnn_small")
BLIND = (*OPTIONS, "data.val=null")


@pytest.fixture
def finished(tiny_recipe, _module_cache, tmp_path_factory):
    """A run of four steps with a checkpoint after each, and an evaluation."""
    if "run" not in _module_cache:
        _module_cache["run"] = fit(tiny_recipe(*OPTIONS), tmp_path_factory.mktemp("runs") / "straight")
    return _module_cache["run"]


@pytest.fixture
def copy(finished, tmp_path):
    return RunDir(shutil.copytree(finished.path, tmp_path / "run"))


class Killed(BaseException):
    """What nothing catches."""


def flip(path):
    """One wrong bit in the middle of the weights."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def same_state(got, wanted):
    a, b = load_checkpoint(got.last), load_checkpoint(wanted.last)
    assert_same(a["model"], b["model"])
    assert_same(*({i: s["momentum_buffer"] for i, s in c["optimizer"]["state"].items()} for c in (a, b)))
    assert [a[key] for key in ("done", "best", "evaluated")] == [b[key] for key in ("done", "best", "evaluated")]


def losses(run):
    return [record["loss"] for record in map(json.loads, run.metrics.read_text().splitlines()) if "loss" in record]


def test_a_checkpoint_and_the_one_before_are_kept(finished):
    contents = {path.name: load_checkpoint(path) for path in finished.last.parent.iterdir()}
    assert {name: (c["done"], c["evaluated"]) for name, c in contents.items()} == {
        "last.pt": (4, 4), "previous.pt": (4, 0), "best.pt": (4, 4),
    }  # fmt: skip


@pytest.mark.parametrize("damage", [flip, os.unlink])
def test_a_run_goes_on_from_the_newest_whole_checkpoint(tiny_recipe, tmp_path, finished, monkeypatch, damage):
    """Killed in its last step, with a damaged checkpoint of the third: the second one is there."""
    original, killed = engine._save_last, []

    def kill(recipe, data, state, run):
        if state.done == 4 and not killed:
            killed.append(None)
            raise Killed
        original(recipe, data, state, run)

    monkeypatch.setattr(engine, "_save_every", lambda _: 1)
    monkeypatch.setattr(engine, "_save_last", kill)
    with pytest.raises(Killed):
        fit(tiny_recipe(*OPTIONS), tmp_path / "run")
    run = RunDir(tmp_path / "run")
    damage(run.last)
    fit(tiny_recipe(*OPTIONS), run.path, resume=True)
    assert f"warning: {run.last}: " in run.log.read_text()
    assert "; the run goes on from previous.pt, the checkpoint of step 2\n" in run.log.read_text()
    assert "continuing at step 2 of 4" in run.log.read_text()
    same_state(run, finished)
    assert losses(run) == losses(finished)


def test_a_damaged_checkpoint_never_takes_the_place_of_a_whole_one(copy, tiny_recipe):
    before = copy.previous.read_bytes()
    flip(copy.last)
    fit(tiny_recipe(*OPTIONS), copy.path, resume=True)
    # there was nothing left to do, and it is whole again all the same
    assert load_checkpoint(copy.last)["evaluated"] == 4
    assert copy.previous.read_bytes() == before


def of_nothing(path):
    save_checkpoint(path, {**load_checkpoint(path), "best": None})


@pytest.mark.parametrize("damage", [flip, os.unlink, of_nothing])
def test_a_best_checkpoint_that_is_lost_is_written_anew_where_the_last_is_the_same(copy, tiny_recipe, finished, damage):
    damage(copy.best)
    fit(tiny_recipe(*OPTIONS), copy.path, resume=True)
    assert f"warning: {copy.best}: " in copy.log.read_text()
    assert "; it is written anew from last.pt, which is of the same step\n" in copy.log.read_text()
    contents = [load_checkpoint(run.best) for run in (copy, finished)]
    assert_same(*(content["model"] for content in contents))
    assert contents[0]["best"] == contents[1]["best"]


def test_a_best_checkpoint_that_is_lost_is_forgotten_where_the_last_is_of_another_step(copy, tiny_recipe):
    """The AP of a step whose weights nobody has keeps no later one from being the best."""
    content = load_checkpoint(copy.last)
    save_checkpoint(copy.last, {**content, "best": 2.0, "evaluated": 0})
    copy.best.unlink()
    fit(tiny_recipe(*OPTIONS), copy.path, resume=True)
    assert f"warning: {copy.best}: no such checkpoint; the run goes on without it" in copy.log.read_text()
    assert [load_checkpoint(path)["best"] for path in (copy.last, copy.best)] == [content["best"]] * 2


def test_where_no_checkpoint_is_whole_each_is_a_line(copy, tiny_recipe):
    for path in copy.last.parent.iterdir():
        flip(path)
    with pytest.raises(DataError) as error:
        fit(tiny_recipe(*OPTIONS), copy.path, resume=True)
    assert len(error.value.problems) == 3
    assert all("is damaged or cut short" in line for line in error.value.problems)


def test_a_damaged_checkpoint_is_not_evaluated_nor_started_from(copy, tiny_recipe, tmp_path):
    flip(copy.last)
    for use in (
        lambda: evaluate_run(copy.path),
        lambda: fit(tiny_recipe(*BLIND), tmp_path / "second", init_from=copy.path),
        lambda: fit(tiny_recipe(*BLIND, f"model.weights={copy.last}"), tmp_path / "second"),
    ):
        with pytest.raises(DataError, match="is damaged or cut short"):
            use()
    assert not (tmp_path / "second").exists()
    with pytest.raises(DataError, match="; the run has previous.pt, the checkpoint before: .* --resume mends it"):
        evaluate_run(copy.path)


def changed(run, change):
    content = load_checkpoint(run.last)
    for path in (run.previous, run.best):
        path.unlink()
    change(content)
    content.pop("format")
    save_checkpoint(run.last, content)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["model"].popitem(), "does not hold the weights of the run's model: .* is missing"),
        (lambda c: c["model"].update({"other": torch.zeros(1)}), "other has no place in the model"),
        (lambda c: c["optimizer"]["state"].pop(0), "optimizer holds the state of other weights"),
        (lambda c: c.update(done=5), "says that 5 steps are done and 4 evaluated, the run has 4"),
        (lambda c: c.update(scaler={"scale": 1.0}), "scaler is "),
        (lambda c: c.pop("optimizer"), "holds no optimizer, so no training can go on from it"),
    ],
)
def test_a_checkpoint_of_something_else_is_a_line(copy, tiny_recipe, change, says):
    changed(copy, change)
    with pytest.raises(DataError, match=says) as error:
        fit(tiny_recipe(*OPTIONS), copy.path, resume=True)
    assert len(error.value.problems) == 1


def eight_bits(content):
    content["model"] = {name: value.to(torch.int8) for name, value in content["model"].items()}


def only_results(content):
    """As a calibration leaves them."""
    for name in set(content) - {"format", "model", "recipe", "categories", "train_sha256"}:
        del content[name]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(done=10**9), "says that 1000000000 steps are done"),
        (lambda c: c.update(evaluated=10**9), "1000000000 evaluated"),
        (lambda c: c.pop("optimizer"), "holds no optimizer"),
        (only_results, "holds no optimizer, scaler, done, best"),
        (lambda c: c["model"].update({"other": torch.zeros(1)}), "other has no place in the model"),
        (eight_bits, "whole numbers, the model has"),
        (lambda c: c["categories"]["names"].reverse(), "categories are not those of"),
        (lambda c: c.update(train_sha256="0" * 64), "is not the file the run was started with"),
        (lambda c: c["recipe"]["optim"].update(lr="high"), "optim.lr was 'high', is now 0.01"),
        (lambda c: c.update(recipe={}), "recipe is a dict; it must be a recipe"),
        (lambda c: c["recipe"].update(schedule=5), "recipe is a dict; it must be a recipe"),
    ],
)
def test_a_newest_checkpoint_of_something_else_gives_way_to_the_one_before(copy, tiny_recipe, finished, change, says):
    copy.best.unlink()
    content = load_checkpoint(copy.last)
    change(content)
    save_checkpoint(copy.last, content)
    fit(tiny_recipe(*OPTIONS), copy.path, resume=True)
    (warning,) = [line for line in copy.log.read_text().splitlines() if "the run goes on from" in line]
    assert f"warning: {copy.last}: " in warning
    assert says in warning
    assert warning.endswith("; the run goes on from previous.pt, the checkpoint of step 4")
    same_state(copy, finished)


def test_a_recipe_of_other_values_is_a_few_short_lines(copy, tiny_recipe):
    def change(content):
        content["recipe"].update({f"key{i}": "\n" * 5000 for i in range(100)}, method="x" * 100_000)

    changed(copy, change)
    with pytest.raises(RecipeError, match="key0 was .* is now None") as error:
        fit(tiny_recipe(*OPTIONS), copy.path, resume=True)
    assert error.value.problems[-2] == "--resume: and 91 keys more"
    assert len(error.value.problems) == 12
    assert max(map(len, error.value.problems)) < 250


def test_weights_of_another_detector_are_not_evaluated(copy, tiny_recipe):
    changed(copy, lambda c: c["model"].popitem())
    with pytest.raises(DataError, match="does not hold the weights of the run's model"):
        load_trained(copy, "last")


def test_the_same_through_the_command_line(copy, tiny_recipe, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(tiny_recipe(*OPTIONS).to_plain()))

    def run(*arguments):
        done = CliRunner().invoke(main, [*map(str, arguments)])
        assert not done.exception or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    flip(copy.last)
    code, said = run("eval", copy.path)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(f"error: {copy.last}: is damaged or cut short")
    code, said = run("fit", file, "--out", copy.path)
    assert (code, said.count("\n")) == (1, 1)
    assert "continue it with --resume" in said
    assert "--force" not in said
    with writing_run(copy.path):
        code, said = run("fit", file, "--out", copy.path, "--resume")
        assert (code, said.count("\n")) == (1, 1)
        assert said.startswith(f"error: {copy.path}: is being written by process {os.getpid()} on ")
    code, said = run("fit", file, "--out", copy.path, "--resume")
    assert code == 0
    assert "the run goes on from best.pt, the checkpoint of step 4" in said
    assert run("eval", copy.path)[0] == 0


# --- data that changes -----------------------------------------------------------------------------------------------


def with_copies(pool, folder):
    """Options for annotation files of one's own."""
    for part in ("train", "val"):
        shutil.copy(pool / "annotations.json", folder / f"{part}.json")
    return [f"data.{part}.annotations={folder / part}.json" for part in ("train", "val")]


def rewrite(path):
    """The same file with another box, as long as before."""
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [1.0, 1.0, 3.0, 3.0]
    text = json.dumps(content, separators=(",", ":"))
    size = path.stat().st_size
    assert len(text) <= size
    path.write_text(text.ljust(size))


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_run_goes_on_with_its_own_data_only(tiny_recipe, tiny_pool, tmp_path, part):
    recipe = tiny_recipe(*OPTIONS, *with_copies(tiny_pool, tmp_path))
    run = fit(recipe, tmp_path / "run")
    rewrite(tmp_path / f"{part}.json")
    with pytest.raises(DataError, match=rf"--resume: .*{part}\.json is not the file the run was started with"):
        fit(recipe, run.path, resume=True)


def in_step(monkeypatch, number, act):
    original, steps = stepping._change_weights, []

    def acting(*args, **options):
        steps.append(None)
        if len(steps) == number:
            act()
        return original(*args, **options)

    monkeypatch.setattr(stepping, "_change_weights", acting)


def cut(path):
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("change", [rewrite, cut])
def test_an_annotation_file_that_is_changed_meanwhile_is_noticed(
    tiny_recipe, tiny_pool, tmp_path, monkeypatch, part, change
):
    recipe = tiny_recipe(*OPTIONS, *with_copies(tiny_pool, tmp_path))
    path = tmp_path / f"{part}.json"
    monkeypatch.setattr(engine, "_save_every", lambda _: 1)
    in_step(monkeypatch, 2, lambda: change(path))
    with pytest.raises(DataError, match=rf"{part}\.json: was changed while the run read from it"):
        fit(recipe, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run/checkpoints/last.pt")["done"] == 1


def written_and_put_back(path):
    whole = path.read_bytes()
    rewrite(path)
    path.write_bytes(whole)


@pytest.mark.parametrize("change", [lambda path: os.utime(path, (1, 1)), written_and_put_back])
def test_a_file_that_holds_its_bytes_again_is_a_warning(tiny_recipe, tiny_pool, tmp_path, monkeypatch, change):
    recipe, path = tiny_recipe(*BLIND, *with_copies(tiny_pool, tmp_path)[:1]), tmp_path / "train.json"
    in_step(monkeypatch, 2, lambda: change(path))
    run = fit(recipe, tmp_path / "run")
    assert f"warning: {path}: was written to or touched while the run read from it" in run.log.read_text()


@pytest.mark.parametrize("how", ["touched", "replaced", "removed"])
def test_what_does_no_harm_stops_nothing(tiny_recipe, tiny_pool, tmp_path, monkeypatch, how, finished):
    recipe = tiny_recipe(*BLIND, *with_copies(tiny_pool, tmp_path)[:1])

    def act():
        path = tmp_path / "train.json"
        if how == "touched":
            os.utime(path, (1, 1))
        elif how == "removed":
            path.unlink()
        else:
            (tmp_path / "new").write_text("{}")
            os.replace(tmp_path / "new", path)

    in_step(monkeypatch, 2, act)
    run = fit(recipe, tmp_path / "run")
    assert losses(run) == losses(finished)
    assert ("was written to or touched" in run.log.read_text()) == (how == "touched")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_of_masks_that_is_cut_off_is_a_line(tiny_recipe, tiny_pool, tmp_path, monkeypatch, workers):
    """Not the end of the process that reads beyond the new end."""
    options = (*BLIND, "model.name=mask_rcnn_small", "schedule.iterations=100", f"data.workers={workers}")
    recipe = tiny_recipe(*options, *with_copies(tiny_pool, tmp_path)[:1])
    in_step(monkeypatch, 2, lambda: os.truncate(tmp_path / "train.json", 10))
    with pytest.raises(DataError, match=r"train\.json: was cut short while it was read"):
        fit(recipe, tmp_path / "run")


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "name"), [(0, "recipe.yaml"), (2300, "data.json"), (20_000, "checkpoints/last.pt")])
def test_a_disk_that_is_full_is_a_line_that_names_the_file(tiny_recipe, tmp_path, room, name):
    recipe = tiny_recipe(*BLIND)
    with files_take(room), pytest.raises(OutputError) as error:
        fit(recipe, tmp_path / "run")
    (line,) = error.value.problems
    assert line.startswith(f"{tmp_path}/run/{name}: cannot be written (File too large)")
    assert not list(tmp_path.rglob(".*"))
    # a start that came to nothing leaves nothing
    assert (tmp_path / "run").exists() == name.startswith("checkpoints")


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl"])
def test_logs_end_with_a_whole_line_on_a_full_disk(tmp_path, name):
    (tmp_path / name).write_text("x" * 998 + "\n")
    with files_take(1000), RunLog(RunDir(tmp_path), total=2, every=1) as log:
        add = {"train.log": lambda: log.line("a line"), "metrics.jsonl": lambda: log.record({"step": 1})}
        with pytest.raises(OutputError) as error:
            add[name]()
    (line,) = error.value.problems
    assert line.startswith(f"{tmp_path}/{name}: cannot be written (File too large); ")
    assert (tmp_path / name).read_text() == "x" * 998 + "\n"


# --- kills -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_kills_at_any_moment_and_the_same_command_again(tiny_recipe, tmp_path):
    """kill -9 after 0.2, 0.4, ... seconds of work; what comes out is the straight run."""
    recipe = tiny_recipe(*OPTIONS, "schedule.iterations=30", "eval.every=10")
    straight = fit(recipe, tmp_path / "straight")
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.to_plain()))
    out = tmp_path / "run"
    program = NARROW_CODE + "from cli.train import main\nmain()\n"
    command = [sys.executable, "-c", program, "fit", file, "--out", out, "--resume", "auto"]
    for kill in range(25):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        while process.poll() is None and not out.exists():
            time.sleep(0.01)
        time.sleep(0.2 * kill)
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
        assert "error" not in said, said
        assert "Traceback" not in said, said
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    same_state(RunDir(out), straight)
    assert losses(RunDir(out)) == losses(straight)
    assert not [path for path in out.rglob("*") if path.name.startswith(".") or path.name.endswith(".part")]
