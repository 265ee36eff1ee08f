"""``lt-data plot`` and ``lt-data show``: what a dataset holds, drawn."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from lt_data.errors import DataError
from lt_data.terminal import Bar

from .options import FilePath, groups_option, tell

FILE = FilePath()
PATH = click.argument("path", type=FILE)
PRESETS = "numbers such as 10,100,1000, or a preset: bags, bags-2, bags-8, simcal"
GROUPS = groups_option(help=f"Bounds between the groups: {PRESETS}  [default: the directory's, else bags].")
BY = click.option(
    "--by",
    type=click.Choice(["instances", "images", "frequency"]),
    default="instances",
    show_default=True,
    help="What the bounds count; frequency: rare, common and frequent, as in LVIS, without --groups.",
)


@click.command(short_help="Draw what a dataset holds, as PNG and SVG.")
@PATH
@click.option(
    "--kind",
    type=click.Choice(["alignment", "counts", "groups", "images-per-class", "co-occurrence", "all"]),
    default="all",
    show_default=True,
    help="Which picture; alignment needs a dataset directory.",
)
@click.option("--out", type=FILE, required=True, help="Folder for the PNG and SVG files.")
@GROUPS
@BY
@click.option("--force", is_flag=True, help="Replace pictures that exist.")
def plot(path: Path, kind: str, out: Path, edges: str | None, by: str, force: bool) -> None:
    """Draw what a dataset holds, as PNG and SVG. --by is for the groups.

    PATH is a COCO or LVIS annotation file or a dataset directory.
    """
    from lt_data.groups import parse_edges
    from lt_data.pictures.dataset import format_plots, plot_dataset

    bounds = None if edges is None else parse_edges(edges)
    with Bar("reading", "bytes") as progress:
        plots = plot_dataset(path, kind, out, edges=bounds, by=by, force=force, progress=progress)
    click.echo(format_plots(plots))


def _image_range(ctx: click.Context, param: click.Parameter, value: str) -> tuple[float, float] | None:
    """Refuses what is no range."""
    from lt_data.files.pixels import parse_range

    try:
        return parse_range(value)
    except DataError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command(short_help="Draw a grid of instances of a category.")
@PATH
@click.option("--category", required=True, help="Name or id.")
@click.option("--images", type=FILE, required=True, help="Image folder.")
@click.option("--out", type=FILE, required=True, help="The .png or .svg file to write.")
@click.option("--limit", type=int, default=24, show_default=True, help="Instances at most, up to 100.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another one shows other instances.")
@click.option(
    "--image-range",
    callback=_image_range,
    default="auto",
    show_default=True,
    help="auto or LOW,HIGH: black and white of images of more than 8 bits, as data.image_range of a recipe.",
)
@click.option(
    "--exif",
    type=click.Choice(["ignore", "apply"]),
    default="ignore",
    show_default=True,
    help="Pixels as stored, or turned as EXIF says, as data.exif of a recipe.",
)
@click.option("--force", is_flag=True, help="Replace the picture if it exists.")
def show(path: Path, category: str, images: Path, out: Path, image_range: Any, exif: Any, **options: Any) -> None:
    """Draw a grid of instances of a category, with boxes and masks.

    PATH is a COCO or LVIS annotation file or a dataset directory.
    """
    from lt_data.files.pixels import ImageReading
    from lt_data.pictures.show import show_category

    options |= {"reading": ImageReading(image_range, exif), "note": partial(tell, "note")}
    with Bar("reading", "bytes") as progress:
        show_category(path, category, images, out, progress=progress, **options)
    click.echo(f"written: {out}")
