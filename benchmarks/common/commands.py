"""The commands of this checkout, as a study runs them, and what scripts of many runs have in common."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from lt_train.studies.commands import Command, Start, shares

ROOT = Path(__file__).resolve().parents[2]


def own_commands(jobs: int = 1) -> Start:
    """Starts the commands of this checkout, installed or not; so many run beside each other."""
    folders = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    commands = {"lt-train": (sys.executable, "-m", "cli.train")}
    environments = [{**share, "PYTHONPATH": folders} for share in shares(jobs)]
    return partial(Command, commands=commands, environments=environments)


def run_options(out: str, seeds: str = "How many: 0, 1, ...") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of a script that makes runs and goes on where it ended: --out, --seeds, --minutes, --jobs.

    Args:
        out: Folder of its runs unless said.
        seeds: Help of --seeds.
    """
    options = (
        click.option("--out", type=click.Path(path_type=Path), default=Path(out), show_default=True),
        click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help=seeds),
        click.option("--minutes", type=click.FloatRange(0), help="End after so long  [default: when all is done]."),
        click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs at once."),
    )

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM is as Ctrl-C: the runs that are under way save and end too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(failed: Iterable[str], *, stopped: bool) -> None:
    """Says what failed and whether anything is left, and ends the script.

    Args:
        failed: A line for each run that failed.
        stopped: Whether it ended before everything was done.
    """
    lines = list(failed)
    for line in lines:
        click.echo(line, err=True)
    if stopped:
        click.echo("ended before everything was done; the same command goes on", err=True)
    sys.exit(1 if lines else 0)
