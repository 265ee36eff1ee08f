"""What a second stage from kept features gives, against training it directly, and what the smallest pool costs.

    python benchmarks/features_ap.py [--seeds 3] [--minutes 30] [--jobs 2] [--tiny]

On the quickstart's drawn pool a Faster R-CNN is trained once, with softmax; from it BAGS is trained with several seeds:
directly, from features of ``--pool`` 1,024 regions an image, which are all that the small detector has, and from those
of 64, as many as a draw has: every epoch sees the same ones. What is finished when it ends is recorded in
benchmarks/results/features_ap.csv; with --tiny, a rehearsal of two steps on few images, in features_ap.csv below --out.
Whenever it ends, the same command goes on.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from common.commands import ended_by_sigterm, leave, own_commands, run_options
from common.drawn_pool import TINY, Size, draw, keys_of

from lt_data.terminal import say
from lt_train import quickstart
from lt_train.studies.entries import BASELINE, Entry, Setting, feature_steps, run_step
from lt_train.studies.steps import Step
from lt_train.studies.study import Cell, Finished, Study, csv_of, run_study
from lt_train.studies.table import rows_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "features_ap.csv"
METHOD, DIRECT = "bags", "direct"
# regions of an image: all, which are about a hundred, and the fewest that there can be, those of one draw
POOLS = (1024, 64)
MODEL = "model.name=faster_rcnn_small"


def study_of(out: Path, seeds: int, size: Size) -> Study:
    """The baseline, its features by pool, and the second stages of every seed.

    Args:
        out: Folder of the study.
        seeds: Of the second stages: 0, 1, ...
        size: How much is drawn and trained.
    """
    setting = Setting(out, quickstart.RECIPE, (MODEL, *keys_of(out / "data"), *size.overrides))
    start = setting.run(BASELINE, 0)
    baseline = Entry(BASELINE, "softmax")
    steps = [run_step(setting, baseline, start, start=None, features=None, seed=0, needs=())]
    cells = [Cell(BASELINE, baseline.how, setting.recipe, 0, start, (steps[0].name,))]
    for pool in POOLS:
        steps += feature_steps(replace(setting, pool=pool), start, _features(out, pool), needs=(steps[0].name,))
    for seed in range(seeds):
        for name, pool in ((DIRECT, None), *((f"pool-{pool}", pool) for pool in POOLS)):
            features = None if pool is None else _features(out, pool)
            cells.append(_add(steps, setting, name, seed, start, features))
    return Study(out, tuple(steps), tuple(cells), BASELINE)


def _features(out: Path, pool: int) -> Path:
    return out / f"features-{pool}"


def _add(steps: list[Step], setting: Setting, name: str, seed: int, start: Path, features: Path | None) -> Cell:
    """Appends the step of a second stage."""
    entry, run = Entry(name, METHOD, start=BASELINE), setting.run(name, seed)
    needs = (steps[0].name, *([f"{features.name}/train", f"{features.name}/val"] if features else []))
    steps.append(run_step(setting, entry, run, start=start, features=features, seed=seed, needs=needs))
    return Cell(name, entry.how, setting.recipe, seed, run, (steps[-1].name,))


def measure(out: Path, seeds: int, size: Size, minutes: float | None, jobs: int, results: Path) -> Finished:
    """Runs what has not ended, and records."""
    draw(out / "data", 0, size)
    study = study_of(out, seeds, size)
    finished = run_study(study, minutes=minutes, start=own_commands(jobs), jobs=jobs, tell=say)
    if found := study.results():
        results.parent.mkdir(exist_ok=True)
        results.write_bytes(csv_of(rows_of(found)))
    return finished


@click.command()
@run_options("runs/features_ap", seeds="Of the second stage: 0, 1, ...")
@click.option("--tiny", is_flag=True, help="A rehearsal: two steps on few images; nothing is recorded.")
def main(out: Path, seeds: int, minutes: float | None, jobs: int, tiny: bool) -> None:
    """Draw, train, measure, record."""
    out, size = (out / "tiny" if tiny else out).resolve(), TINY if tiny else Size()
    with ended_by_sigterm():
        done = measure(out, seeds, size, minutes, jobs, out / RESULTS.name if tiny else RESULTS)
    click.echo(done.text)
    leave(done.failed, stopped=done.stopped)


if __name__ == "__main__":
    main()
