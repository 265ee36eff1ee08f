"""``lt-data split``: training and validation, or folds."""

from __future__ import annotations

from pathlib import Path

import click

from lt_data.terminal import Bar

from .options import TABLE_OR_JSON, FilePath, show_text, tell

FILE = FilePath()


@click.command("split", short_help="Split into training and validation, or into folds.")
@click.argument("path", type=FILE)
@click.option("--val", help="Share of the images for validation, 0 < share < 1: 0.2 puts a fifth there.")
@click.option("--folds", type=int, help="Write so many folds instead, for cross-validation.")
@click.option("--out", type=FILE, required=True, help="The folder to write: train.json, val.json, split.json.")
@click.option(
    "--group-by",
    help="Images that stay together: of one folder; roboflow: copies of one photo (.rf. names); with one value in a "
    "FIELD of theirs; or with one text where a regular expression (its first bracket) fits the file name.",
    metavar="folder|roboflow|FIELD|REGEX",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another one splits otherwise, and as well.")
@TABLE_OR_JSON
@click.option("--force", is_flag=True, help="Replace what an earlier split wrote.")
def split(
    path: Path,
    val: str | None,
    folds: int | None,
    out: Path,
    group_by: str | None,
    seed: int,
    style: str,
    force: bool,
) -> None:
    """Split an annotation file so that every side holds the same categories in the same shares.

    As many categories as possible are on all sides; those that cannot be are named. PATH is a COCO or LVIS annotation
    file or a dataset directory. All records stay byte for byte.
    """
    from lt_data.splitting.options import SplitOptions
    from lt_data.splitting.report import format_split
    from lt_data.splitting.split import split_annotations

    if (val is None) == (folds is None):
        raise click.UsageError("give --val SHARE for one split, or --folds K for cross-validation.")
    options = SplitOptions(val=val, folds=folds, group_by=group_by, seed=seed)
    with Bar("splitting", "bytes") as progress:
        record = split_annotations(path, out, options=options, force=force, progress=progress)
    for note in record.notes:
        tell("warning", note)
    show_text(format_split(record, style), style)
    click.echo(f"written: {out}", err=style == "json")
