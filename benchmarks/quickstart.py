"""Runs the quickstart for several seeds and records every figure: `python benchmarks/quickstart.py --seeds 3`.

Writes benchmarks/results/quickstart.csv (replacing it), one figure a line, and README's picture, of the first seed.
"""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import torch
from common.record import machine, record

from lt_train.quickstart import NAMES, quickstart_recipe, run_seed
from lt_train.report.group_bars import plot_group_ap

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "quickstart.csv"
PICTURE = ROOT / "docs" / "images" / "quickstart_group_ap.png"
COLUMNS = ("date", "machine", "python", "torch", "seed", "seconds", "run", "iou_type", "figure", "classes", "value")


def figures(metrics: dict, iou_type: str) -> list[tuple[str, int, float | None]]:
    """(name, classes, percent) of the overall figures and of every group."""
    block, classes = metrics[iou_type], metrics["counts"]["classes"]
    rows = [(name, classes["AP"], block[name]) for name in ("AP", "AP50")]
    rows += [(name, classes["groups"][name], value) for name, value in block["groups"].items()]
    return [(name, count, None if value is None else round(100 * value, 2)) for name, count, value in rows]


@click.command()
@click.option("--seeds", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New directory for the runs.")
def main(seeds: int, out: Path) -> None:
    """Run and record."""
    rows = []
    for seed in range(seeds):
        start = time.monotonic()
        directory = out / f"seed-{seed}"
        metrics = run_seed(directory, quickstart_recipe(directory, seed))
        seconds = round(time.monotonic() - start)
        where = (
            datetime.now(UTC).date().isoformat(),
            f"{machine()}, {torch.get_num_threads()} threads",
            platform.python_version(),
            torch.__version__,
        )
        if seed == 0:
            plot_group_ap(PICTURE, dict(zip(NAMES, metrics, strict=True)))
        for run, content in zip(NAMES, metrics, strict=True):
            for iou_type in ("bbox", "segm"):
                rows += [(*where, seed, seconds, run, iou_type, *row) for row in figures(content, iou_type)]
    record(RESULTS, COLUMNS, rows)


if __name__ == "__main__":
    main()
