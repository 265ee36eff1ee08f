"""``lt-train``: train and evaluate detectors on long-tailed data."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from .options import error_lines

FILE = click.Path(path_type=Path)
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
PACKAGES = ("torch", "torchvision", "pydantic", "yaml", "tensorboard", "hotcoco")


class TrainGroup(click.Group):
    """Says in one line what is missing when the package was installed without training."""

    def invoke(self, ctx: click.Context) -> object:
        """Checks for the training packages, then runs the command."""
        if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
            raise click.ClickException(
                f"lt-train needs {', '.join(missing)}, not installed here; run: pip install 'lt-detection[train]'"
            )
        return super().invoke(ctx)


@click.group(cls=TrainGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="lt-detection")
def main() -> None:
    """Train torchvision detectors on long-tailed data and measure AP per group."""


@main.command()
@click.option("--out", type=FILE, help="New directory  [default: runs/quickstart, or the next free number].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="First seed.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="How many seeds to run.")
@click.option("--iterations", type=click.IntRange(10), help="Steps of the baseline  [default: the recipe's].")
def quickstart(out: Path | None, seed: int, seeds: int, iterations: int | None) -> None:
    """Everything once in a few minutes, without any download.

    Draws a small long-tailed dataset, trains a softmax baseline and BAGS on it, and compares their AP per group.
    """
    from lt_train.quickstart import quickstart as run

    with error_lines():
        directory, table = run(out, seed=seed, seeds=seeds, iterations=iterations)
        click.echo(table)
        click.echo(f"\nwritten: {directory}")


@main.command()
@click.argument("recipe", metavar="RECIPE")
@OVERRIDES
@click.option("--out", type=FILE, required=True, help="The run directory to write.")
@click.option("--init-from", type=FILE, help="Start from the weights of this run or checkpoint (stage 2 of BAGS).")
@click.option(
    "--resume",
    is_flag=False,
    flag_value="always",
    type=click.Choice(["always", "auto"]),
    help="Continue the run in --out; auto starts it if there is none.",
)
@click.option("--force", is_flag=True, help="Replace a run that exists.")
def fit(
    recipe: str, overrides: tuple[str, ...], out: Path, init_from: Path | None, resume: str | None, force: bool
) -> None:
    """Train a RECIPE (a shipped name or a YAML file), with dotted overrides such as optim.lr=0.02."""
    from lt_train.engine.fit import fit as train
    from lt_train.engine.run_dir import RunDir
    from lt_train.recipe import load_recipe

    if resume and force:
        raise click.UsageError("--resume and --force exclude each other: one keeps the run, the other replaces it.")
    with error_lines():
        resuming = resume == "always" or (resume == "auto" and RunDir(out).last.is_file())
        train(
            load_recipe(recipe, overrides),
            out,
            init_from=init_from,
            resume=resuming,
            force=force or (resume == "auto" and not resuming),
        )
        click.echo(f"written: {out}")


@main.command(name="eval")
@click.argument("run", type=FILE)
@click.option("--checkpoint", type=click.Choice(["last", "best"]), default="last", show_default=True)
@click.option("--annotations", type=FILE, help="Evaluate on this file instead of the recipe's data.val.")
@click.option("--images", type=FILE, help="Its image folder.")
@click.option("--out", type=FILE, help="Where to write  [default: inside RUN].")
@click.option("--device", help="auto, cpu, cuda or cuda:N  [default: the recipe's].")
@click.option("--force", is_flag=True, help="Replace an evaluation that exists.")
def evaluate(
    run: Path,
    checkpoint: str,
    annotations: Path | None,
    images: Path | None,
    out: Path | None,
    device: str | None,
    force: bool,
) -> None:
    """Evaluate a RUN: AP of boxes and masks, overall and per group of the training counts."""
    from lt_train.engine.evaluate import evaluate_run
    from lt_train.recipe import Files

    if (annotations is None) != (images is None):
        raise click.UsageError("--annotations and --images belong together: give both or neither.")
    with error_lines():
        files = Files(annotations=annotations, images=images) if annotations and images else None
        measured, where = evaluate_run(run, checkpoint=checkpoint, files=files, out=out, device=device, force=force)
        click.echo(measured.text)
        click.echo(f"written: {where}")


@main.command()
def methods() -> None:
    """List the methods: what each does, where it comes from, what it needs."""
    from lt_train.methods import format_methods

    click.echo(format_methods())
