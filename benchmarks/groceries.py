"""Every method on Groceries-LT: real photographs, a real long tail, on a laptop.

    git clone https://github.com/aleksandar-aleksandrov/groceries-object-detection-dataset
    pip install '.[train,lite]'
    python benchmarks/groceries.py --data groceries-object-detection-dataset [--minutes 60] [--methods bags,rfs]

What ``lt-train reproduce groceries`` does, and beside it a picture of AP per group and one of predictions. All methods
see as many images as the baseline, but for three whose source says otherwise (docs/methods.md). Whenever it ends, by
--minutes or Ctrl-C, the same command goes on.

--record puts the figures of the rows asked for into benchmarks/results/groceries.csv, where those of other runs and
seeds stay, and makes the pictures in docs/images and the table in docs/methods.md of all that is recorded. What they
start from and was not asked for goes into groceries_starts.csv where its figures are not the recorded ones.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import click
from common.commands import ended_by_sigterm, leave, own_commands, run_options
from common.group_table import best_runs, plot_groups

from lt_data import LtError
from lt_data.dataset.directory import read_groups
from lt_data.files.writing import write_whole
from lt_data.terminal import say
from lt_train.report.sample_predictions import plot_sample_predictions
from lt_train.studies.agreement import format_agreement
from lt_train.studies.entries import chosen
from lt_train.studies.groceries import RECIPE, GroceriesLT, entries, prepare
from lt_train.studies.reproduce import groceries_study
from lt_train.studies.study import FIGURES, Finished, Study, csv_of, draw_methods, run_study
from lt_train.studies.table import Row, markdown

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "groceries.csv"
STARTS = RESULTS.with_name("groceries_starts.csv")
DOCS = ROOT / "docs" / "methods.md"
BEGIN, END = ("<!-- figures of benchmarks/groceries.py --record -->", "<!-- end of the figures -->")
FIGURE = ROOT / "docs" / "images" / "groceries_group_ap.png"
ALL_METHODS = FIGURE.with_name("groceries_methods.png")
SHOWN = 3


def read_figures(path: Path) -> list[Row]:
    """Rows of a CSV file; none before the first run is finished."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def classes_of(data: GroceriesLT) -> dict[str, int]:
    """Classes of each group by its name, the rarest first."""
    return {group.name: len(group.category_ids) for group in read_groups(data.train)[1]}


def draw(study: Study, data: GroceriesLT) -> None:
    """AP per group of the best runs, and predictions of the best one beside the baseline's."""
    rows = read_figures(study.out / FIGURES)
    if not rows:
        return
    draw_groups(study.out / "group_ap.png", rows, classes_of(data), first=study.baseline)
    of_first_seed = [row for row in rows if row["seed"] == "0"]
    first = [name for name in (study.baseline,) if name in {row["run"] for row in rows}]
    drawn = [*first, *best_runs(of_first_seed, 1, without=first)]
    plot_sample_predictions(
        study.out / "predictions.png",
        annotations=data.val,
        images=data.images,
        predictions={name: study.out / "seed-0" / name / "eval" / "predictions.json" for name in drawn},
        dataset=data.train,
    )


def draw_groups(path: Path, rows: Sequence[Row], classes: Mapping[str, int], *, first: str) -> None:
    """AP per group of the baseline, of what trains as long again, and of the best others."""
    there = {row["run"] for row in rows}
    compared = [name for name in (first, "x2") if name in there]
    runs = [*compared, *best_runs(rows, SHOWN, without=compared)]
    plot_groups(path, rows, runs, ["AP", *classes], classes)


def record_asked(study: Sequence[Row], names: Collection[str], classes: Mapping[str, int], *, first: str) -> list[str]:
    """Records the rows asked for; lines on those that stand beside another start than their own.

    Args:
        study: All rows of the study.
        names: Which of them; all without names.
        classes: Classes of each group by its name.
        first: The baseline.
    """
    before = read_figures(RESULTS)
    asked = [row for row in study if not names or row["run"] in names]
    record_figures(asked, classes, first=first)
    after = read_figures(RESULTS)
    if apart := [row for row in study if row not in after]:
        write_whole(STARTS, csv_of(apart))
    return other_starts(asked, study, before, after)


def record_figures(rows: Sequence[Row], classes: Mapping[str, int], *, first: str) -> None:
    """Adds rows to those that are recorded, and makes pictures and table of all of them.

    Args:
        rows: New figures, which take the place of older ones of the same run and seed.
        classes: Classes of each group by its name.
        first: The baseline.
    """
    places = {entry.name: place for place, entry in enumerate(entries())}
    joined = {(int(row["seed"]), places[row["run"]]): row for row in (*read_figures(RESULTS), *rows)}
    kept = [row for _, row in sorted(joined.items(), key=lambda item: item[0])]
    before, rest = DOCS.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    draw_groups(FIGURE, kept, classes, first=first)
    draw_methods(ALL_METHODS, kept, classes, marked=first)
    write_whole(RESULTS, csv_of(kept))
    write_whole(DOCS, f"{before}{BEGIN}\n{text_of(kept, classes)}\n{END}{after}".encode())


def other_starts(added: Sequence[Row], study: Sequence[Row], before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """A line for each recorded row that started from other figures than those that stand beside it now.

    Args:
        added: Rows that were recorded.
        study: All rows of the study that they are of.
        before: What was recorded before.
        after: What is recorded now.
    """
    starts, new = {entry.name: entry.start for entry in entries()}, {(row["run"], row["seed"]) for row in added}
    own, older, shown = ({(row["run"], row["seed"]): row["AP"] for row in some} for some in (study, before, after))
    lines = []
    for run, seed in shown:
        start = (starts[run], seed)
        began = (own if (run, seed) in new else older).get(start)
        if began is not None and start in shown and began != shown[start]:
            lines.append(
                f"{run}, seed {seed}: starts from {start[0]} with AP {began}, the recorded one has {shown[start]}; say "
                "so where it is shown"
            )
    return lines


def text_of(rows: Sequence[Row], classes: Mapping[str, int]) -> str:
    """What the docs say of the figures: the table with times of the processor, and how well the order agrees."""
    return f"{markdown(rows, classes, seconds='processor_seconds')}\n\n{format_agreement(rows)}"


def run(study: Study, minutes: float | None, jobs: int = 1) -> Finished:
    """Runs what is not done."""
    with ended_by_sigterm():
        return run_study(study, minutes=minutes, start=own_commands(jobs), jobs=jobs, tell=say)


@click.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--data", "clone", type=click.Path(path_type=Path), required=True, help="The clone.")
@run_options("runs/groceries")
@click.option("--methods", default="", help="Rows of the table, with commas  [default: all]; what they start from too.")
@click.option("--recipe", default=RECIPE, show_default=True, help="A shipped recipe or a file.")
@click.option("--other-data", is_flag=True, help="--data is another tree laid out so: its counts are not compared.")
@click.option("--record", is_flag=True, help="Put figures and pictures into the repository.")
def main(
    overrides: tuple[str, ...],
    clone: Path,
    out: Path,
    minutes: float | None,
    jobs: int,
    methods: str,
    seeds: int,
    recipe: str,
    other_data: bool,
    record: bool,
) -> None:
    """Make the data, run, print the table."""
    if record and (overrides or other_data or recipe != RECIPE):
        raise click.UsageError("--record is for the recipe and the data that figures are recorded for.")
    names = [name.strip() for name in methods.split(",") if name.strip()]
    try:
        chosen(entries(), names)
    except LtError as error:
        raise click.BadParameter(str(error)) from None
    try:
        data = prepare(clone, out.resolve() / "data", known=not other_data)
        study = groceries_study(data, out, methods=names, seeds=seeds, overrides=overrides, recipe=recipe)
        finished = run(study, minutes, jobs)
    except LtError as error:
        raise click.ClickException(str(error)) from None
    draw(study, data)
    click.echo(finished.text)
    click.echo(f"\nwritten: {study.out}")
    if record:
        for line in record_asked(read_figures(study.out / FIGURES), names, classes_of(data), first=study.baseline):
            click.echo(f"note: {line}", err=True)
    leave(finished.failed, stopped=finished.stopped)


if __name__ == "__main__":
    main()
