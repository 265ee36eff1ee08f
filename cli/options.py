"""What both commands share: error lines, exit codes and progress."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn, Self

import click

from lt_data.errors import LtError

INPUT_IS_WRONG = 1
# EX_TEMPFAIL of sysexits.h: the same command can go on later
RESUMABLE = 75
SECONDS_BETWEEN_LINES: Final = 10.0


class Terminated(KeyboardInterrupt):
    """Somebody asked this process to end, or its terminal went away."""


class FilePath(click.Path):
    """A path for the library to open: what is wrong with the file is the library's to say."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuses an empty text, which would be the working directory."""
        if value == "":
            self.fail("the path is empty; give one, or leave the option out.", param, ctx)
        return super().convert(value, param, ctx)


class CommandGroup(click.Group):
    """Commands whose errors are lines, from parsing and their first import on."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Parses and runs."""
        with error_lines(), signals_as_interrupts():
            return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parses; here, because click would print a word of its own for an interrupt."""
        with error_lines():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command."""
        with error_lines():
            return super().invoke(ctx)


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP an exception, as Ctrl-C is, so that what is half written is removed.

    A signal that somebody handles or ignores already (``nohup``) is left alone, and processes started by a fork die of
    theirs as they would without this.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is threading.main_thread():
        numbers = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    else:
        numbers = []
    process = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        # one is enough: a second must not stop the tidying
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Terminated

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def error_lines() -> Iterator[None]:
    """Prints each problem on a line of its own and leaves with exit code 1, without a traceback."""
    try:
        yield
    except LtError as error:
        leave(*error.problems)
    except BrokenPipeError:
        leave()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        leave(f"{where}{error.strerror or error}")
    except Terminated:
        leave("terminated")
    except KeyboardInterrupt:
        # a terminal stands behind the ^C that it shows
        if sys.stderr.isatty():
            click.echo(err=True)
        leave("interrupted")


def leave(*problems: str, code: int = INPUT_IS_WRONG) -> NoReturn:
    """Ends the process with a line for each problem."""
    # the terminal itself may be what is gone
    with suppress(OSError):
        for problem in problems:
            click.echo(f"error: {problem}", err=True)
    _drop_unwritten()
    sys.exit(code)


def _drop_unwritten() -> None:
    """What standard output could not take must not fail a second time when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class Progress:
    """What a command is doing, on standard error: a line for each step, and a bar for how far it is.

    Where that is no terminal, a plain line every ten seconds stands for the bar: none for what is done sooner.

    Args:
        label: What the bar shows.
        unit: What it counts: ``bytes``, another word, or nothing where the share says enough.
    """

    def __init__(self, label: str, unit: str = "bytes") -> None:
        self._label, self._unit = label, unit
        self._bar = _bar(label, unit) if sys.stderr.isatty() else None
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, what: str) -> None:
        """Names the step that begins; the bar waits until something of it is done."""
        if self._bar is None:
            click.echo(f"{what} ...", err=True)
            return
        self._bar.update(self._bar.task_ids[0], visible=False)
        self._bar.console.print(f"{what} ...", markup=False, highlight=False, soft_wrap=True)

    def __call__(self, done: int, total: int) -> None:
        """Shows how much is done of how much there is."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, visible=True)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            of = {"bytes": f" of {total / 1e6:,.0f} MB", "": ""}.get(self._unit, f" of {total:,} {self._unit}")
            click.echo(f"{self._label}: {100 * done // max(total, 1)} %{of}", err=True)


def _bar(label: str, unit: str) -> Any:
    from rich import progress as rich
    from rich.console import Console

    counter = {"bytes": rich.DownloadColumn, "": rich.TaskProgressColumn}.get(unit, rich.MofNCompleteColumn)
    columns = (rich.TextColumn(label), rich.BarColumn(), counter(), rich.TimeRemainingColumn())
    bar = rich.Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task("", total=None, visible=False)
    return bar
