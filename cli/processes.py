"""The option ``--processes``: the same command once more in each of several processes."""

from __future__ import annotations

import click

from lt_train.launch import end_with_starter, start_processes, started_here

from .options import CommandGroup

PROCESSES = click.option(
    "--processes",
    type=click.IntRange(1),
    help="Share the work among so many processes of this machine, one a GPU  [default: 1, or what torchrun started].",
)


def spread(number: int | None) -> None:
    """Goes on in several processes, if that was asked for; this one only waits for them.

    They are given the same words, and know by their environment that they are meant.
    """
    root = click.get_current_context().find_root().command
    if started_here():
        end_with_starter()
        return
    if number is None or number == 1 or not isinstance(root, CommandGroup):
        return
    raise SystemExit(start_processes(number, root.arguments))
