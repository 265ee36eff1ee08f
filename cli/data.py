"""``lt-data``: long-tailed datasets from COCO-format pools."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lt_data import __version__
from lt_data.terminal import Bar
from lt_data.versions import install_command
from lt_train.recipe.method import VARIANTS
from lt_train.recipe.methods import REWEIGHTED

from .importing import import_command
from .mending import filter_command, mend, merge
from .options import (
    HELP,
    OTHER_DATA_COMMANDS,
    TABLE_OR_JSON,
    CommandGroup,
    FilePath,
    groups_option,
    show_text,
    tell,
)
from .pictures import BY, GROUPS, PRESETS, plot, show
from .splitting import split

FILE = FilePath()
PATH = click.argument("path", type=FILE)
THRESHOLD = "categories in a smaller share of the images than this are repeated."


TABLE_CSV_OR_JSON = click.option(
    "--format", "style", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)


@click.group(
    cls=CommandGroup,
    other_names=OTHER_DATA_COMMANDS,
    context_settings=HELP,
)
@click.version_option(__version__, prog_name="lt-data")
def main() -> None:
    """Build long-tailed detection datasets and look at them.

    Annotation files are COCO or LVIS, packed or not: .json, .json.gz, or .zip with one file.
    """


@main.command(short_help="Make a long-tailed subset of a COCO-format pool.")
@click.option(
    "--coco", type=FILE, required=True, help="The pool: a COCO-format annotation file or a dataset directory."
)
@click.option("--out", type=FILE, help="The dataset directory to write (needed unless --dry-run).")
@click.option("--lvis", type=FILE, help="Imitate the annotation counts of this LVIS or COCO file.")
@click.option(
    "--reference",
    help="Imitate lvis-v0.5 (default), lvis-v1, zipf:ALPHA, exp:IMBALANCE, the counts of a LVIS or COCO file, or the "
    "column 'instances' of a CSV.",
)
@click.option(
    "--targets",
    help="Instances per category instead: simcal, or a CSV with the columns category_id (or name) and target.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the order in which images are visited.")
@click.option("--scale", default="1.0", show_default=True, help="Factor on the targets, 0 < scale <= 1.")
@groups_option(default="10,100,1000", show_default=True, help=f"Bounds between the groups: {PRESETS}.")
@click.option("--threshold", type=float, default=0.001, show_default=True, help=f"For repeat_factors.csv: {THRESHOLD}")
@click.option(
    "--on-shortage",
    type=click.Choice(["error", "cap"]),
    default="error",
    show_default=True,
    help="If the pool has too few instances of a category: refuse, or take what there is and record it.",
)
@click.option(
    "--surplus",
    type=click.Choice(["drop", "ignore"]),
    default="drop",
    show_default=True,
    help="Surplus instances and crowds of taken images: leave out, or keep as regions that training ignores.",
)
@click.option(
    "--order",
    type=click.Choice(["rarest-first", "random", "fewest-images"]),
    default="rarest-first",
    show_default=True,
    help="Which images to try first.",
)
@click.option("--val", type=FILE, help="Validation annotations: checked for the same categories and copied beside.")
@click.option("--images", type=FILE, help="Image folder of the pool: put the taken images into OUT/images.")
@click.option("--copy/--link", "copy_images", default=None, help="Copy these images, or link to them (default).")
@TABLE_OR_JSON
@click.option("--dry-run", is_flag=True, help="Print the result, write nothing.")
@click.option("--force", is_flag=True, help="Replace a dataset directory that exists.")
def build_coco_lt(
    coco: Path,
    out: Path | None,
    lvis: Path | None,
    reference: str | None,
    targets: str | None,
    edges: str,
    val: Path | None,
    images: Path | None,
    copy_images: bool | None,
    style: str,
    dry_run: bool,
    force: bool,
    **options: Any,
) -> None:
    """Make a long-tailed subset of a COCO-format pool (COCO-LT).

    The category counts of the subset follow those of LVIS: the pool's categories, ranked by instances, are aligned
    with the reference's.
    """
    from lt_data.build.coco_lt import build_coco_lt as build
    from lt_data.build.report import all_warnings, format_build
    from lt_data.build.result import Extras
    from lt_data.build.shortage import ShortageError, shortage_json
    from lt_data.dataset.options import BuildOptions
    from lt_data.groups import parse_edges

    if sum(source is not None for source in (lvis, reference, targets)) > 1:
        raise click.UsageError("--lvis, --reference and --targets exclude each other: each says what to aim at.")
    if out is None and not dry_run:
        raise click.UsageError("Missing option '--out' (or use --dry-run to see the result without writing).")
    if copy_images is not None and images is None:
        raise click.UsageError("--copy and --link say how to put images beside: they need --images.")
    try:
        with Bar("reading", "bytes") as progress:
            built = build(
                coco,
                None if dry_run else out,
                reference=next(source for source in (lvis, reference, "lvis-v0.5") if source is not None),
                targets=targets,
                options=BuildOptions(edges=parse_edges(edges), **options),
                extras=Extras(val, images, bool(copy_images)),
                force=force,
                progress=progress,
            )
    except ShortageError as error:
        if style == "json":
            click.echo(shortage_json(error))
        raise
    for warning in all_warnings(built):
        tell("warning", warning)
    for note in built.image_notes:
        tell("note", note)
    show_text(format_build(built, style), style)
    click.echo("dry run: nothing written" if dry_run else f"written: {out}", err=style == "json")


@main.command(short_help="Count categories, images and instances per group.")
@PATH
@TABLE_CSV_OR_JSON
@GROUPS
@BY
@click.option("--plot", type=FILE, help="Draw the groups as bars too, into this .png or .svg file.")
@click.option(
    "--write", type=FILE, help="Write the groups to this JSON file, which lt-train takes as data.groups=FILE."
)
@click.option("--force", is_flag=True, help="Replace the plot and the JSON file if they exist.")
def group_stats(
    path: Path, style: str, edges: str | None, by: str, plot: Path | None, write: Path | None, force: bool
) -> None:
    """Count categories, images and instances per group. Crowds do not count.

    PATH is a COCO or LVIS annotation file or a dataset directory.
    """
    from lt_data.counts.group_stats import format_stats, write_groups
    from lt_data.counts.group_stats import group_stats as count
    from lt_data.dataset.names import annotations_path
    from lt_data.files.writing import check_output_file
    from lt_data.groups import parse_edges
    from lt_data.pictures.figures import FORMATS, save_figure

    if plot is not None:
        check_output_file(plot, force=force, inputs=[path], suffixes=FORMATS)
    if write is not None:
        check_output_file(write, force=force, inputs=[path, annotations_path(path)])
    with Bar("reading", "bytes") as progress:
        stats = count(path, None if edges is None else parse_edges(edges), by=by, progress=progress)
    if write is not None:
        write_groups(write, stats, force=force)
    show_text(format_stats(stats, style), style)
    if plot is not None:
        from lt_data.pictures.dataset import stats_figure

        save_figure(stats_figure(stats, f"{path.name}: {stats.instances:,} instances"), plot)


@main.command(short_help="Draw a small pool of shapes: nothing to download.")
@click.option("--out", type=FILE, required=True, help="The folder to write: annotations.json and images/.")
@click.option("--images", type=click.IntRange(1), default=200, show_default=True, help="Number of images.")
@click.option("--categories", type=click.IntRange(20, 30), default=24, show_default=True, help="Number of categories.")
@click.option("--size", type=click.IntRange(64, 1024), default=128, show_default=True, help="Image side in pixels.")
@click.option("--uniform", is_flag=True, help="All categories equally often instead of a long tail.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another one draws other images.")
def demo_pool(out: Path, images: int, categories: int, size: int, uniform: bool, seed: int) -> None:
    """Draw a small COCO-format pool of textured shapes: no download, the same for everybody."""
    from lt_data.synthetic.pool import DEFAULT_EXPONENT, write_pool

    with Bar("drawing", "images") as progress:
        progress.step(f"drawing {images:,} images")
        written = write_pool(
            out,
            images=images,
            categories=categories,
            size=size,
            seed=seed,
            progress=progress,
            exponent=0.0 if uniform else DEFAULT_EXPONENT,
        )
    click.echo(f"written: {written}")


main.add_command(import_command)
main.add_command(split)
main.add_command(mend)
main.add_command(merge)
main.add_command(filter_command)


@main.command(short_help="Find every problem in an annotation file.")
@PATH
@click.option("--images", type=FILE, help="Look at the image files in this folder too.")
@click.option("--other", type=FILE, help="A second file (validation beside training): shared images, categories.")
@TABLE_OR_JSON
def check(path: Path, images: Path | None, other: Path | None, style: str) -> None:
    """Find every problem in an annotation file: code, how often, examples, fix. Exit code 1 on errors.

    PATH is a COCO or LVIS annotation file or a dataset directory.
    """
    from lt_data.checks.check import check_file, format_report
    from lt_data.mending.kinds import kinds_for

    # bytes first, then image files
    with Bar("checking", "" if images else "bytes") as progress:
        report = check_file(path, images=images, other=other, progress=progress)
    show_text(format_report(report, style), style)
    kinds = kinds_for(finding.code for finding in report.findings)
    if kinds and style == "table":
        show_text(f"lt-data mend may put some of it right: --fix {','.join(kinds)}")
    exit_unless(not report.has_errors)


@main.command(short_help="Recompute every figure and digest of a dataset directory.")
@click.argument("directory", type=FILE)
@click.option("--pool", type=FILE, help="The annotation file it was made from: checks records and choice too.")
@click.option("--reference", type=FILE, help="The file that the targets came from, if it was a file.")
@TABLE_OR_JSON
def verify(directory: Path, pool: Path | None, reference: Path | None, style: str) -> None:
    """Recompute every figure and digest of a dataset directory. Exit code 1 if anything differs."""
    from lt_data.verify.verify import format_verify, verify_directory

    with Bar("reading", "bytes") as progress:
        report = verify_directory(directory, pool=pool, reference=reference, progress=progress)
    show_text(format_verify(report, style), style)
    exit_unless(not report.problems)


@main.command(short_help="Compare two dataset directories or annotation files.")
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@TABLE_OR_JSON
def diff(a: Path, b: Path, style: str) -> None:
    """Compare two dataset directories or annotation files. Exit code 1 if they differ.

    Records are compared by id and by what they say, not by white space or the order of keys.
    """
    from lt_data.verify.diff import diff_datasets, format_diff

    with Bar("reading", "bytes") as progress:
        difference = diff_datasets(a, b, progress=progress)
    show_text(format_diff(difference, style), style)
    exit_unless(difference.identical)


@main.command(short_help="How often to see each image so that rare categories are seen more.")
@PATH
@click.option(
    "--threshold",
    type=float,
    default=0.001,
    show_default=True,
    help=THRESHOLD.capitalize(),
)
@click.option(
    "--rounding",
    type=click.Choice(["none", "stochastic", "ceil", "bags"]),
    default="none",
    show_default=True,
    help="Whole copies of an image: none, by chance, rounded up, or 1 + rounded up as the released code of BAGS.",
)
@click.option("--instance-aware", is_flag=True, help="IRFS: count instances as well as images.")
@click.option(
    "--exponent",
    type=float,
    default=0.5,
    show_default=True,
    help="Of the factor, up to 1: 0.5 is the published square root; more repeats rare categories more.",
)
@TABLE_CSV_OR_JSON
@click.option("--out", type=FILE, help="Write image_id,repeat_factor to this CSV file, as sampler.factors takes it.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def repeat_factors(
    path: Path,
    threshold: float,
    rounding: str,
    instance_aware: bool,
    exponent: float,
    style: str,
    out: Path | None,
    force: bool,
) -> None:
    """How often each image should be seen per epoch so that rare categories are seen more.

    PATH is a COCO or LVIS annotation file or a dataset directory.
    """
    from lt_data.counts.repeat_factor_table import format_repeat_factors, repeat_factor_table, write_repeat_factors
    from lt_data.files.writing import check_output_file

    if out is not None:
        check_output_file(out, force=force, inputs=[path])
    with Bar("reading", "bytes") as progress:
        table = repeat_factor_table(
            path, threshold, rounding=rounding, instance_aware=instance_aware, exponent=exponent, progress=progress
        )
    if out is not None:
        write_repeat_factors(out, table, force=force)
    show_text(format_repeat_factors(table, style), style)


@main.command(short_help="Loss weights by inverse count or effective number.")
@PATH
@click.option(
    "--kind",
    type=click.Choice(["inverse", "effective-number"]),
    default="inverse",
    show_default=True,
    help="1 / n, or (1 - beta) / (1 - beta^n), of a class with n instances.",
)
@click.option("--beta", type=float, default=0.999, show_default=True, help="For the effective number, 0 <= beta <= 1.")
@click.option("--power", type=float, default=1.0, show_default=True, help="Of the inverse count: 1 / n^power.")
@click.option("--lower", type=float, help="Smallest weight  [default: no bound].")
@click.option("--upper", type=float, help="Largest weight  [default: no bound].")
@click.option("--background", type=float, default=1.0, show_default=True, help="Weight of the background.")
@click.option("--background-ratio", type=float, help="Count the background as so many times all instances instead.")
@click.option(
    "--method",
    type=click.Choice(REWEIGHTED),
    help="The weights that lt-train uses with this method; the options above change them.",
)
@click.option("--variant", type=click.Choice(VARIANTS), help="Of --method  [default: equal].")
@TABLE_CSV_OR_JSON
def class_weights(path: Path, method: str | None, variant: str | None, style: str, **options: Any) -> None:
    """Loss weights by inverse count or effective number, with mean 1 over the classes that have instances.

    PATH is a COCO or LVIS annotation file or a dataset directory.
    """
    from lt_data.counts.class_weights import class_weight_table, format_class_weights

    if variant is not None and method is None:
        raise click.UsageError("--variant is of a method; give --method too.")
    if method is not None:
        source = click.get_current_context().get_parameter_source
        typed = {key: value for key, value in options.items() if source(key) is not ParameterSource.DEFAULT}
        options = {**_weights_of(method, variant or "equal"), **typed}
    with Bar("reading", "bytes") as progress:
        table = class_weight_table(path, **options, progress=progress)
    show_text(format_class_weights(table, style), style)


def _weights_of(method: str, variant: str) -> dict[str, Any]:
    """Options of ``class_weight_table`` as a method of lt-train has them."""
    if importlib.util.find_spec("pydantic") is None:
        raise click.ClickException(f"--method needs pydantic, not installed; run: {install_command('train')}")
    from lt_train.recipe.load import class_weight_options

    return class_weight_options(method, variant)


main.add_command(plot)
main.add_command(show)


def exit_unless(good: bool) -> None:
    """Leaves with exit code 1 if a check failed."""
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
