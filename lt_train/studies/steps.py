"""A plan, and running it: steps that are commands of lt-train and lt-data, each a process of its own.

A step is what a person would type. It is done when its command ended well and its product is there; what is done is
left alone, what was stopped goes on (``fit --resume auto``, ``cache``), what failed is tried again by the next call.
A step that fails is named at the end and stops only those that need it. Read :func:`run_plan` first.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from lt_data.errors import DataError, OutputError
from lt_data.files.writing import write_whole
from lt_train.studies.commands import Command, Running, Start
from lt_train.studies.costs import Cost

# a step may take so long for its last image and its checkpoint
GRACE: Final = 300.0
# seconds between two looks at the steps that run
_TICK: Final = 0.05
RECORD: Final = "steps.json"
LOGS: Final = "logs"
# the study's own folder, in what is kept of a command
_OUT: Final = "OUT"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: Of the step; no other one has it.
        words: The command, ``lt-data`` or ``lt-train`` first.
        product: What is there when it is done.
        needs: Names of steps that come before.
        cost: What it looks at, for estimates.
        whole: Whether the product appears whole or not at all, so that it is enough that it is there.
        gathers: Names of steps whose runs it looks at: it comes after them, whether they end well or not, and again
            when one of them is done later.
        for_others: Whether nobody but the steps that need it looks at the product: once these are done it may be
            removed, and is not made again.
    """

    name: str
    words: tuple[str, ...]
    product: Path
    needs: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)
    whole: bool = False
    gathers: tuple[str, ...] = ()
    for_others: bool = False

    @property
    def command(self) -> str:
        """As people type it."""
        return shlex.join(self.words)


class Done(msgspec.Struct, frozen=True):
    """What is known of a step that was begun.

    Attributes:
        command: Its words, the study's folder as ``OUT``.
        seconds: Wall time of all calls that it took.
        processor_seconds: Likewise, of its processes.
        finished: Whether it ended well.
    """

    command: list[str]
    seconds: float = 0.0
    processor_seconds: float = 0.0
    finished: bool = False


class _Record(msgspec.Struct):
    steps: dict[str, Done]
    schema: int = 1


@dataclass(frozen=True)
class Outcome:
    """How far a plan came.

    Attributes:
        failed: Why a step failed or was not begun, by its name.
        stopped: Whether somebody asked for the end, or the minutes were over, before everything was done.
    """

    failed: Mapping[str, str]
    stopped: bool


def run_plan(
    steps: Sequence[Step],
    out: Path,
    *,
    minutes: float | None = None,
    start: Start | None = None,
    jobs: int = 1,
    tell: Tell = lambda line: None,
    after: Callable[[Step], None] = lambda step: None,
) -> Outcome:
    """Runs what is not done yet, in the order of the plan; several at once where nothing needs the other.

    Args:
        steps: Each after those that it needs.
        out: The study's folder.
        minutes: After which no step goes on; without end unless given.
        start: How to start a command; :class:`~lt_train.studies.commands.Command` unless given.
        jobs: How many steps may run at once.
        tell: Gets lines for people.
        after: Called when a step has just ended well.

    Raises:
        OutputError: ``out`` holds a step of the same name that another command made.
    """
    check_same_commands(steps, out)
    plan = _Plan(steps, out, start or Command, jobs, tell)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    try:
        while plan.goes_on():
            if deadline is not None and time.monotonic() >= deadline:
                plan.end()
                return Outcome(plan.failed, stopped=True)
            plan.begin()
            for step in plan.ended():
                after(step)
            plan.pause()
    except KeyboardInterrupt:
        plan.end()
        return Outcome(plan.failed, stopped=True)
    except BaseException:
        plan.kill()
        raise
    return Outcome(plan.failed, stopped=False)


@dataclass(frozen=True)
class _Begun:
    """A step that runs.

    Attributes:
        step: Which.
        running: Its command.
        known: What was known of it before.
        since: Clock when it was started.
        log: What it prints.
    """

    step: Step
    running: Running
    known: Done
    since: float
    log: Path


class _Plan:
    """What is left of a plan, what runs, and what failed."""

    def __init__(self, steps: Sequence[Step], out: Path, start: Start, jobs: int, tell: Tell) -> None:
        self._out, self._start, self._tell = out, start, tell
        self._numbers = {step.name: number for number, step in enumerate(steps, start=1)}
        self._left = left_steps(steps, out)
        # by place: what runs beside each other is given different GPUs
        self._begun: dict[int, _Begun] = {}
        self._places = range(jobs)
        self.failed: dict[str, str] = {}

    def goes_on(self) -> bool:
        """Whether anything runs or is left."""
        return bool(self._left or self._begun)

    def begin(self) -> None:
        """Starts what nothing stands in the way of, as long as there is a place."""
        for place in self._places:
            if place not in self._begun and (step := self._next()) is not None:
                self._begun[place] = self._begin(step, place)

    def _next(self) -> Step | None:
        """The first step whose needs are met; those that need what failed are left out on the way."""
        for step in list(self._left):
            if lacking := [name for name in step.needs if name in self.failed]:
                self.failed[step.name] = f"not begun: {lacking[0]} failed"
                self._left.remove(step)
        waited_for = {step.name for step in self._left} | {begun.step.name for begun in self._begun.values()}
        found = next((step for step in self._left if not waited_for & {*step.needs, *step.gathers}), None)
        if found is not None:
            self._left.remove(found)
        return found

    def _begin(self, step: Step, place: int) -> _Begun:
        self._tell(f"[{self._numbers[step.name]}/{len(self._numbers)}] {step.name}: {step.command}")
        log = self._out / LOGS / f"{step.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        known = read_record(self._out).get(step.name, Done(_kept_words(step, self._out)))
        # before anything: what is killed from outside was begun by this command too
        _note(self._out, step.name, msgspec.structs.replace(known, finished=False))
        since = time.monotonic()
        return _Begun(step, self._start(step.words, log, place), known, since, log)

    def ended(self) -> list[Step]:
        """Takes out the steps that have ended; those that ended well."""
        well = []
        for place, begun in list(self._begun.items()):
            code = begun.running.poll()
            if code is None:
                continue
            del self._begun[place]
            if not self._close(begun, code):
                reason = _why(begun, code)
                self.failed[begun.step.name] = reason
                self._tell(f"{begun.step.name}: {reason}")
            else:
                self._tell(f"{begun.step.name}: done in {read_record(self._out)[begun.step.name].seconds:,.0f} s")
                well.append(begun.step)
        return well

    def _close(self, begun: _Begun, code: int | None) -> bool:
        """Notes what a step took, and whether it ended well."""
        known, step = begun.known, begun.step
        wall, processor = time.monotonic() - begun.since, begun.running.processor_seconds
        finished = code == 0 and step.product.exists()
        times = (known.seconds + wall, known.processor_seconds + processor)
        _note(self._out, step.name, Done(known.command, *times, finished))
        return finished

    def pause(self) -> None:
        """Waits a moment where every place is taken, or nothing can begin before something ends."""
        if self._begun:
            time.sleep(_TICK)

    def end(self) -> None:
        """Asks what runs to save and to end, and waits for it; a second interrupt ends it at once."""
        try:
            for begun in self._begun.values():
                begun.running.end()
            last = time.monotonic() + GRACE
            while time.monotonic() < last and any(b.running.poll() is None for b in self._begun.values()):
                time.sleep(_TICK)
        except KeyboardInterrupt:
            pass
        self.kill()
        for begun in self._begun.values():
            self._close(begun, begun.running.poll())

    def kill(self) -> None:
        """Ends what runs at once."""
        for begun in self._begun.values():
            begun.running.kill()


def is_done(step: Step, out: Path) -> bool:
    """Whether a step ended well and what it made is still there."""
    known = read_record(out).get(step.name)
    return known is not None and (known.finished or step.whole) and step.product.exists()


def left_steps(steps: Sequence[Step], out: Path) -> list[Step]:
    """The steps that are not done, and those that gather from one of them; not what no such step needs any more.

    Args:
        steps: Each after those that it needs or gathers from.
        out: The study's folder.
    """
    left: dict[str, Step] = {}
    for step in steps:
        if not is_done(step, out) or not left.keys().isdisjoint(step.gathers):
            left[step.name] = step
    needed = {name for step in left.values() for name in step.needs}
    return [step for step in left.values() if step.name in needed or not step.for_others]


def read_record(out: Path) -> dict[str, Done]:
    """What is known of the steps of a study, by name; nothing where none was begun.

    Raises:
        DataError: The file cannot be read.
    """
    path = out / RECORD
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Record).steps
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{path}: cannot be read ({error}); put it back, or choose another --out") from None


def check_same_commands(steps: Sequence[Step], out: Path) -> None:
    """Refuses to go on with runs that other commands began.

    Raises:
        OutputError: A line for each.
    """
    known = read_record(out)
    problems = []
    for step in steps:
        was, now = known.get(step.name), _kept_words(step, out)
        if was is not None and was.command != now:
            differ = [word for word in was.command if word not in now], [w for w in now if w not in was.command]
            old, new = (shlex.join(words) or "other words or another order" for words in differ)
            problems.append(
                f"{out}: holds {step.name} of another command (it had {old}, it has {new} now); choose another --out"
            )
    if problems:
        raise OutputError(problems)


def _kept_words(step: Step, out: Path) -> list[str]:
    return [word.replace(str(out), _OUT) for word in step.words]


def _note(out: Path, name: str, done: Done) -> None:
    content = msgspec.json.format(msgspec.json.encode(_Record({**read_record(out), name: done})))
    write_whole(out / RECORD, content, make_folder=True)


def _why(begun: _Begun, code: int) -> str:
    """Why a step did not end well."""
    if code == 0:
        return f"ended well, and {begun.step.product} is not there; see {begun.log}"
    return f"{_last_words(begun.log)} (exit code {code}; all it printed: {begun.log})"


def _last_words(log: Path) -> str:
    """The last error that a command printed, or its last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["it printed nothing"])[-1]
