"""``lt-train cache`` and the option ``--from-features`` of the commands that use what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .options import FilePath
from .processes import PROCESSES, spread
from .recipes import need_training

FILE = FilePath()
FROM_FEATURES = click.option(
    "--from-features", type=FILE, help="Features that lt-train cache --out wrote; no image is opened where they serve."
)


def refuse_unused_pool(*, exact: bool, part: str = "train") -> None:
    """Refuses a ``--pool`` that was given and changes nothing.

    Raises:
        click.UsageError: All regions are kept.
    """
    if click.get_current_context().get_parameter_source("pool") is ParameterSource.DEFAULT:
        return
    if exact:
        raise click.UsageError("--pool: --exact keeps the features of every region; leave one of the two out.")
    if part == "val":
        raise click.UsageError("--pool: of validation images every region is kept; it is for --for train alone.")


@click.command("cache", short_help="Keep the region features of a frozen detector.")
@click.argument("run", type=FILE)
@click.option("--out", type=FILE, required=True, help="Directory to write train/ or val/ in.")
@click.option("--for", "part", type=click.Choice(["train", "val"]), default="train", show_default=True)
@click.option(
    "--pool",
    type=click.IntRange(1),
    default=1024,
    show_default=True,
    help="Regions of a training image with features: all positives, and negatives up to this number.",
)
@click.option("--exact", is_flag=True, help="Features of every region, in float32: the direct way's numbers.")
@click.option("--checkpoint", type=click.Choice(["last", "best"]), default="last", show_default=True)
@click.option("--repair", is_flag=True, help="Compare every shard with its digest, and compute damaged ones again.")
@click.option("--force", is_flag=True, help="Replace features that exist.")
@click.option("--device", help="auto, cpu, cuda or cuda:N  [default: the recipe's].")
@PROCESSES
def cache_command(run: Path, out: Path, processes: int | None, **options: Any) -> None:
    """Keep the region features of RUN's images, for runs that train or replace its classifier alone.

    What is there already is not computed again: an interrupted command goes on when it is given again.
    """
    refuse_unused_pool(exact=options["exact"], part=options["part"])
    need_training()
    spread(processes)
    from lt_train.features.cache import cache_run

    done = cache_run(run, out, tell=lambda line: click.echo(line, err=True), **options)
    if done is not None:
        click.echo(f"written: {done.path}")
