"""``lt-train predict``: a trained model on images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import FilePath, fraction, show_text, tell
from .processes import PROCESSES, spread
from .recipes import need_training

FILE = FilePath()


@click.command(short_help="Detect objects in a folder or a file.")
@click.argument("run", type=FILE)
@click.argument("images", type=FILE)
@click.option(
    "--out", type=FILE, required=True, help="Directory for predictions.json, predictions.csv, images.json, pictures/."
)
@click.option(
    "--annotations", type=FILE, help="Take images and ids from this file, and draw what it has beside what is found."
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME|ID|PATTERN",
    help="Look at these images alone: by name, number or a pattern such as 'night/*'; may be given several times.",
)
@click.option("--checkpoint", type=click.Choice(["last", "best"]), default="last", show_default=True)
@click.option(
    "--min-score",
    type=float,
    callback=fraction,
    default=0.0,
    help="Leave weaker detections out of the files, 0 to 1  [default: all that the model gives].",
)
@click.option(
    "--class-agnostic-nms",
    type=float,
    callback=fraction,
    metavar="IOU",
    help="Of two boxes that overlap more, of any classes, keep the better  [default: of one class alone].",
)
@click.option(
    "--score-threshold",
    type=float,
    callback=fraction,
    default=0.5,
    show_default=True,
    help="0 to 1, for the pictures only.",
)
@click.option("--pictures", type=click.IntRange(0), default=50, show_default=True, help="How many to draw at most.")
@click.option("--device", help="auto, cpu, cuda or cuda:N  [default: the recipe's].")
@click.option("--force", is_flag=True, help="Replace predictions that exist.")
@PROCESSES
def predict(run: Path, images: Path, out: Path, processes: int | None, **options: Any) -> None:
    """Detect objects in IMAGES (a folder or a file): a standard results file, a table, and pictures."""
    need_training()
    spread(processes)
    from lt_train.inference.predict_images import predict_images

    done = predict_images(run, images, out, **options)
    if done is None:
        return
    for line in done.notes:
        tell("note", line)
    for line in done.unreadable:
        tell("error", line)
    show_text(done.text)
    click.echo(f"written: {done.out}")
    if done.unreadable:
        raise SystemExit(1)
