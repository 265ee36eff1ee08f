"""Runs of many methods and seeds: in which order, by which commands, and within which time.

A run is what ``lt-train fit`` or ``lt-train calibrate`` writes, started as a process of its own. One that is stopped
goes on where it was; one whose figures are recorded is left alone.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from lt_data.files.writing import write_json, write_whole
from lt_train.recipe.methods import METHODS, POST_HOC

ROOT = Path(__file__).resolve().parents[2]
BASELINE = "softmax"
# a run may take so long for its last step and its checkpoint
GRACE = 300.0


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        name: Of the row and of the run's folder.
        method: A key of ``METHODS``.
        overrides: ``dotted.key=value`` texts beside the method.
        start: The row whose run it starts from; empty where it starts from the recipe's weights.
    """

    name: str
    method: str
    overrides: tuple[str, ...] = ()
    start: str = ""

    @property
    def how(self) -> str:
        """What is different from the baseline, in one line."""
        words = (f"method={self.method}", *self.overrides, *([f"from {self.start}"] if self.start else []))
        return " ".join(words)


def entry_of(method: str) -> Entry:
    """The row of a method as it is."""
    if not METHODS[method].starts_from_run:
        return Entry(method, method)
    # what tunes a classifier further names the method that has trained it
    named = [other for other in METHODS if METHODS[method].needs.endswith(f"of {other}")]
    return Entry(method, method, start=named[0] if named else BASELINE)


def chosen(plan: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """The rows of these names, and those that they start from, in the order of the plan; all without names.

    Raises:
        click.BadParameter: There is no such row.
    """
    by_name = {entry.name: entry for entry in plan}
    if unknown := [name for name in names if name not in by_name]:
        raise click.BadParameter(f"no such row: {', '.join(unknown)}; there are {', '.join(by_name)}")
    wanted, left = set(), list(names or by_name)
    while left:
        entry = by_name[left.pop()]
        if entry.name not in wanted:
            wanted.add(entry.name)
            left += [entry.start] if entry.start else []
    return [entry for entry in plan if entry.name in wanted]


class TimeIsOver(Exception):
    """Somebody asked for the end, or the minutes are over; what was begun can go on."""


@dataclass
class Runner:
    """Runs rows of the plan, one after the other.

    Attributes:
        out: Folder of the runs; ``seed-N/NAME`` in it, and the seconds that each took.
        recipe: Its name.
        overrides: Of every run.
        minutes: After which no run goes on; without end unless given.
    """

    out: Path
    recipe: str
    overrides: Sequence[str]
    minutes: float | None = None
    begun: float = field(default_factory=time.monotonic)

    def path(self, name: str, seed: int) -> Path:
        """The run directory of a row."""
        return self.out / f"seed-{seed}" / name

    def run(self, entry: Entry, seed: int) -> str:
        """Runs a row to its end; what it said last if it failed, else an empty text.

        Raises:
            TimeIsOver: It was stopped, or not begun.
        """
        out = self.path(entry.name, seed)
        if (left := self._left()) is not None and left <= 0:
            raise TimeIsOver
        start, name = self.path(entry.start, seed), f"seed-{seed}/{entry.name}"
        if entry.method in POST_HOC or not any(out.glob("checkpoints/*.pt")):
            # it begins anew, whatever was tried before
            self._note(name, 0.0, 0.0)
        if entry.method in POST_HOC:
            # it takes no steps, so that there is nothing to go on with
            words = ["calibrate", start, *entry.overrides, "--method", entry.method, "--out", out, "--force"]
        else:
            words = ["fit", self.recipe, f"method={entry.method}", *entry.overrides, *self.overrides, f"seed={seed}"]
            words += ["--out", out, "--resume", "auto", *(["--init-from", start] if entry.start else [])]
        return self._call(words, name)

    def content(self, entry: Entry, seed: int, name: str) -> dict[str, Any]:
        """The content of a JSON file of a run, such as ``eval/metrics.json``."""
        content: dict[str, Any] = json.loads((self.path(entry.name, seed) / name).read_text(encoding="utf-8"))
        return content

    def seconds(self, entry: Entry, seed: int) -> tuple[float, float]:
        """Wall and processor time of a run in seconds, evaluation included; of all calls that it took."""
        wall, processor = self._spent().get(f"seed-{seed}/{entry.name}", (0.0, 0.0))
        return wall, processor

    def _left(self) -> float | None:
        """Seconds until the end; ``None`` without one."""
        return None if self.minutes is None else 60 * self.minutes - (time.monotonic() - self.begun)

    def _call(self, words: Sequence[object], name: str) -> str:
        folders = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        begun, before = time.monotonic(), _processor_time()
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.train", *map(str, words)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
            # it is told of an end once, by this process
            start_new_session=True,
        )
        try:
            code = process.wait(self._left())
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.send_signal(signal.SIGTERM)
            _wait_or_kill(process)
            raise TimeIsOver from None
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            wall, processor = self._spent()[name]
            self._note(name, wall + time.monotonic() - begun, processor + _processor_time() - before)
        return "" if code == 0 else f"exit code {code}"

    @property
    def _times(self) -> Path:
        return self.out / "seconds.json"

    def _spent(self) -> dict[str, list[float]]:
        return json.loads(self._times.read_text(encoding="utf-8")) if self._times.exists() else {}

    def _note(self, name: str, wall: float, processor: float) -> None:
        spent = {**self._spent(), name: [wall, processor]}
        write_whole(self._times, lambda path: write_json(path, spent), make_folder=True)


def in_order(entries: Sequence[Entry], seeds: int) -> Iterator[tuple[Entry, int]]:
    """Every row for the first seed, then for the next ones: a table that is cut short has all methods once."""
    for seed in range(seeds):
        for entry in entries:
            yield entry, seed


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _processor_time() -> float:
    """Seconds of the processes that ended, those that they started included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
