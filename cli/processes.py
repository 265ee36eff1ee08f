"""The option ``--processes``: the same command once more in each of several processes."""

from __future__ import annotations

import click

from lt_train.launch import start_processes

from .options import CommandGroup

PROCESSES = click.option(
    "--processes",
    type=click.IntRange(1),
    help="Share the work among so many processes of this machine, one a GPU  [default: 1, or what torchrun started].",
)


def spread(number: int | None) -> None:
    """Goes on in several processes, if that was asked for; this one only waits for them."""
    root = click.get_current_context().find_root().command
    if number is None or number == 1 or not isinstance(root, CommandGroup):
        return
    words = iter(root.arguments)
    arguments = []
    for word in words:
        if word == "--processes":
            next(words, None)
        elif not word.startswith("--processes="):
            arguments.append(word)
    raise SystemExit(start_processes(number, arguments))
