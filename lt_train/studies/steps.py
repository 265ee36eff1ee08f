"""A plan, and running it: steps that are commands of lt-train and lt-data, each a process of its own.

A step is what a person would type. It is done when its command ended well and its product is there; what is done is
left alone, what was stopped goes on (``fit --resume auto``, ``cache``), what failed is tried again by the next call.
A step that fails is named at the end and stops only those that need it. Read :func:`run_plan` first.
"""

from __future__ import annotations

import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from lt_data.errors import DataError, OutputError
from lt_data.files.writing import write_whole
from lt_train.studies.costs import Cost

# a step may take so long for its last image and its checkpoint
GRACE: Final = 300.0
RECORD: Final = "steps.json"
LOGS: Final = "logs"
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    name: (sys.executable, "-m", f"lt_cli.{name.removeprefix('lt-')}") for name in ("lt-data", "lt-train")
}
# the study's own folder, in what is kept of a command
_OUT: Final = "OUT"

Tell = Callable[[str], None]
# runs the words of a command with a file for what it prints and the seconds that are left; gives its exit code
Call = Callable[[Sequence[str], Path, float | None], int]


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
    """

    name: str
    words: tuple[str, ...]
    product: Path
    needs: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)
    whole: bool = False
    gathers: tuple[str, ...] = ()

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


class TimeIsOver(Exception):
    """Somebody asked for the end, or the minutes are over; what was begun can go on."""


def run_plan(
    steps: Sequence[Step],
    out: Path,
    *,
    minutes: float | None = None,
    call: Call | None = None,
    tell: Tell = lambda line: None,
    after: Callable[[Step], None] = lambda step: None,
) -> Outcome:
    """Runs what is not done yet, one step after the other.

    Args:
        steps: Each after those that it needs.
        out: The study's folder.
        minutes: After which no step goes on; without end unless given.
        call: How to run a command; :func:`run_command` unless given.
        tell: Gets lines for people.
        after: Called when a step has just ended well.

    Raises:
        OutputError: ``out`` holds a step of the same name that another command made.
    """
    check_same_commands(steps, out)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    failed: dict[str, str] = {}
    left_ones = {step.name for step in left_steps(steps, out)}
    for number, step in enumerate(steps, start=1):
        if step.name not in left_ones:
            continue
        if lacking := [name for name in step.needs if name in failed]:
            failed[step.name] = f"not begun: {lacking[0]} failed"
            continue
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return Outcome(failed, stopped=True)
        tell(f"[{number}/{len(steps)}] {step.name}: {step.command}")
        try:
            reason = _run(step, out, left, call or run_command)
        except (TimeIsOver, KeyboardInterrupt):
            return Outcome(failed, stopped=True)
        if reason:
            failed[step.name] = reason
            tell(f"{step.name}: {reason}")
        else:
            tell(f"{step.name}: done in {read_record(out)[step.name].seconds:,.0f} s")
            after(step)
    return Outcome(failed, stopped=False)


def is_done(step: Step, out: Path) -> bool:
    """Whether a step ended well and what it made is still there."""
    known = read_record(out).get(step.name)
    return known is not None and (known.finished or step.whole) and step.product.exists()


def left_steps(steps: Sequence[Step], out: Path) -> list[Step]:
    """The steps that are not done, and those that gather from one of them.

    Args:
        steps: Each after those that it needs or gathers from.
        out: The study's folder.
    """
    left: dict[str, Step] = {}
    for step in steps:
        if not is_done(step, out) or not left.keys().isdisjoint(step.gathers):
            left[step.name] = step
    return [*left.values()]


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


def _run(step: Step, out: Path, left: float | None, call: Call) -> str:
    """Runs a step; what it said last if it failed, else an empty text.

    Raises:
        TimeIsOver: It was stopped.
    """
    log = out / LOGS / f"{step.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    known = read_record(out).get(step.name, Done(_kept_words(step, out)))
    # before anything: what is killed from outside was begun by this command too
    _note(out, step.name, msgspec.structs.replace(known, finished=False))
    begun, before = time.monotonic(), _processor_time()
    code: int | None = None
    try:
        code = call(step.words, log, left)
    finally:
        wall, processor = time.monotonic() - begun, _processor_time() - before
        finished = code == 0 and step.product.exists()
        _note(
            out,
            step.name,
            Done(known.command, known.seconds + wall, known.processor_seconds + processor, finished),
        )
    if code == 0:
        return "" if finished else f"ended well, and {step.product} is not there; see {log}"
    return f"{_last_words(log)} (exit code {code}; all it printed: {log})"


def _note(out: Path, name: str, done: Done) -> None:
    content = msgspec.json.format(msgspec.json.encode(_Record({**read_record(out), name: done})))
    write_whole(out / RECORD, content, make_folder=True)


def _last_words(log: Path) -> str:
    """The last error that a command printed, or its last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["it printed nothing"])[-1]


def run_command(
    words: Sequence[str],
    log: Path,
    left: float | None,
    *,
    commands: Mapping[str, Sequence[str]] = COMMANDS,
    processes: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs a command as a process of its own, which is asked to end when the time is over or this process has to.

    Args:
        words: ``lt-data`` or ``lt-train`` first.
        log: Gets what it prints, instead of what an earlier call printed.
        left: Seconds that it may take.
        commands: What the first word stands for.
        processes: Among how many a command of lt-train shares its work; one unless given.
        environment: Of the process; this one's unless given.

    Returns:
        Its exit code.

    Raises:
        TimeIsOver: It was asked to end.
    """
    shared = ("--processes", str(processes)) if processes and words[0] == "lt-train" else ()
    with log.open("wb") as printed:
        process = subprocess.Popen(
            [*commands[words[0]], *words[1:], *shared],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=environment,
            # it is told of an end once, by this process
            start_new_session=True,
        )
        try:
            return process.wait(left)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            _end(process)
            raise TimeIsOver from None
        except BaseException:
            _kill(process)
            raise


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and whatever it started at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _processor_time() -> float:
    """Seconds of the processes that ended, those that they started included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
