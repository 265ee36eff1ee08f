"""What both commands share: error lines, exit codes and progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from lt_data.errors import LtError

INPUT_IS_WRONG = 1


@contextmanager
def error_lines() -> Iterator[None]:
    """Prints each problem on a line of its own and leaves with exit code 1, without a traceback."""
    try:
        yield
    except LtError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(INPUT_IS_WRONG)
    except BrokenPipeError:
        sys.exit(INPUT_IS_WRONG)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror or error}", err=True)
        sys.exit(INPUT_IS_WRONG)


def step_reporter() -> Callable[[str], None]:
    """A function that shows the running step on standard error."""

    def report(step: str) -> None:
        click.echo(f"{step} ...", err=True)

    return report


def progress_bar(label: str) -> Any:
    """A rich progress bar on standard error that hides itself when that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def byte_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A function of (bytes done, bytes in all) that moves a bar on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
