"""``lt-train``: train and evaluate detectors on long-tailed data."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lt_data import __version__
from lt_train.recipe.methods import METHODS

from .calibrating import calibrate
from .drafting import init
from .evaluating import CONFUSION_SCORE, evaluate_results, evaluate_several, show_measured
from .features import FROM_FEATURES, cache_command
from .options import (
    HELP,
    OTHER_TRAIN_COMMANDS,
    RESUMABLE,
    CommandGroup,
    FilePath,
    GroupsOption,
    show_text,
)
from .options import stop as end
from .predicting import predict
from .processes import PROCESSES, spread
from .recipes import (
    OVERRIDES,
    ROOT,
    ConfigGroup,
    FitCommand,
    OverriddenCommand,
    need_packages,
    need_training,
    with_method,
)
from .studies import reproduce, sweep

FILE = FilePath()
METHOD = click.option("--method", help="One of lt-train methods: short for method=METHOD.")


@click.group(
    cls=CommandGroup,
    other_names=OTHER_TRAIN_COMMANDS,
    context_settings=HELP,
)
@click.version_option(__version__, prog_name="lt-train")
def main() -> None:
    """Train torchvision detectors on long-tailed data and measure AP per group."""
    if logging.lastResort:
        logging.lastResort.setFormatter(logging.Formatter("warning: %(message)s"))


@main.command(short_help="Everything once in a few minutes, without any download.")
@click.option("--out", type=FILE, help="New directory  [default: runs/quickstart, or the next free number].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="First seed.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="How many seeds to run.")
@click.option("--iterations", type=click.IntRange(10), help="Steps of the baseline  [default: the recipe's].")
@click.option("--device", help="auto, cpu, cuda or cuda:N  [default: cpu, for which the figures are recorded].")
def quickstart(out: Path | None, **options: Any) -> None:
    """Everything once in a few minutes, without any download.

    Draws a small long-tailed dataset, trains a softmax baseline and BAGS on it, and compares their AP per group.
    """
    need_training()
    from lt_train.quickstart import quickstart as run

    directory, table = run(out, **options)
    show_text(table)
    click.echo(f"\nwritten: {directory}")


@main.command(cls=FitCommand, short_help="Train a recipe, with overrides such as method=bags.")
@click.argument("recipe", metavar="RECIPE")
@OVERRIDES
@METHOD
@click.option("--out", type=FILE, help="The run directory to write.")
@click.option("--init-from", type=FILE, help="Start from the weights of this run or checkpoint (stage 2 of BAGS).")
@click.option(
    "--resume",
    metavar="[auto|=RUN]",
    help="Continue the run in --out (or in RUN); auto starts it if it has no checkpoint yet.",
)
@click.option("--force", is_flag=True, help="Replace a run that exists.")
@ROOT
@FROM_FEATURES
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what would be done, read up to 100 images, take five timed steps, write nothing; --out is ignored.",
)
@PROCESSES
def fit(
    recipe: str,
    overrides: tuple[str, ...],
    method: str | None,
    out: Path | None,
    init_from: Path | None,
    resume: str | None,
    force: bool,
    root: Path | None,
    from_features: Path | None,
    dry_run: bool,
    processes: int | None,
) -> None:
    """Train a RECIPE (a shipped name or a YAML file), with dotted overrides such as optim.lr=0.02 or method=bags.

    Leaves with 0 when done, 1 if the input is wrong, 2 for mistakes in usage, 75 if interrupted and resumable.
    """
    overrides = with_method(overrides, method)
    if dry_run:
        if resume is not None or force:
            raise click.UsageError("--dry-run writes nothing and starts anew; leave out --resume and --force.")
        if from_features is not None:
            raise click.UsageError("--dry-run times steps on images; leave out --from-features.")
        if processes is not None:
            raise click.UsageError("--dry-run takes its steps in one process; leave out --processes.")
        _dry_run(recipe, overrides, init_from, root)
        return
    how: Any = "never" if resume is None else resume
    if resume not in (None, "always", "auto"):
        if out is not None:
            raise click.UsageError("--resume=RUN names the run already; leave out --out.")
        if not resume:
            raise click.UsageError("--resume= names no run; give one, or leave the value out.")
        out, how = Path(resume), "always"
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    if resume is not None and force:
        raise click.UsageError("--resume and --force exclude each other: one keeps the run, the other replaces it.")
    need_training()
    spread(processes)
    from lt_train.engine.interrupts import Interrupted
    from lt_train.engine.start import start_or_resume

    try:
        options: dict[str, Any] = {"init_from": init_from, "force": force, "root": root}
        done = start_or_resume(recipe, overrides, out, resume=how, from_features=from_features, **options)
    except Interrupted as stop:
        end(f"{out}: interrupted {stop}", code=RESUMABLE)
    if done:
        click.echo(f"written: {out}")


def _dry_run(recipe: str, overrides: tuple[str, ...], init_from: Path | None, root: Path | None) -> None:
    need_training()
    from lt_train.recipe.origins import resolve

    loaded, settings, notes = resolve(recipe, overrides, root=root)
    from lt_train.trials.dry_run import dry_run

    for line in dry_run(loaded, settings, init_from=init_from, notes=notes):
        show_text(line)


def _refuse_wrong_company(given: Mapping[str, Any]) -> None:
    """Refuses options of ``eval`` that do not go together.

    Raises:
        click.UsageError: For the first of them.
    """
    runs, predictions, features = given["runs"], given["predictions"], given["from_features"]
    annotations, images, several = given["annotations"], given["images"], len(given["runs"]) > 1
    of_run = any(given[name] for name in ("checkpoint", "device", "root", "scores"))
    wrong = (
        (bool(runs) == (predictions is not None), "Give a RUN, or --predictions with --annotations."),
        (
            predictions is not None and (annotations is None or images is not None),
            "--predictions needs --annotations, and no --images.",
        ),
        (
            predictions is not None and given["processes"] is not None,
            "--processes is for a RUN: --predictions are there already.",
        ),
        (
            predictions is not None and of_run,
            "--checkpoint, --device, --root and --scores are for a RUN: --predictions need none of them.",
        ),
        (
            (several or given["missing"]) and features is None,
            "Several RUNs, and --missing, need --from-features of the run that they start from.",
        ),
        (
            several and given["out"] is not None,
            "--out is for one RUN: what several have found is written to the eval of each.",
        ),
        (given["missing"] and given["out"] is not None, "--missing looks at RUN/eval: leave --out out."),
        (
            given["scores"] and features is not None,
            "--scores is for a second head, which --from-features are not kept of: leave one out.",
        ),
        (
            features is not None and (not runs or annotations is not None),
            "--from-features is for a RUN and its own validation data.",
        ),
        (
            bool(runs) and (annotations is None) != (images is None),
            "--annotations and --images belong together: give both or neither.",
        ),
        (
            bool(runs) and given["train_counts"] is not None,
            "--train-counts is for --predictions: a RUN knows what it was trained on.",
        ),
        (
            given["match"] is not None and given["train_counts"] is None,
            "--match is for --train-counts: it says how categories are found there.",
        ),
    )
    for is_wrong, says in wrong:
        if is_wrong:
            raise click.UsageError(says)


@main.command(name="eval", short_help="Measure AP of boxes and masks: overall, per group, per class.")
@click.argument("runs", type=FILE, nargs=-1, metavar="[RUN]...")
@click.option("--predictions", type=FILE, help="Measure this COCO results file of any framework instead of a RUN.")
@click.option("--annotations", type=FILE, help="What to measure against  [default: the recipe's data.val].")
@click.option("--images", type=FILE, help="Image folder of --annotations, for a RUN.")
@click.option("--checkpoint", type=click.Choice(["last", "best"]), help="For a RUN  [default: last].")
@click.option("--train-counts", type=FILE, help="For --predictions: the training set, as a directory, file or CSV.")
@click.option(
    "--match",
    type=click.Choice(["ids", "names"]),
    help="How --train-counts finds its categories  [default: ids, same names].",
)
@click.option(
    *("--groups", "--edges", "groups"),
    cls=GroupsOption,
    help="A preset, bounds such as 10,100,1000, a groups file or coco-lt-paper  "
    "[default: the run's or the dataset directory's, else bags].",
)
@click.option("--protocol", type=click.Choice(["auto", "coco", "lvis"]), default="auto", show_default=True)
@click.option("--engine", type=click.Choice(["auto", "fast", "official"]), default="auto", show_default=True)
@click.option("--fixed-ap", is_flag=True, help="Add AP with 10,000 detections per class over all images.")
@CONFUSION_SCORE
@click.option("--boxes-only", is_flag=True, help="Measure no masks, for annotations that have none.")
@click.option("--skip-invalid", is_flag=True, help="Leave out invalid predictions instead of refusing all.")
@click.option("--out", type=FILE, help="Where to write  [default: RUN/eval, which is renewed; else RUN/eval-...].")
@click.option("--device", help="For a RUN: auto, cpu, cuda or cuda:N  [default: the recipe's].")
@click.option(
    "--scores",
    type=click.Choice(["dual", "calibrated", "original"]),
    help="For a RUN with a second head: both heads, or one alone  [default: the recipe's].",
)
@click.option("--force", is_flag=True, help="Replace an evaluation that exists.")
@ROOT
@FROM_FEATURES
@click.option("--missing", is_flag=True, help="With --from-features: leave out a RUN that is measured already.")
@PROCESSES
def evaluate(
    runs: tuple[Path, ...],
    predictions: Path | None,
    annotations: Path | None,
    images: Path | None,
    checkpoint: str | None,
    train_counts: Path | None,
    match: str | None,
    groups: str | None,
    out: Path | None,
    device: str | None,
    scores: Any,
    force: bool,
    root: Path | None,
    from_features: Path | None,
    missing: bool,
    processes: int | None,
    **options: Any,
) -> None:
    """Measure AP of boxes and masks (--boxes-only: of boxes), overall, per group and per class.

    Of a RUN, or of a results file (--predictions, --annotations), which needs no PyTorch. Several RUNs are measured in
    one pass over the images --from-features of the run that they start from.
    """
    _refuse_wrong_company(click.get_current_context().params)
    run = runs[0] if runs else None
    from lt_train.evaluation.measure import Choices

    choices = Choices(fixed=options.pop("fixed_ap"), **options)
    if predictions is not None and annotations is not None:
        trained_on = {"train_counts": train_counts, "match": match}
        evaluate_results(predictions, annotations, trained_on, groups, choices, out, force)
        return
    need_training()
    spread(processes)
    from lt_train.recipe.sections import Files

    assert run is not None
    files = Files(annotations=annotations, images=images) if annotations and images else None
    how: dict[str, Any] = {"groups": groups, "choices": choices, "device": device, "force": force}
    how |= {"checkpoint": checkpoint or "last", "root": root}
    if from_features is not None and (len(runs) > 1 or missing):
        evaluate_several(runs, from_features, missing=missing, **how)
        return
    how |= {"files": files, "out": out}
    if from_features is not None:
        from lt_train.features.systems import evaluate_from_features

        finished = evaluate_from_features(run, from_features, **how)
    else:
        from lt_train.inference.evaluate_run import evaluate_run

        finished = evaluate_run(run, **how, scores=scores)
    if finished is not None:
        show_measured(*finished)


main.add_command(predict)


@main.command(short_help="Compare evaluated runs: differences and which are noise.")
@click.argument("systems", type=FILE, nargs=-1, required=True, metavar="A B ...")
@click.option("--annotations", type=FILE, help="Where the annotation file or dataset is now  [default: where it was].")
@click.option("--resamples", type=click.IntRange(1), default=1000, show_default=True, help="Of the paired bootstrap.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--paper", type=click.Choice(["coco-lt", "lvis"]), help="Print published rows beside ours.")
@click.option("--format", "style", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def compare(systems: tuple[Path, ...], **options: Any) -> None:
    """Compare evaluated runs A, B, ... with the first: differences of AP, groups and classes, and which are noise."""
    from lt_train.evaluation.comparison.compare import compare_evaluations

    show_text(compare_evaluations(systems, **options).removesuffix("\n"), options["style"])


main.add_command(calibrate)
main.add_command(init)


main.add_command(cache_command)
main.add_command(sweep)
main.add_command(reproduce)


@main.command(short_help="List the methods by kind, or show one.")
@click.argument("name", required=False, type=click.Choice([*METHODS]), metavar="[METHOD]")
def methods(name: str | None) -> None:
    """List the methods by kind: what each does.

    With METHOD: what it does, trains and needs, its source, and what was published of it.
    """
    from lt_train.report.methods import format_method, format_methods

    show_text(format_methods() if name is None else format_method(name))


@main.command(short_help="Try out what this machine has for a run.")
def doctor() -> None:
    """Try out what this machine has: versions, devices, shared memory, decoding, one training step on each device."""
    need_training()
    from lt_train.trials.doctor import examine, format_finding

    broken = False
    for finding in examine():
        broken = broken or finding.state == "broken"
        show_text(format_finding(finding))
    if broken:
        raise SystemExit(1)


@main.command(name="replay", short_help="Take a step again whose loss was not finite.")
@click.argument("step", type=FILE)
@click.option("--device", help="auto, cpu, cuda or cuda:N  [default: the recipe's].")
def replay_step(step: Path, device: str | None) -> None:
    """Take STEP (RUN/debug/step-N) again, and name the first module whose output is not finite, and the images."""
    need_training()
    from lt_train.trials.replay import replay

    for line in replay(step, device=device):
        show_text(line)


@main.group(cls=ConfigGroup)
def config() -> None:
    """Look at recipes."""


@config.command(name="show", cls=OverriddenCommand, short_help="Show every value of a recipe and its origin.")
@click.argument("recipe", metavar="RECIPE")
@OVERRIDES
@METHOD
@click.option("--yaml", "as_yaml", is_flag=True, help="A complete recipe file instead, without origins.")
def show_config(recipe: str, overrides: tuple[str, ...], method: str | None, as_yaml: bool) -> None:
    """Every value of a RECIPE with its origin: command line, recipe, method or default."""
    need_packages()
    from lt_train.recipe.origins import format_settings, format_yaml, resolve

    loaded, settings, notes = resolve(recipe, with_method(overrides, method))
    for note in notes:
        click.echo(note, err=True)
    if as_yaml:
        click.echo(format_yaml(loaded), nl=False)
    else:
        show_text(format_settings(settings))


@main.command(short_help="List the recipes that come with the package.")
@click.argument("text", required=False)
def recipes(text: str | None) -> None:
    """List the recipes that come with the package, those with TEXT in their name if given.

    A recipe is a data set and a detector; each takes any of lt-train methods as method=METHOD.
    """
    need_packages()
    from lt_train.recipe.load import recipe_names

    click.echo("\n".join(recipe_names(text or "")))


if __name__ == "__main__":
    main()
