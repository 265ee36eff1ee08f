"""What a run says while it works: a live table or plain lines, ``train.log``, ``metrics.jsonl``, trackers."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from lt_data.errors import DataError, OutputError
from lt_data.terminal import terminal
from lt_train.runs.directory import RunDir, write_text
from lt_train.runs.live import LiveTable, duration, figures
from lt_train.runs.trackers import Tracker


def drop_later_metrics(run: RunDir, done: int) -> None:
    """Removes the lines of ``metrics.jsonl`` beyond a step: a resumed run writes them again."""
    if run.metrics.is_file():
        kept = [line for line in metric_lines(run) if step_of(line) <= done]
        write_text(run.metrics, "".join(f"{line}\n" for line in kept))


def metric_lines(run: RunDir) -> list[str]:
    """The lines of ``metrics.jsonl``; none where there is no such file.

    Raises:
        DataError: It is not UTF-8.
    """
    try:
        return run.metrics.read_text(encoding="utf-8").splitlines() if run.metrics.is_file() else []
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{run.metrics}: line {number} is not UTF-8; remove this line") from None


def step_of(line: str) -> float:
    """The step of a line; infinite for one that was cut off when the run was killed."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def is_due(index: int, *, every: int, total: int) -> bool:
    """Whether a step gets a line; the first and the last always do.

    Args:
        index: Of the step, from 0.
        every: Steps between lines.
        total: Steps of the whole run.
    """
    return index == 0 or (index + 1) % every == 0 or index + 1 == total


class _Lines:
    """A file that lines are added to; each is on its way to the disk, or not in the file, when the call ends.

    Args:
        path: The file; what it holds stays.

    Raises:
        OutputError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise self._refusal(error) from None

    def add(self, line: str) -> None:
        """Adds a line.

        Raises:
            OutputError: There is no room for all of it.
        """
        content = f"{line}\n".encode("utf-8", "backslashreplace")
        before = os.fstat(self._file.fileno()).st_size
        try:
            # a disk that fills up takes a part first, and raises when it is asked again
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(before)
            raise self._refusal(error) from None

    def close(self) -> None:
        """Closes the file."""
        with suppress(OSError):
            self._file.close()

    def _refusal(self, error: OSError) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({error.strerror or error}); make room on its disk")


class RunLog:
    """Writes every line of a run to where people and programs look for it.

    Use as a context manager; on leaving, files and trackers are closed.

    Args:
        run: The run directory.
        total: Steps of the whole run; 0 for one that takes none and needs no table.
        every: Steps between lines.
        done: Steps that were taken before.
        trackers: Get every number too; started already.
    """

    def __init__(
        self,
        run: RunDir,
        *,
        total: int,
        every: int,
        done: int = 0,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.console = terminal()
        self.total = total
        self.every = every
        self.trackers = trackers
        self._said_once: set[str] = set()
        self._log = _Lines(run.log)
        self._metrics = _Lines(run.metrics)
        self._table = LiveTable(self.console, total=total, done=done)
        self._has_table = total > 0 and self.console.is_interactive

    def __enter__(self) -> RunLog:
        if self._has_table:
            self._table.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.stop(keep=True)
        if error is not None:
            # the disk may be what it was stopped by
            with suppress(OutputError):
                self._write_line(f"stopped: {type(error).__name__}: {error}")
        self._log.close()
        self._metrics.close()
        for tracker in self.trackers:
            tracker.close(failed=error is not None)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Takes the table away meanwhile: a terminal shows one thing that moves at a time."""
        self._table.stop(keep=False)
        yield
        if self._has_table:
            self._table.start()

    def show_below(self, text: str) -> bool:
        """A line below the table from now on, until the run ends; ``False`` where no table is shown."""
        self._table.below = text
        return self._table.is_shown

    def line(self, text: str, *, once: bool = False) -> None:
        """A line for people; above the table, if there is one.

        Args:
            text: The line.
            once: Leave it out if it was said so before.
        """
        if once and text in self._said_once:
            return
        self._said_once |= {text} if once else set()
        self._write_line(text)
        # at words in a terminal, and one line where somebody reads a file
        self.console.print(text, markup=False, highlight=False, soft_wrap=not self.console.is_interactive)

    def _write_line(self, text: str) -> None:
        self._log.add(f"{datetime.now().isoformat(timespec='seconds')} {text}")

    def is_due(self, index: int) -> bool:
        """See :func:`is_due`."""
        return is_due(index, every=self.every, total=self.total)

    def advance(self, done: int, *, epoch: int, seconds_left: float | None) -> None:
        """After every step: how far the run is.

        Args:
            done: Steps taken.
            epoch: Of the last one, counted from 0.
            seconds_left: Until the end, without evaluations; ``None`` if not known yet.
        """
        self._table.done, self._table.epoch, self._table.seconds_left = done, epoch, seconds_left

    def step(self, values: Mapping[str, float]) -> None:
        """The figures of the last step: losses, learning rate, speed, waiting for data, memory."""
        table = self._table
        table.values = dict(values)
        self.record({"step": table.done, "epoch": table.epoch, **values})
        losses, others = figures(values)
        text = "  ".join(f"{name} {value}" for name, value in (*losses, *others))
        text = f"step {table.done}/{self.total}  eta {duration(table.seconds_left)}  {text}"
        if self._has_table:
            self._write_line(text)
        else:
            self.line(text)

    def record(self, values: Mapping[str, Any]) -> None:
        """A line for programs; numbers go to the trackers too."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self._metrics.add(json.dumps({**finite, "time": round(time.time(), 3)}))
        numbers = {name: value for name, value in values.items() if isinstance(value, float)}
        for tracker in self.trackers:
            tracker.log(int(values["step"]), numbers)


class SilentLog:
    """In place of a :class:`RunLog` in processes that neither speak nor write.

    Args:
        total: As of the log of the first process.
        every: Likewise.
    """

    def __init__(self, *, total: int = 0, every: int = 1) -> None:
        self.total = total
        self.every = every

    def __enter__(self) -> SilentLog:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is shown that could be in the way."""
        yield

    def show_below(self, text: str) -> bool:
        """Says that the line is taken care of: process 0 has it."""
        return True

    def line(self, text: str, *, once: bool = False) -> None:
        """Nothing."""

    def is_due(self, index: int) -> bool:
        """As in the first process: all read the losses of the same steps, and stop at the same one."""
        return is_due(index, every=self.every, total=self.total)

    def advance(self, done: int, *, epoch: int, seconds_left: float | None) -> None:
        """Nothing."""

    def step(self, values: Mapping[str, float]) -> None:
        """Nothing."""

    def record(self, values: Mapping[str, Any]) -> None:
        """Nothing."""
