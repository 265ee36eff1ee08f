"""``lt-train calibrate``: other scores for a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lt_train.recipe.methods import POST_HOC

from .features import FROM_FEATURES
from .options import FilePath
from .processes import PROCESSES, spread
from .recipes import OVERRIDES, ROOT, OverriddenCommand, need_training

FILE = FilePath()


@click.command(cls=OverriddenCommand, short_help="Give a trained run other scores without training.")
@click.argument("run", type=FILE)
@OVERRIDES
@click.option("--method", required=True, metavar="METHOD", help=f"{', '.join(POST_HOC[:-1])} or {POST_HOC[-1]}.")
@click.option("--out", type=FILE, required=True, help="The run directory to write.")
@click.option("--search", "searched", metavar="OPTION=FIRST:LAST:STEP", help="Take the value with the best box AP.")
@click.option(
    "--on",
    type=click.Choice(["training", "val"]),
    help="What the search measures on: training images, those of data.hold_out if the run had it  [default], or "
    "the recipe's data.val, which every output then says.",
)
@click.option("--annotations", type=FILE, help="Another split for the search to measure on.")
@click.option("--images", type=FILE, help="Image folder of --annotations.")
@click.option("--checkpoint", type=click.Choice(["last", "best"]), default="last", show_default=True)
@click.option("--force", is_flag=True, help="Replace a run that exists.")
@ROOT
@FROM_FEATURES
@PROCESSES
def calibrate(
    run: Path,
    overrides: tuple[str, ...],
    method: str,
    searched: str | None,
    on: str | None,
    annotations: Path | None,
    images: Path | None,
    processes: int | None,
    **options: Any,
) -> None:
    """Give a trained RUN other scores without training: a new run, with overrides such as calibration.tau=0.7."""
    if (annotations is None) != (images is None):
        raise click.UsageError("--annotations and --images belong together: give both or neither.")
    if searched is None and (annotations is not None or on is not None):
        option = "--on" if annotations is None else "--annotations"
        raise click.UsageError(f"{option} is for --search: without it nothing is searched.")
    if annotations is not None and on is not None:
        raise click.UsageError("--on and --annotations exclude each other: each names what the search measures on.")
    if method not in POST_HOC:
        raise click.UsageError(f"--method: got '{method}'; allowed are {', '.join(POST_HOC)}.")
    need_training()
    from lt_train.engine.calibrate import calibrate_run
    from lt_train.engine.calibration_search import Search, parse_search
    from lt_train.recipe.sections import Files

    files = Files(annotations=annotations, images=images) if annotations and images else None
    search = Search(*parse_search(searched), files, "val" if on == "val" else "training") if searched else None
    spread(processes)
    done = calibrate_run(run, method, overrides=overrides, search=search, **options)
    if done is not None:
        click.echo(f"written: {done.path}")
