"""What both commands share: error lines, exit codes and progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import click

from lt_data.errors import LtError

INPUT_IS_WRONG = 1
SECONDS_BETWEEN_LINES: Final = 10.0


class CommandGroup(click.Group):
    """Commands whose errors are lines, from their first import on."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command."""
        with error_lines():
            return super().invoke(ctx)


@contextmanager
def error_lines() -> Iterator[None]:
    """Prints each problem on a line of its own and leaves with exit code 1, without a traceback."""
    try:
        yield
    except LtError as error:
        _leave(*error.problems)
    except BrokenPipeError:
        _leave()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _leave(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        # a terminal stands behind the ^C that it shows
        if sys.stderr.isatty():
            click.echo(err=True)
        _leave("interrupted")


def _leave(*problems: str) -> None:
    for problem in problems:
        click.echo(f"error: {problem}", err=True)
    sys.exit(INPUT_IS_WRONG)


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
