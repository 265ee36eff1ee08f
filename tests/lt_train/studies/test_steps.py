"""Running a plan: what is done is left alone, what fails is named, what is stopped goes on."""

import os
import sys
import time
from functools import partial

import pytest

from lt_data.errors import DataError, OutputError
from lt_train.studies.costs import Cost, estimates
from lt_train.studies.steps import RECORD, Step, TimeIsOver, read_record, run_command, run_plan


def plan(out, *, extra=""):
    """A baseline, two that start from it, and one of its own."""
    needs = {"base": (), "first": ("base",), "second": ("first",), "alone": ()}
    return [
        Step(name, ("lt-train", "fit", f"--out={out / name}", *([extra] if extra else [])), out / name, of)
        for name, of in needs.items()
    ]


@pytest.fixture
def fake(tmp_path):
    """Stands for running commands: they make their product, unless they are told to fail or to be stopped."""

    class Fake:
        def __init__(self):
            self.begun, self.failing, self.stopped = [], {}, set()

        def __call__(self, words, log, left):
            name = words[2].rpartition("/")[2]
            self.begun.append(name)
            if name in self.stopped:
                raise TimeIsOver
            if name in self.failing:
                log.write_text("reading\nerror: no such file\nending\n")
                return 1
            (tmp_path / name).touch()
            return 0

        def run(self, steps=None, **how):
            self.begun.clear()
            return run_plan(steps or plan(tmp_path), tmp_path, call=self, **how)

    return Fake()


def test_a_failed_step_stops_those_that_need_it_alone_and_is_tried_again(fake, tmp_path):
    fake.failing = {"first": 1}
    told, after = [], []
    outcome = fake.run(tell=told.append, after=lambda step: after.append(step.name))
    assert fake.begun == ["base", "first", "alone"]
    assert after == ["base", "alone"]
    log = tmp_path / "logs" / "first.log"
    assert outcome.failed == {
        "first": f"error: no such file (exit code 1; all it printed: {log})",
        "second": "not begun: first failed",
    }
    assert not outcome.stopped
    assert told[0] == f"[1/4] base: lt-train fit --out={tmp_path / 'base'}"
    fake.failing = {}
    assert fake.run().failed == {}
    assert fake.begun == ["first", "second"]
    # one whose product is gone is made again
    (tmp_path / "second").unlink()
    fake.run()
    assert fake.begun == ["second"]


def test_what_is_stopped_is_begun_again_and_its_time_is_added(fake, tmp_path):
    fake.stopped = {"first"}
    assert fake.run().stopped
    assert fake.begun == ["base", "first"]
    assert not read_record(tmp_path)["first"].finished
    spent = read_record(tmp_path)["first"].seconds
    fake.stopped = set()
    assert not fake.run().stopped
    assert fake.begun == ["first", "second", "alone"]
    assert read_record(tmp_path)["first"].seconds > spent


def test_what_gathers_comes_after_what_failed_too_and_again_when_that_is_done(fake, tmp_path):
    of = ("first", "alone")
    steps = [*plan(tmp_path), Step("all", ("lt-train", "eval", f"{tmp_path / 'all'}"), tmp_path / "all", gathers=of)]
    fake.failing = {"first": 1}
    fake.run(steps)
    assert fake.begun == ["base", "first", "alone", "all"]
    fake.failing = {}
    assert fake.run(steps).failed == {}
    assert fake.begun == ["first", "second", "all"]
    fake.run(steps)
    assert fake.begun == []


def test_no_time_is_no_step(fake):
    assert fake.run(minutes=0).stopped
    assert fake.begun == []


def test_other_commands_are_not_mixed_in(fake, tmp_path):
    fake.run()
    with pytest.raises(OutputError) as caught:
        fake.run(plan(tmp_path, extra="seed=1"))
    assert len(caught.value.problems) == 4
    assert caught.value.problems[0] == (
        f"{tmp_path}: holds base of another command (it had other words or another order, it has seed=1 now); choose "
        "another --out"
    )
    # a folder that was moved holds the same
    steps = [Step(s.name, s.words, s.product, s.needs) for s in plan(tmp_path)]
    assert fake.run(steps).failed == {}
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(DataError, match=r"steps\.json: cannot be read"):
        fake.run()


def test_a_command_that_makes_nothing_has_failed(fake, tmp_path):
    step = Step("lost", ("lt-train", "fit", f"--out={tmp_path / 'lost'}"), tmp_path / "elsewhere")
    assert fake.run([step]).failed["lost"].startswith(f"ended well, and {tmp_path / 'elsewhere'} is not there")


def test_a_command_is_a_process_that_ends_when_its_time_is_over(tmp_path):
    code = (
        "import signal, sys, time\n"
        "def end(*_): print('saved'); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print(sys.argv[1:], flush=True)\n"
        "time.sleep(60 if sys.argv[1] == 'long' else 0)\n"
        "sys.exit(3)"
    )
    log = tmp_path / "log"
    run = partial(run_command, commands={"lt-train": (sys.executable, "-c", code)})
    assert run(("lt-train", "short"), log, None, processes=2) == 3
    assert log.read_text() == "['short', '--processes', '2']\n"
    begun = time.monotonic()
    with pytest.raises(TimeIsOver):
        run(("lt-train", "long"), log, 1.0)
    assert time.monotonic() - begun < 30
    assert log.read_text().splitlines()[-1] == "saved"
    assert os.path.getsize(log) < 100


def test_what_is_finished_says_how_long_the_rest_takes(fake, tmp_path):
    steps = [
        Step(name, ("lt-train", "fit", f"--out={tmp_path / name}"), tmp_path / name, cost=Cost(images))
        for name, images in {
            "one": (("train", 100), ("evaluate", 10)),
            "two": (("train", 200),),
            "other": (("make features", 50),),
        }.items()
    ]
    rates = {"train": 1.0, "evaluate": 2.0, "make features": 3.0}
    assert [(e.seconds, e.measured) for e in estimates(steps, {}, rates)] == [(125, False), (205, False), (155, False)]
    fake.run(steps[:1])
    seconds = read_record(tmp_path)["one"].seconds
    first, second, third = estimates(steps, read_record(tmp_path), rates)
    assert (first.measured, second.measured, third.measured) == (True, True, False)
    assert first.seconds == pytest.approx(seconds)
    assert second.seconds == pytest.approx(seconds * 205 / 125)
    assert third.seconds == 155
