"""``lt-data import``: Pascal VOC and YOLO."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lt_data.terminal import Bar

from .options import TABLE_OR_JSON, FilePath

FILE = FilePath()
VOC_ONLY = ("one_based", "difficult")
# modules that only this command needs, and the packages that they come from
PACKAGES = {"defusedxml": "defusedxml", "globox": "globox", "yaml": "pyyaml"}


@click.command("import", short_help="Convert Pascal VOC or YOLO annotations to COCO.")
@click.argument("source", type=FILE)
@click.option(
    "--from",
    "kind",
    type=click.Choice(["voc", "yolo"]),
    required=True,
    help="Pascal VOC, one XML file an image; or YOLO, one text file an image and a file of names.",
)
@click.option("--out", type=FILE, required=True, help="The COCO file to write (.json).")
@click.option("--images", type=FILE, help="The image folder, laid out as SOURCE  [default: SOURCE].")
@click.option(
    "--names",
    type=FILE,
    help="Names of the classes: data.yaml, or a text file with one a line  [default: YOLO: the one in SOURCE; "
    "VOC: the classes found, sorted].",
)
@click.option("--one-based", is_flag=True, help="VOC: pixels are counted from 1, as in the files of Pascal VOC itself.")
@click.option(
    "--difficult",
    type=click.Choice(["crowd", "drop", "keep"]),
    default="crowd",
    show_default=True,
    help="VOC: difficult objects become ignored regions (iscrowd), are left out, or count like others.",
)
@click.option(
    "--exif",
    type=click.Choice(["ignore", "apply"]),
    default="ignore",
    show_default=True,
    help="Boxes are of the pixels as stored, or of the picture turned as EXIF says, as data.exif of a recipe.",
)
@TABLE_OR_JSON
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.pass_context
def import_command(
    ctx: click.Context,
    /,
    source: Path,
    kind: Any,
    out: Path,
    images: Path | None,
    names: Path | None,
    style: str,
    force: bool,
    **options: Any,
) -> None:
    """Convert Pascal VOC or YOLO annotations to a COCO file.

    SOURCE is the folder of the annotations, with whatever folders in it. Says what check finds, and writes nothing if
    a file or an object cannot be read.
    """
    given = [name for name in VOC_ONLY if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT]
    if kind == "yolo" and given:
        raise click.UsageError(f"--{given[0].replace('_', '-')} is for --from voc: YOLO has nothing of the kind.")
    _need_packages()
    from lt_data.checks.check import format_report
    from lt_data.importing.convert import import_annotations
    from lt_data.importing.options import ImportOptions

    with Bar("importing", "") as progress:
        report = import_annotations(
            source,
            out,
            kind,
            images=images,
            names=names,
            options=ImportOptions(**options),
            force=force,
            progress=progress,
        )
    click.echo(format_report(report, style))
    click.echo(f"written: {out}", err=style == "json")


def _need_packages() -> None:
    """Says in one line what is missing where the code is newer than the installation."""
    if missing := [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]:
        raise click.ClickException(
            f"import needs {', '.join(missing)}, not installed here; run: pip install {' '.join(missing)}"
        )
