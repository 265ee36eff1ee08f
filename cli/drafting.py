"""``lt-train init``: a recipe for data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lt_data.terminal import Bar

from .options import FilePath, tell
from .recipes import need_training

FILE = FilePath()


@click.command(name="init", short_help="Write a recipe for your own data and this machine.")
@click.argument("data", type=FILE)
@click.option("--images", type=FILE, required=True, help="Folder that the file names of the annotations are in.")
@click.option("--out", type=FILE, help="The recipe to write, for example my.yaml.")
@click.option("--show", is_flag=True, help="Print the recipe and write nothing.")
@click.option("--val", type=FILE, help="Validation annotations  [default: those beside the training part].")
@click.option("--val-images", type=FILE, help="Their folder  [default: --images].")
@click.option("--model", help="A detector such as mask_rcnn_r50_fpn  [default: one for this machine].")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--download", is_flag=True, help="Weights may be downloaded when the run starts.")
@click.option("--force", is_flag=True, help="Replace a recipe that exists.")
def init(data: Path, images: Path, out: Path | None, show: bool, force: bool, **wishes: Any) -> None:
    """Write a recipe that fits your own DATA and this machine, with a reason beside every value.

    DATA is a folder that lt-data split wrote, a dataset directory, or one COCO or LVIS annotation file.
    """
    if show == (out is not None):
        raise click.UsageError("give --out FILE to write the recipe, or --show to print it.")
    need_training()
    from lt_train.drafting.draft import Wishes, draft_recipe, write_draft

    chosen = Wishes(**wishes)
    with Bar("reading", "bytes") as progress:
        if out is None:
            draft = draft_recipe(data, images, wishes=chosen, progress=progress)
        else:
            draft = write_draft(data, images, out, wishes=chosen, force=force, progress=progress)
    if out is None:
        click.echo(draft.text, nl=False)
    for note in draft.notes:
        kind, _, line = note.partition(": ") if note.startswith("warning: ") else ("note", "", note)
        tell(kind, line)
    if out is not None:
        click.echo(f"written: {out}")
