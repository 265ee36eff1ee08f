"""Trackers: what they are told, and that nothing is written when one cannot be used."""

import json
import sys
import threading
from types import SimpleNamespace
from typing import get_args

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lt_data.errors import LtError, OutputError, RecipeError
from lt_data.versions import install_command
from lt_train.engine.fit import fit
from lt_train.recipe.origins import Setting
from lt_train.recipe.sections import TrackerName
from lt_train.runs.checkpoint import load_checkpoint
from lt_train.runs.trackers import TRACKERS, make_trackers
from lt_train.trials.dry_run import dry_run
from tests.lt_train.engine.stepping import interrupt_in_step
from tests.lt_train.full_disk import files_take


class FakeWandb:
    """Stands in for the client; notes every call."""

    Error = type("Error", (Exception,), {})

    def __init__(self, fails=""):
        self.fails = fails
        self.started, self.logged, self.exits = [], [], []

    def init(self, **options):
        if self.fails:
            raise self.Error(self.fails)
        self.started.append(options)
        return SimpleNamespace(
            log=lambda values, step: self.logged.append((step, values)),
            finish=lambda exit_code: self.exits.append(exit_code),
        )


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def step_records(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def test_names_in_a_recipe_are_those_of_the_registry():
    assert get_args(TrackerName) == tuple(TRACKERS)


def test_trackers_come_in_the_order_of_the_recipe(wandb):
    names = [type(tracker).__name__ for tracker in make_trackers(("wandb", "tensorboard"))]
    assert names == ["WandbTracker", "TensorBoardTracker"]
    assert make_trackers(()) == ()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trackers=[mlflow]", "trackers.0: got 'mlflow'; allowed are 'tensorboard' or 'wandb'"),
        ("trackers=[wandb,wandb]", "trackers: got ['wandb', 'wandb']; each may be named once"),
        ("trackers=null", "trackers: got None"),
    ],
)
def test_mistakes_are_one_line(tiny_recipe, override, says):
    with pytest.raises(RecipeError) as error:
        tiny_recipe(override)
    (line,) = error.value.problems
    assert says in line


def test_one_name_is_a_list(tiny_recipe):
    assert tiny_recipe("trackers=wandb").trackers == ("wandb",)
    assert tiny_recipe("trackers=[]").trackers == ()
    assert tiny_recipe().to_plain()["trackers"] == ["tensorboard"]


def test_tensorboard_by_itself(tiny_recipe, tmp_path):
    run = fit(tiny_recipe(), tmp_path / "run")
    board = EventAccumulator(str(run.path / "tensorboard")).Reload()
    records = [record for record in step_records(run) if "loss" in record]
    numbers = set(records[0]) - {"step", "epoch", "time"}
    assert set(board.Tags()["scalars"]) == numbers | {"eval/bbox_AP", "eval/segm_AP"}
    for name in numbers:
        events = board.Scalars(name)
        assert [event.step for event in events] == [1, 2, 3]
        assert [event.value for event in events] == pytest.approx([record[name] for record in records])


def test_tensorboard_on_a_full_disk_is_a_line(tmp_path, capfd):
    """The thread that writes is not the one that finds out; it prints no traceback of its own."""
    (tracker,) = make_trackers(["tensorboard"])
    hook = threading.excepthook
    tracker.start(tmp_path, {})

    def log():
        for step in range(100_000):
            tracker.log(step, {"loss": 1.0})

    try:
        with files_take(300), pytest.raises(OutputError) as error:
            log()
    finally:
        tracker.close(failed=True)
    assert str(error.value).startswith(f"{tmp_path}/tensorboard: cannot be written (File too large); make room")
    assert capfd.readouterr().err == ""
    assert threading.excepthook is hook


def test_no_tracker(tiny_recipe, tmp_path):
    run = fit(tiny_recipe("trackers=[]", "data.val=null", "schedule.iterations=1"), tmp_path / "run")
    assert not (run.path / "tensorboard").exists()
    assert len(step_records(run)) == 1


def test_wandb_gets_recipe_and_numbers(tiny_recipe, tmp_path, wandb):
    recipe = tiny_recipe("trackers=wandb", "log_every=2")
    run = fit(recipe, tmp_path / "run")
    assert wandb.started == [
        {"name": "run", "dir": str(run.path), "config": recipe.to_plain(), "resume": "auto"},
    ]
    told = [{"step": step, **values} for step, values in wandb.logged]
    written = [{k: v for k, v in record.items() if k not in ("epoch", "time")} for record in step_records(run)]
    assert told == written
    assert [step for step, _ in wandb.logged] == [1, 2, 3, 3, 3]
    assert wandb.exits == [0]
    assert not (run.path / "tensorboard").exists()


@pytest.fixture
def go_on(monkeypatch):
    """Ctrl-C in the first step; a function that takes it away."""
    return interrupt_in_step(monkeypatch, 1)


def test_wandb_knows_when_a_run_was_cut_off(tiny_recipe, tmp_path, wandb, go_on):
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_recipe("trackers=wandb"), tmp_path / "run")
    assert wandb.exits == [1]


def test_a_run_may_go_on_with_another_tracker(tiny_recipe, tmp_path, wandb, go_on):
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_recipe("data.val=null"), tmp_path / "run")
    go_on()
    run = fit(tiny_recipe("data.val=null", "trackers=wandb"), tmp_path / "run", resume=True)
    assert [step for step, _ in wandb.logged] == [2, 3]
    board = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("loss")] == [1]
    assert [record["step"] for record in step_records(run)] == [1, 2, 3]


def test_points_behind_the_checkpoint_are_drawn_once(tiny_recipe, tmp_path, monkeypatch):
    """A hard stop after step 3 goes back to the checkpoint of step 2."""
    recipe = tiny_recipe("data.val=null", "schedule.iterations=4", "schedule.decay=[]")
    straight = fit(recipe, tmp_path / "run")
    content = load_checkpoint(straight.last)

    def killed(*args, **options):
        raise OSError("power failure")

    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run", force=True)
    go_on()
    with monkeypatch.context() as patch:
        patch.setattr("lt_train.engine.fit.save_checkpoint", killed)
        with pytest.raises(OSError, match="power failure"):
            fit(recipe, tmp_path / "run", resume=True)
    run = fit(recipe, tmp_path / "run", resume=True)
    board = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("loss")] == [1, 2, 3, 4]
    assert load_checkpoint(run.last)["done"] == content["done"]


def test_what_wandb_writes_does_not_keep_a_run_from_being_replaced(tiny_recipe, tmp_path, wandb):
    options = ("trackers=wandb", "data.val=null", "schedule.iterations=1")
    run = fit(tiny_recipe(*options), tmp_path / "run")
    (run.path / "wandb").mkdir()
    fit(tiny_recipe(*options), run.path, force=True)
    assert not (run.path / "wandb").exists()


@pytest.mark.parametrize(
    ("module", "tracker", "extra"),
    [("wandb", "wandb", "wandb"), ("torch.utils.tensorboard", "tensorboard", "train")],
)
def test_a_tracker_that_is_not_installed(tiny_recipe, tmp_path, monkeypatch, module, tracker, extra):
    monkeypatch.setitem(sys.modules, module, None)
    recipe = tiny_recipe(f"trackers={tracker}")
    for start in (lambda: fit(recipe, tmp_path / "run"), lambda: list(dry_run(recipe, (Setting("a", 1, "default"),)))):
        with pytest.raises(RecipeError) as error:
            start()
        (line,) = error.value.problems
        assert line.startswith(f"trackers: '{tracker}' cannot be imported here")
        assert f"run: {install_command(extra)}, or take it out" in line
        assert "\n" not in line
    assert list(tmp_path.iterdir()) == []


def test_wandb_that_cannot_start_is_one_line(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(fails="no API key\nconfigured"))
    with pytest.raises(LtError) as error:
        fit(tiny_recipe("trackers=wandb"), tmp_path / "run")
    (line,) = error.value.problems
    assert "'wandb' cannot start (no API key configured); run wandb login, set WANDB_MODE=offline" in line
