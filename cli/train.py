"""``lt-train``: train and evaluate detectors on long-tailed data."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from .options import CommandGroup, error_lines

FILE = click.Path(path_type=Path)
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
PACKAGES = ("torch", "torchvision", "pydantic", "yaml", "tensorboard")


class TrainGroup(CommandGroup):
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


class FitCommand(click.Command):
    """Lets ``--resume`` stand alone: only ``auto`` or ``=PATH`` is taken for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Writes a bare ``--resume`` out."""
        spelled = []
        for word, following in zip(args, [*args[1:], ""], strict=True):
            spelled.append("--resume=always" if word == "--resume" and following != "auto" else word)
        return super().parse_args(ctx, spelled)


@main.command(cls=FitCommand)
@click.argument("recipe", metavar="RECIPE")
@OVERRIDES
@click.option("--out", type=FILE, help="The run directory to write.")
@click.option("--init-from", type=FILE, help="Start from the weights of this run or checkpoint (stage 2 of BAGS).")
@click.option(
    "--resume",
    metavar="[auto|=RUN]",
    help="Continue the run in --out (or in RUN); auto starts it if there is none yet.",
)
@click.option("--force", is_flag=True, help="Replace a run that exists.")
def fit(
    recipe: str, overrides: tuple[str, ...], out: Path | None, init_from: Path | None, resume: str | None, force: bool
) -> None:
    """Train a RECIPE (a shipped name or a YAML file), with dotted overrides such as optim.lr=0.02."""
    from lt_train.recipe import load_recipe

    if resume and force:
        raise click.UsageError("--resume and --force exclude each other: one keeps the run, the other replaces it.")
    if resume not in (None, "always", "auto"):
        if out is not None:
            raise click.UsageError("--resume=RUN names the run already; leave out --out.")
        out = Path(resume)
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    with error_lines():
        loaded = load_recipe(recipe, overrides)
        from lt_train.engine.fit import fit as train
        from lt_train.engine.run_dir import RunDir

        start = resume is None or (resume == "auto" and not RunDir(out).last.is_file())
        train(loaded, out, init_from=init_from, resume=not start, force=force)
        click.echo(f"written: {out}")


@main.command(name="eval")
@click.argument("run", type=FILE)
@click.option("--checkpoint", type=click.Choice(["last", "best"]), default="last", show_default=True)
@click.option("--annotations", type=FILE, help="Evaluate on this file instead of the recipe's data.val.")
@click.option("--images", type=FILE, help="Its image folder.")
@click.option("--out", type=FILE, help="Where to write  [default: RUN/eval, which is renewed; else RUN/eval-...].")
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
    if (annotations is None) != (images is None):
        raise click.UsageError("--annotations and --images belong together: give both or neither.")
    with error_lines():
        from lt_train.engine.evaluate import evaluate_run
        from lt_train.recipe import Files

        files = Files(annotations=annotations, images=images) if annotations and images else None
        measured, where = evaluate_run(run, checkpoint=checkpoint, files=files, out=out, device=device, force=force)
        click.echo(measured.text)
        click.echo(f"written: {where}")


@main.command()
def methods() -> None:
    """List the methods: what each does, where it comes from, what it needs."""
    from lt_train.methods import format_methods

    click.echo(format_methods())
