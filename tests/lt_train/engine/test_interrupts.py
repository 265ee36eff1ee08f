"""Runs that are asked to end: what is saved is the state after a step, and what was missed is made up for."""

import json
import os
import signal
import threading

import pytest
import torch

import lt_train.engine.fit as engine
from lt_data.errors import OutputError
from lt_train.engine import interrupts
from lt_train.engine.fit import fit
from lt_train.engine.interrupts import Interrupted, Interrupts
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint
from lt_train.runs.directory import write_text
from tests.lt_train.engine.stepping import assert_same, interrupt_in_step
from tests.lt_train.full_disk import files_take
from tests.lt_train.runs.checkpoints import content

FOUR = ("schedule.iterations=4", "schedule.decay=[]", "trackers=[]")
NO_EVALUATION = (*FOUR, "data.val=null")
EVALUATED = (*FOUR, "model.name=faster_rcnn_small", "eval.every=2")


@pytest.fixture
def straight_run(tiny_recipe, _module_cache, tmp_path_factory):
    """A run that nothing interrupts, by the options of its recipe."""

    def get(*options):
        if options not in _module_cache:
            _module_cache[options] = fit(tiny_recipe(*options), tmp_path_factory.mktemp("runs") / "straight")
        return _module_cache[options]

    return get


def last(path):
    return load_checkpoint(path / "checkpoints/last.pt")


def records(run):
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    clocks = ("time", "images_per_second", "data_wait", "memory_gib")
    return [{key: value for key, value in line.items() if key not in clocks} for line in lines]


def same_runs(got, wanted):
    """Everything but clocks."""
    for which in ("last", "best") if wanted.best.exists() else ("last",):
        a, b = (load_checkpoint(run.checkpoint(which)) for run in (got, wanted))
        assert_same(a["model"], b["model"])
        momentum = [{i: s["momentum_buffer"] for i, s in c["optimizer"]["state"].items()} for c in (a, b)]
        assert_same(*momentum)
        assert [a[key] for key in ("done", "best", "evaluated")] == [b[key] for key in ("done", "best", "evaluated")]
    assert records(got) == records(wanted)
    for name in ("metrics.json", "predictions.json") if wanted.evaluation.exists() else ():
        assert (got.evaluation / name).read_bytes() == (wanted.evaluation / name).read_bytes()


@pytest.mark.parametrize(("number", "signals"), [(1, 1), (4, 3)])
def test_signals_in_a_step_wait_for_its_end(tiny_recipe, straight_run, tmp_path, monkeypatch, number, signals):
    """Several at once are one: a launcher sends what the whole group of processes got from the terminal."""
    recipe = tiny_recipe(*NO_EVALUATION)
    straight, until = straight_run(*NO_EVALUATION), straight_run(*NO_EVALUATION, f"schedule.iterations={number}")
    go_on = interrupt_in_step(monkeypatch, number, times=signals)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(
        Interrupted, match=f"after step {number} of 4; continue with --resume, from the .* step {number}"
    ):
        fit(recipe, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before
    go_on()
    assert last(tmp_path / "run")["done"] == number
    assert_same(last(tmp_path / "run")["model"], load_checkpoint(until.last)["model"])
    log = (tmp_path / "run/train.log").read_text()
    assert log.endswith(f"stopped: Interrupted: after step {number} of 4; continue with --resume, from the checkpoint "
                        f"of step {number}\n")  # fmt: skip
    same_runs(fit(recipe, tmp_path / "run", resume=True), straight)


def test_a_second_signal_acts_at_once_and_keeps_the_older_checkpoint(tiny_recipe, straight_run, tmp_path, monkeypatch):
    recipe = tiny_recipe(*NO_EVALUATION)
    straight = straight_run(*NO_EVALUATION)
    monkeypatch.setattr(engine, "_save_every", lambda _: 2)
    monkeypatch.setattr(interrupts, "AS_ONE", -1.0)
    go_on = interrupt_in_step(monkeypatch, 4, times=2)
    with pytest.raises(Interrupted, match="after step 3 of 4; continue .* from the checkpoint of step 2"):
        fit(recipe, tmp_path / "run")
    go_on()
    assert last(tmp_path / "run")["done"] == 2
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["last.pt"]
    same_runs(fit(recipe, tmp_path / "run", resume=True), straight)


def test_without_a_checkpoint_there_is_nothing_to_continue(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(interrupts, "AS_ONE", -1.0)
    interrupt_in_step(monkeypatch, 1, times=2)
    with pytest.raises(KeyboardInterrupt) as error:
        fit(tiny_recipe(*NO_EVALUATION), tmp_path / "run")
    assert not isinstance(error.value, Interrupted)
    log = (tmp_path / "run/train.log").read_text()
    assert log.endswith("stopped: KeyboardInterrupt: before the first checkpoint; start again with --force\n")


def test_a_signal_while_a_checkpoint_is_written_leaves_no_part_of_it(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    save_checkpoint(tmp_path / "last.pt", content(done=1))
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "last.pt", content(done=2))
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    assert load_checkpoint(tmp_path / "last.pt")["done"] == 1


def test_a_full_disk_leaves_the_old_files_and_says_which_could_not_be_written(tmp_path):
    """A file of a run takes at most 8192 bytes here."""
    save_checkpoint(tmp_path / "last.pt", content(done=1))
    write_text(tmp_path / "metrics.jsonl", "{}\n")
    with files_take(8192):
        with pytest.raises(OutputError, match=r"last\.pt: cannot be written \(File too large\)"):
            save_checkpoint(tmp_path / "last.pt", {"weights": torch.zeros(10**6)})
        with pytest.raises(OutputError, match=r"metrics\.jsonl: cannot be written \(File too large\)"):
            write_text(tmp_path / "metrics.jsonl", "{}\n" * 5000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "metrics.jsonl"]
    assert load_checkpoint(tmp_path / "last.pt")["done"] == 1
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"


def interrupt_evaluation(monkeypatch, number, *, when):
    """Ctrl-C before or after the work of an evaluation, counted from 1; a function that takes it away."""
    original, seen = engine.evaluate_model, []

    def interrupted(*args, **options):
        seen.append(None)
        if len(seen) == number and when == "before":
            os.kill(os.getpid(), signal.SIGINT)
        measured = original(*args, **options)
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGINT)
        return measured

    monkeypatch.setattr(engine, "evaluate_model", interrupted)
    return lambda: monkeypatch.setattr(engine, "evaluate_model", original)


@pytest.mark.parametrize(
    ("number", "done", "when"),
    [(1, 2, "before"), (1, 2, "after"), pytest.param(2, 4, "before", marks=pytest.mark.slow)],
)
def test_an_evaluation_that_was_interrupted_is_made_up_for(
    tiny_recipe, straight_run, tmp_path, monkeypatch, number, done, when
):
    recipe, straight = tiny_recipe(*EVALUATED), straight_run(*EVALUATED)
    go_on = interrupt_evaluation(monkeypatch, number, when=when)
    with pytest.raises(Interrupted, match=f"after step {done} of 4"):
        fit(recipe, tmp_path / "run")
    go_on()
    assert (last(tmp_path / "run")["done"], last(tmp_path / "run")["evaluated"]) == (done, done - 2)
    same_runs(fit(recipe, tmp_path / "run", resume=True), straight)


def test_an_evaluation_that_no_checkpoint_knows_is_recorded_once(tiny_recipe, straight_run, tmp_path, monkeypatch):
    """A hard stop after its numbers were written and before the checkpoint was."""
    recipe, straight = tiny_recipe(*EVALUATED), straight_run(*EVALUATED)

    def killed(*_, **__):
        raise OSError("power failure")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "selected_figure", killed)
        with pytest.raises(OSError, match="power failure"):
            fit(recipe, tmp_path / "run")
    same_runs(fit(recipe, tmp_path / "run", resume=True), straight)


def make_older(path):
    """Versions before did not note in a checkpoint what was evaluated."""
    content = load_checkpoint(path)
    del content["evaluated"]
    save_checkpoint(path, content)


def test_older_checkpoints_count_as_evaluated_where_their_metrics_are(tiny_recipe, tmp_path, monkeypatch):
    recipe = tiny_recipe(*EVALUATED)
    run = fit(recipe, tmp_path / "run")
    make_older(run.last)
    monkeypatch.setattr(engine, "evaluate_model", None)
    fit(recipe, run.path, resume=True)
    assert len(records(run)) == 6


def test_older_checkpoints_are_evaluated_where_they_were_stopped(tiny_recipe, straight_run, tmp_path, monkeypatch):
    recipe, straight = tiny_recipe(*EVALUATED), straight_run(*EVALUATED)
    go_on = interrupt_evaluation(monkeypatch, 2, when="before")
    with pytest.raises(Interrupted):
        fit(recipe, tmp_path / "run")
    go_on()
    make_older(tmp_path / "run" / "checkpoints" / "last.pt")
    same_runs(fit(recipe, tmp_path / "run", resume=True), straight)


def test_fit_in_a_thread(tiny_recipe, tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(tiny_recipe(*NO_EVALUATION), tmp_path / "run")))
    thread.start()
    thread.join()
    assert load_checkpoint(found[0].last)["done"] == 4


class Asked(KeyboardInterrupt):
    pass


@pytest.fixture
def handler():
    """A handler of SIGTERM that notes its calls and raises."""
    calls = []

    def stop(number, frame):
        calls.append(number)
        raise Asked

    before = signal.signal(signal.SIGTERM, stop)
    yield stop, calls
    signal.signal(signal.SIGTERM, before)


def test_a_signal_acts_by_the_handler_that_was_there(handler):
    stop, calls = handler
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        assert (interrupts.waiting, calls) == (True, [])
        with pytest.raises(Asked):
            interrupts.deliver()
        assert (interrupts.waiting, calls) == (False, [signal.SIGTERM])
    assert signal.getsignal(signal.SIGTERM) is stop


def ask(times, *, leave=False, at_once=False):
    """Signals to the process while interrupts are entered, and then what lets them act."""
    with Interrupts() as interrupts:
        if at_once:
            with interrupts.at_once():
                os.kill(os.getpid(), signal.SIGTERM)
                pytest.fail("it waited")
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGTERM)
        if not leave:
            with interrupts.at_once():
                pytest.fail("it waited")


@pytest.mark.parametrize("options", [{"times": 1}, {"times": 2}, {"times": 1, "leave": True}])
def test_no_signal_is_lost(handler, options):
    with pytest.raises(Asked):
        ask(**options)
    assert len(handler[1]) == 1


def test_in_an_evaluation_a_signal_acts_at_once(handler):
    with pytest.raises(Asked):
        ask(0, at_once=True)


def test_signals_without_a_handler_are_left_alone():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert not interrupts.waiting
    finally:
        signal.signal(signal.SIGHUP, before)
