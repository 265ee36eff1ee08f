"""What both commands share: comma lists, error lines and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from lt_data.errors import LtError

INPUT_IS_WRONG = 1


class IntList(click.ParamType):
    """Whole numbers separated by commas, as in ``10,100,1000``."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """A tuple of the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"got '{value}'; allowed are whole numbers separated by commas, as in 10,100,1000", param, ctx)


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
