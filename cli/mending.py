"""``lt-data mend``, ``merge`` and ``filter``: annotation files put right, put together, cut down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lt_data.mending.kinds import KINDS
from lt_data.terminal import Bar

from .options import TABLE_OR_JSON, FilePath, show_text, tell

FILE = FilePath()
FORCE = click.option("--force", is_flag=True, help="Replace the files if they exist.")


@click.command(short_help="Put right what check finds: ids, quoted numbers, boxes, areas, categories.")
@click.argument("path", type=FILE)
@click.option(
    "--fix",
    metavar="KIND[,KIND]",
    help=f"Kinds of mends: {', '.join(KINDS)}  [default: all, if nothing is written].",
)
@click.option("--all", "everything", is_flag=True, help="All kinds of mends.")
@click.option("--out", type=FILE, help="The file to write (.json); nothing is written without.")
@click.option("--changes", type=FILE, help="Write every change to this .csv or .json file, dropped records in full.")
@TABLE_OR_JSON
@FORCE
def mend(
    path: Path, fix: str | None, everything: bool, out: Path | None, changes: Path | None, style: str, force: bool
) -> None:
    """Put right what check finds, and leave every other byte as it is. A dry run unless --out is given.

    PATH is a COCO or LVIS annotation file or a dataset directory.
    """
    from lt_data.mending.kinds import parse_kinds
    from lt_data.mending.mend import ids_path
    from lt_data.mending.mend import mend as run
    from lt_data.mending.result import format_mend

    if fix is not None and everything:
        raise click.UsageError("--fix and --all exclude each other.")
    if out is not None and fix is None and not everything:
        raise click.UsageError("--out needs --fix KIND[,KIND] or --all: what is not asked for stays as it is.")
    kinds = tuple(KINDS) if fix is None else parse_kinds(fix)
    with Bar("reading", "bytes") as progress:
        report = run(path, out, fix=kinds, changes=changes, force=force, progress=progress)
    show_text(format_mend(report, style), style)
    beside = [changes] if changes is not None else []
    if out is not None:
        beside += [ids_path(out), out] if report.new_ids else [out]
    for file in beside:
        click.echo(f"written: {file}", err=style == "json")
    if out is None:
        click.echo("dry run: give --out to write the mended file", err=style == "json")


@click.command(short_help="Write several annotation files as one.")
@click.argument("paths", type=FILE, nargs=-1, required=True)
@click.option("--out", type=FILE, required=True, help="The file to write (.json).")
@click.option(
    "--images",
    type=FILE,
    multiple=True,
    help="Image folder, one for all or one for each file: images are the same by their bytes, not by name and size.",
)
@click.option(
    "--on-same",
    type=click.Choice(["refuse", "join", "keep"]),
    default="refuse",
    show_default=True,
    help="An image that several files list: refuse, put its annotations together, or keep all its records.",
)
@TABLE_OR_JSON
@FORCE
def merge(paths: tuple[Path, ...], out: Path, images: tuple[Path, ...], on_same: Any, style: str, force: bool) -> None:
    """Write several annotation files as one: categories are one where their names are, ids that are taken change.

    PATHS are COCO or LVIS annotation files, dataset directories, or folders of .json files.
    """
    from lt_data.merging.merge import merge as run
    from lt_data.merging.result import format_merge

    with Bar("reading", "files") as progress:
        report = run(paths, out, images=images, on_same=on_same, force=force, progress=progress)
    for note in report.notes:
        tell("note", note)
    show_text(format_merge(report, style), style)
    click.echo(f"written: {out}", err=style == "json")


@click.command("filter", short_help="Write some of the images, categories and objects of a file.")
@click.argument("path", type=FILE)
@click.option("--out", type=FILE, required=True, help="The file to write (.json).")
@click.option("--categories", metavar="A,B", help="Keep these categories, by name or id, and drop all others.")
@click.option("--drop-categories", metavar="A,B", help="Drop these categories.")
@click.option("--min-size", type=float, default=0.0, help="Drop objects whose box is narrower or lower than this (px).")
@click.option("--images", help="Keep images whose file_name is like this pattern, or stands in this text file.")
@click.option("--min-instances", type=int, default=0, help="Drop categories with fewer objects than this left.")
@click.option("--drop-empty", is_flag=True, help="Drop images that are left without annotations.")
@TABLE_OR_JSON
@FORCE
def filter_command(
    path: Path,
    out: Path,
    categories: str | None,
    drop_categories: str | None,
    style: str,
    force: bool,
    **options: Any,
) -> None:
    """Write some of the images, categories and objects of a file; kept records keep their bytes.

    PATH is a COCO or LVIS annotation file or a dataset directory.
    """
    from lt_data.filtering.choose import names_in
    from lt_data.filtering.filter import filter_annotations, format_filter
    from lt_data.filtering.options import FilterOptions

    if categories is not None and drop_categories is not None:
        raise click.UsageError("--categories and --drop-categories exclude each other.")
    chosen = FilterOptions(
        categories=names_in(categories or ""), drop_categories=names_in(drop_categories or ""), **options
    )
    with Bar("reading", "bytes") as progress:
        report = filter_annotations(path, out, chosen, force=force, progress=progress)
    show_text(format_filter(report, style), style)
    click.echo(f"written: {out}", err=style == "json")
