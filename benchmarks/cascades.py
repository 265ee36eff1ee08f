"""Detectors of one stage and of three on the quickstart's drawn pool: same data, same steps, several seeds.

    python benchmarks/cascades.py [--seeds 3] [--minutes 60] [--tiny]

Trains ``mask_rcnn_small``, ``cascade_mask_rcnn_small`` and ``htc_small`` (without a semantic branch: the pool has no
stuff maps) with the recipe ``quickstart``, each on the pool of its seed, and measures them on that seed's validation
pool. A seed of ``lt-train quickstart`` has the same data and, for Mask R-CNN, the same softmax run. The budget is equal
in steps and images, not in time: the seconds stand beside the figures.

All models of seed 0 come first. Whenever it ends, by --minutes or Ctrl-C, the same command goes on: finished runs are
left alone, the one that was stopped continues. Each finished run is recorded at once in
benchmarks/results/cascades.csv; with --tiny, a rehearsal of two steps on few images, in cascades.csv below --out. Then
box and mask AP75 are compared over the seeds that all models have finished, whatever that gives.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import click
from common.commands import ended_by_sigterm, leave, own_commands, run_options
from common.drawn_pool import TINY, Size, draw, keys_of
from common.record import machine, record

from lt_data.terminal import say
from lt_train import quickstart
from lt_train.recipe.load import load_recipe
from lt_train.studies.steps import Outcome, Step, read_record, run_plan

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cascades.csv"
SINGLE = "mask_rcnn_small"
MODELS = (SINGLE, "cascade_mask_rcnn_small", "htc_small")
KINDS, FIGURES = ("bbox", "segm"), ("AP", "AP50", "AP75")
COLUMNS = (
    *("date", "machine", "torch", "model", "seed", "steps", "seconds", "processor_seconds"),
    *(f"{kind}_{figure}" for kind in KINDS for figure in FIGURES),
)


def step_of(model: str, out: Path, seed: int, size: Size) -> Step:
    """The run of a model on the data of a seed."""
    run, keys = out / f"seed-{seed}" / model, keys_of(out / f"data-{seed}")
    words = ("lt-train", "fit", quickstart.RECIPE, f"model.name={model}", f"seed={seed}", *keys, *size.overrides)
    resume = ("--out", str(run), "--resume", "auto")
    return Step(f"seed-{seed}/{model}", (*words, *resume), product=run / "eval" / "metrics.json")


def figures_of(step: Step) -> list[float | None]:
    """Percent, in the order of the columns; none for a run that has not ended."""
    if not step.product.exists():
        return []
    metrics = json.loads(step.product.read_text(encoding="utf-8"))
    found = [metrics[kind][figure] for kind in KINDS for figure in FIGURES]
    return [None if value is None else round(100 * value, 2) for value in found]


def rows_of(steps: Sequence[Step], out: Path, taken: int | None) -> list[list[object]]:
    """A row for each run that has ended."""
    rows: list[list[object]] = []
    known = read_record(out)
    for step in steps:
        if figures := figures_of(step):
            environment = json.loads((step.product.parents[1] / "environment.json").read_text(encoding="utf-8"))
            device = environment["gpu"] or f"{machine()}, {environment['threads']} threads"
            where = (environment["date"][:10], device, environment["packages"]["torch"])
            seed, model = step.name.removeprefix("seed-").split("/")
            seconds = (round(known[step.name].seconds), round(known[step.name].processor_seconds))
            cells = ["" if value is None else value for value in figures]
            rows.append([*where, model, int(seed), taken, *seconds, *cells])
    return rows


def run_all(out: Path, seeds: int, size: Size, minutes: float | None, jobs: int, results: Path) -> Outcome:
    """Runs what has not ended and records each at once."""
    for seed in range(seeds):
        draw(out / f"data-{seed}", seed, size)
    steps = steps_of(out, seeds, size)
    taken = load_recipe(quickstart.RECIPE, size.overrides).schedule.iterations
    return run_plan(
        steps,
        out,
        minutes=minutes,
        start=own_commands(jobs),
        jobs=jobs,
        tell=say,
        after=lambda _: record(results, COLUMNS, rows_of(steps, out, taken)),
    )


def steps_of(out: Path, seeds: int, size: Size) -> list[Step]:
    """All models of seed 0, then those of the next."""
    return [step_of(model, out, seed, size) for seed in range(seeds) for model in MODELS]


def comparison(out: Path, seeds: int, size: Size) -> str:
    """Means of box and mask AP75 over the seeds that all models have finished, a line a model."""
    found = {step.name: figures_of(step) for step in steps_of(out, seeds, size)}
    whole = [seed for seed in range(seeds) if all(found[f"seed-{seed}/{model}"] for model in MODELS)]
    if not whole:
        return "no seed has all models yet"
    lines = [f"AP75, mean of {len(whole)} seeds ({', '.join(map(str, whole))}): box, mask, and less {SINGLE}'s"]
    places = [kind * len(FIGURES) + FIGURES.index("AP75") for kind in range(len(KINDS))]
    means = {
        model: [mean(found[f"seed-{seed}/{model}"][place] or 0.0 for seed in whole) for place in places]
        for model in MODELS
    }
    for model, values in means.items():
        change = [value - single for value, single in zip(values, means[SINGLE], strict=True)]
        lines.append(f"{model:<24}" + "".join(f"{value:8.2f}" for value in (*values, *change)))
    return "\n".join(lines)


@click.command()
@run_options("runs/cascades")
@click.option("--tiny", is_flag=True, help="A rehearsal: two steps on few images; nothing is recorded.")
def main(out: Path, seeds: int, minutes: float | None, jobs: int, tiny: bool) -> None:
    """Draw, train, measure, record."""
    out, size = (out / "tiny" if tiny else out).resolve(), TINY if tiny else Size()
    with ended_by_sigterm():
        try:
            done = run_all(out, seeds, size, minutes, jobs, out / RESULTS.name if tiny else RESULTS)
        except KeyboardInterrupt:
            done = Outcome({}, stopped=True)
    click.echo(comparison(out, seeds, size))
    leave((f"{name}: {reason}" for name, reason in done.failed.items()), stopped=done.stopped)


if __name__ == "__main__":
    main()
