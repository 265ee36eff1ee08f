"""``lt-train sweep`` and ``lt-train reproduce``: many runs in one command, and the table of what they gave."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lt_data.terminal import say

from .features import refuse_unused_pool
from .options import RESUMABLE, FilePath, leave, show_text, tell
from .recipes import OVERRIDES, OverriddenCommand, need_packages, need_training

if TYPE_CHECKING:
    from lt_train.recipe.method import Variant
    from lt_train.studies.costs import Rates
    from lt_train.studies.study import Finished, Study

FILE = FilePath()
STUDIES = ("coco-lt", "lvis-v0.5", "lvis-v1", "demo", "groceries")
# of the demo, each of which needs about a gigabyte of memory
MOST_JOBS = 8
MINUTES = click.option("--minutes", type=click.FloatRange(0), help="End after so long  [default: when all is done].")
PROCESSES = click.option(
    "--processes", type=click.IntRange(1), help="Share each training and evaluation among so many processes."
)
JOBS = click.option(
    "--jobs", type=click.IntRange(1), help="Steps that may run at once  [default: 1; demo: one a core, 8 at most]."
)


@click.command(cls=OverriddenCommand, short_help="Train many methods from one run's features, and compare them.")
@OVERRIDES
@click.option("--init-from", "run", type=FILE, required=True, help="The trained run that all start from.")
@click.option(
    "--methods",
    required=True,
    help="classifier-only, post-hoc, or names of lt-train methods, with commas.",
)
@click.option("--out", type=FILE, required=True, help="Folder for features, runs and table; what is done stays.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Of the second stage: 0, 1, ...")
@click.option("--grid", multiple=True, metavar="KEY=A,B,...", help="A key that takes several values in turn.")
@click.option("--pool", type=click.IntRange(1), default=1024, show_default=True, help="Regions of an image, see cache.")
@click.option("--exact", is_flag=True, help="Features of every region, in float32.")
@MINUTES
@JOBS
@PROCESSES
def sweep(
    overrides: tuple[str, ...],
    run: Path,
    methods: str,
    out: Path,
    seeds: int,
    grid: tuple[str, ...],
    pool: int,
    exact: bool,
    minutes: float | None,
    jobs: int | None,
    processes: int | None,
) -> None:
    """Train METHODS from the features of one run with several seeds, evaluate all, and write one table.

    Interrupted, or out of minutes, the same command goes on. A method that fails is named and does not stop the rest.
    """
    refuse_unused_pool(exact=exact)
    need_training()
    from lt_train.studies.sweep import parse_grid, plan_sweep

    study = plan_sweep(
        run,
        out,
        _words(methods),
        seeds=seeds,
        grid=[parse_grid(text) for text in grid],
        overrides=overrides,
        pool=pool,
        exact=exact,
    )
    _end(study, _run(study, minutes, jobs, processes))


@click.command(cls=OverriddenCommand, short_help="Run the tables of the literature, in dependency order.")
@click.argument("what", metavar="|".join(STUDIES), type=click.Choice(STUDIES))
@OVERRIDES
@click.option("--out", type=FILE, help="Folder for runs and tables  [default: runs/reproduce-WHAT].")
@click.option("--rows", help="Of a paper: numbers, tables and names, with commas  [default: all].")
@click.option(
    "--variant",
    type=click.Choice(["equal", "code", "text"]),
    help="Of a paper: one budget for all, or what its released code or its text does  [default: equal].",
)
@click.option("--detector", help="Of a paper: the fourteen methods with another one, such as htc_x101_64x4d_fpn.")
@click.option("--methods", help="Of demo and groceries: rows, with commas  [default: all]; what they start from too.")
@click.option("--seeds", type=click.IntRange(1), help="How many: 0, 1, ...  [default: 1; groceries: 3].")
@click.option("--data", "clone", type=FILE, help="Of groceries: the clone with the photographs.")
@click.option("--tiny", is_flag=True, help="Of demo: a rehearsal, whose figures say nothing.")
@click.option("--plan", is_flag=True, help="Print steps, hours and disk; run nothing.")
@MINUTES
@JOBS
@PROCESSES
def reproduce(
    what: str,
    overrides: tuple[str, ...],
    out: Path | None,
    minutes: float | None,
    jobs: int | None,
    processes: int | None,
    plan: bool,
    **options: Any,
) -> None:
    """Run the tables of BAGS on COCO-LT or LVIS, or every method on photographs (groceries) or a drawn pool (demo).

    Interrupted, or out of minutes, the same command goes on; what is done is left alone.
    """
    _check_options(what, options)
    need_packages()
    detector = options["detector"]
    out = out or Path("runs") / "-".join(filter(None, ("reproduce", what, detector)))
    if what in ("demo", "groceries"):
        _reproduce_methods(what, overrides, out, minutes, jobs, processes, plan, options)
    else:
        _reproduce_paper(what, overrides, out, minutes, jobs, processes, plan, options)


def _check_options(what: str, options: dict[str, Any]) -> None:
    of_paper, of_methods = ("rows", "variant", "detector"), ("methods",)
    wrong = {
        "demo": (*of_paper, "clone"),
        "groceries": (*of_paper, "tiny"),
    }.get(what, (*of_methods, "clone", "tiny"))
    for name in wrong:
        if options[name]:
            raise click.UsageError(f"--{'data' if name == 'clone' else name} is not for reproduce {what}.")
    if what == "groceries" and options["clone"] is None:
        raise click.UsageError("Missing option '--data': the clone with the photographs.")


def _reproduce_methods(
    what: str,
    overrides: tuple[str, ...],
    out: Path,
    minutes: float | None,
    jobs: int | None,
    processes: int | None,
    plan: bool,
    options: dict[str, Any],
) -> None:
    from lt_train.launch import usable_cores
    from lt_train.studies import costs, demo, groceries
    from lt_train.studies.entries import chosen
    from lt_train.studies.reproduce import demo_study, groceries_study

    methods, seeds = _words(options["methods"] or ""), options["seeds"]
    rates: Rates = costs.ESTIMATED
    if what == "demo":
        size, rates = (demo.TINY if options["tiny"] else demo.FULL), demo.RATES
        study = demo_study(out, methods=methods, seeds=seeds or 1, size=size, overrides=overrides)
    else:
        # before anything is imported
        chosen(groceries.entries(), methods)
        data = (groceries.places if plan else groceries.prepare)(options["clone"], out.resolve() / "data")
        rates = groceries.RATES
        study = groceries_study(data, out, methods=methods, seeds=seeds or 3, overrides=overrides)
    if what == "demo":
        jobs = jobs or min(usable_cores(), MOST_JOBS)
    if plan:
        _show_plan(study, rates, of="core", jobs=jobs)
        return
    need_training()
    _end(study, _run(study, minutes, jobs, processes))


def _reproduce_paper(
    what: Any,
    overrides: tuple[str, ...],
    out: Path,
    minutes: float | None,
    jobs: int | None,
    processes: int | None,
    plan: bool,
    options: dict[str, Any],
) -> None:
    from lt_train.studies.beside import write_beside
    from lt_train.studies.paper import choose_rows, detector_recipe, detector_rows, paper_rows
    from lt_train.studies.reproduce import check_files, paper_study

    detector: str | None = options["detector"]
    variant: Variant = options["variant"] or "equal"
    recipe = detector_recipe(what, detector)
    there = detector_rows(detector, what, variant) if detector else paper_rows(what, variant)
    rows = choose_rows(there, _words(options["rows"] or ""))
    study = paper_study(what, rows, out, recipe=recipe, seeds=options["seeds"] or 1, overrides=overrides)
    if plan:
        missing = _missing(partial(check_files, recipe, rows, study, overrides))
        _show_plan(study, jobs=jobs)
        if detector:
            click.echo(f"estimated hours are those of ResNet-50; {detector} takes others, which finished steps tell")
        for problem in missing:
            tell("missing", problem)
        return
    check_files(recipe, rows, study, overrides)
    need_training()
    finished = _run(study, minutes, jobs, processes)
    beside = write_beside(study, rows)
    _end(study, finished, beside)


def _missing(check: Callable[[], None]) -> tuple[str, ...]:
    from lt_data.errors import DataError

    try:
        check()
    except DataError as error:
        return tuple(error.problems)
    return ()


def _show_plan(study: Study, rates: Rates | None = None, of: str = "GPU", jobs: int | None = None) -> None:
    from lt_train.studies.costs import ESTIMATED
    from lt_train.studies.plan import format_plan

    # commands are there to be typed: no line of them is broken
    click.echo(format_plan(study, ESTIMATED if rates is None else rates, of=of, jobs=jobs or 1))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _run(study: Study, minutes: float | None, jobs: int | None, processes: int | None) -> Finished:
    from lt_train.launch import refuse_several
    from lt_train.studies.commands import Command, shares
    from lt_train.studies.study import run_study

    refuse_several("a study of many runs")
    commands = {f"lt-{name}": (sys.executable, "-m", f"{__package__}.{name}") for name in ("data", "train")}
    start = partial(Command, commands=commands, processes=processes, environments=shares(jobs or 1, processes))
    return run_study(study, minutes=minutes, start=start, jobs=jobs or 1, tell=say)


def _end(study: Study, finished: Finished, beside: str = "") -> None:
    """Shows what came of it; leaves with 1 if something failed, 75 if the same command goes on."""
    # a table in Markdown, whose lines are not broken
    show_text("\n\n".join(filter(None, (finished.text, beside))), "markdown")
    click.echo(f"\nwritten: {study.out}")
    for line in finished.failed:
        tell("error", line)
    if finished.stopped:
        click.echo("ended before everything was done; the same command goes on", err=True)
    if finished.failed or finished.stopped:
        leave(code=1 if finished.failed else RESUMABLE)
    return
