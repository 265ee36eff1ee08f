"""Running a plan: what is done is left alone, what fails is named, what is stopped goes on."""

import sys
import time
from dataclasses import replace
from functools import partial

import pytest

from lt_data.errors import DataError, OutputError, RecipeError
from lt_train.studies.commands import THREADS, VISIBLE, Command, shares
from lt_train.studies.costs import Cost, estimates
from lt_train.studies.steps import RECORD, Step, read_record, run_plan
from tests.lt_train.commands import Ended


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

    class Interrupted(Ended):
        def poll(self):
            if self.code is None:
                raise KeyboardInterrupt
            return self.code

        def end(self):
            time.sleep(0.01)
            self.code = 75

    class Fake:
        def __init__(self):
            self.begun, self.failing, self.stopped = [], {}, set()

        def __call__(self, words, log, place):
            name = words[2].rpartition("/")[2]
            self.begun.append(name)
            if name in self.stopped:
                return Interrupted(None)
            if name in self.failing:
                log.write_text("reading\nerror: no such file\nending\n")
                return Ended(1)
            (tmp_path / name).touch()
            return Ended(0)

        def run(self, steps=None, **how):
            self.begun.clear()
            return run_plan(steps or plan(tmp_path), tmp_path, start=self, **how)

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


def test_what_is_there_for_others_may_be_removed_when_these_are_done(fake, tmp_path):
    """Features of a baseline, which are by far the largest."""
    base, first, second, alone = plan(tmp_path)
    steps = [base, replace(first, for_others=True), second, alone]
    assert fake.run(steps).failed == {}
    (tmp_path / "first").unlink()
    fake.run(steps)
    assert fake.begun == []
    # until one of them is left
    (tmp_path / "second").unlink()
    fake.run(steps)
    assert fake.begun == ["first", "second"]


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


class Slow:
    """A command that ends when the test says so."""

    processor_seconds = 1.5

    def __init__(self, product):
        self.product, self.code, self.asked = product, None, 0

    def finish(self):
        self.product.touch()
        self.code = 0

    def poll(self):
        return self.code

    def end(self):
        self.asked += 1
        self.code = 75

    def kill(self):
        pass


def test_steps_that_do_not_need_each_other_run_at_once(tmp_path):
    running, seen = {}, []

    def start(words, log, place):
        name = words[2].rpartition("/")[2]
        running[name] = Slow(tmp_path / name)
        seen.append((name, place))
        # base and alone are beside each other; what needs base begins when it has ended, in the place that is free
        if set(running) == {"base", "alone"}:
            running["base"].finish()
        if name in ("first", "second"):
            running[name].finish()
        if name == "second":
            running["alone"].finish()
        return running[name]

    outcome = run_plan(plan(tmp_path), tmp_path, start=start, jobs=2)
    assert outcome.failed == {}
    assert seen == [("base", 0), ("alone", 1), ("first", 0), ("second", 0)]
    known = read_record(tmp_path)
    assert all(known[name].finished and known[name].processor_seconds == 1.5 for name in running)


def test_all_that_run_are_asked_to_end_and_go_on(tmp_path):
    running = []

    def start(words, log, place):
        running.append(Slow(tmp_path / words[2].rpartition("/")[2]))
        return running[-1]

    assert run_plan(plan(tmp_path), tmp_path, start=start, jobs=3, minutes=0.003).stopped
    assert [slow.asked for slow in running] == [1, 1]
    known = read_record(tmp_path)
    assert {name: done.finished for name, done in known.items()} == {"base": False, "alone": False}
    assert known["base"].processor_seconds == 1.5


def test_what_fails_ends_nothing_beside_it(fake, tmp_path):
    fake.failing = {"base": 1}
    outcome = fake.run(jobs=2)
    assert fake.begun == ["base", "alone"]
    assert set(outcome.failed) == {"base", "first", "second"}
    assert read_record(tmp_path)["alone"].finished


CODE = """
import os, signal, sys, time
def end(*_):
    print("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, end)
print(sys.argv[1:], os.environ.get("PLACE"), flush=True)
while sys.argv[1] == "long":
    time.sleep(0.1)
sum(range(3_000_000))
sys.exit(3)
"""


def test_a_command_is_a_process_of_its_own(tmp_path):
    log = tmp_path / "log"
    start = partial(
        Command, commands={"lt-train": (sys.executable, "-c", CODE)}, environments=[{}, {"PLACE": "the second"}]
    )
    short = start(("lt-train", "short"), log, 1, processes=2)
    assert wait(short) == 3
    assert 0.01 < short.processor_seconds < 60
    assert log.read_text() == "['short', '--processes', '2'] the second\n"
    long = start(("lt-train", "long"), log, 0)
    while not log.read_text():
        time.sleep(0.01)
    assert long.poll() is None
    long.end()
    assert wait(long) == 75
    assert log.read_text().splitlines() == ["['long'] None", "saved"]
    killed = start(("lt-train", "long"), log, 0)
    killed.kill()
    assert killed.poll() == -9
    killed.end()


def wait(command):
    while (code := command.poll()) is None:
        time.sleep(0.01)
    return code


def test_each_job_has_its_share_of_the_machine(monkeypatch):
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.delenv(THREADS, raising=False)
    monkeypatch.setattr("lt_train.studies.commands.usable_cores", lambda: 8)
    assert shares(1, gpus=4) == [{}]
    assert shares(2, gpus=0) == [{THREADS: "4"}] * 2
    assert shares(2, 2, gpus=0) == [{THREADS: "2"}] * 2
    assert [share[VISIBLE] for share in shares(3, gpus=4)] == ["0", "1", "2"]
    assert [share[VISIBLE] for share in shares(3, gpus=2)] == ["0", "1", "0"]
    assert [share[VISIBLE] for share in shares(2, 2, gpus=4)] == ["0,1", "2,3"]
    with pytest.raises(RecipeError, match="--jobs 2 --processes 4: needs 8 GPUs, 4 are here; lower one of them"):
        shares(2, 4, gpus=4)
    monkeypatch.setenv(VISIBLE, "6,7")
    monkeypatch.setenv(THREADS, "1")
    assert shares(2) == [{VISIBLE: "6"}, {VISIBLE: "7"}]
    monkeypatch.setenv(VISIBLE, "-1")
    assert shares(2, 2) == [{}, {}]


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
