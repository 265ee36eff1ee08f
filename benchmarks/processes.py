"""Two processes against one on the same cores, at the same batch: ratios of images per second.

    python benchmarks/processes.py [--runs 3] [--steps 12] [--model mask_rcnn_small] [--side 256] [--batch 8]

Every contestant is ``lt-train fit`` on a drawn pool, in turns; a figure is the median over its steps but the first
three, then over the runs. One process has all threads, each of two has half of them; both are on the processor, so that
gloo carries the gradients. Adds rows to benchmarks/results/processes.csv, those of the same model replaced.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click
import torch
from common.record import machine, read_rows, record

from lt_data.synthetic.pool import write_pool

RESULTS = Path(__file__).parent / "results" / "processes.csv"
COLUMNS = (
    "date",
    "machine",
    "torch",
    "model",
    "side",
    "batch",
    "processes",
    "threads",
    "images_per_s",
    "ratio",
    "runs",
)
# steps that choose kernels and fill caches
SKIPPED = 3


def images_per_second(pool: Path, out: Path, settings: list[str], processes: int, threads: int) -> float:
    """The median over the steps of one run."""
    words = [sys.executable, "-m", "lt_cli.train", "fit", "quickstart", *settings, "--out", str(out)]
    words += [
        f"data.train.annotations={pool}/annotations.json",
        *(f"data.train.images={pool}/images", "data.val=null", "log_every=1", "trackers=[]"),
        *(["--processes", str(processes)] if processes > 1 else []),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(words, env=env, check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["images_per_second"] for line in lines[SKIPPED:])


@click.command()
@click.option("--runs", default=3, show_default=True)
@click.option("--steps", default=12, show_default=True)
@click.option("--model", default="mask_rcnn_small", show_default=True)
@click.option("--side", default=256, show_default=True)
@click.option("--batch", default=8, show_default=True)
def main(runs: int, steps: int, model: str, side: int, batch: int) -> None:
    """Measure and record."""
    cores = os.cpu_count() or 1
    contestants = {1: cores, 2: max(1, cores // 2)}
    settings = [
        *(f"model.name={model}", f"model.min_size=[{side}]", f"model.max_size={side}", f"optim.batch={batch}"),
        *(f"optim.base_batch={batch}", f"schedule.iterations={steps}", "schedule.decay=[]", "schedule.warmup=1"),
    ]
    found: dict[int, list[float]] = {processes: [] for processes in contestants}
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder, "pool")
        write_pool(pool, images=40, categories=20, size=side, instances_per_image=(3, 6), minimum_instances=1)
        for number in range(runs):
            for processes, threads in contestants.items():
                out = Path(folder, f"{number}-{processes}")
                found[processes].append(images_per_second(pool, out, settings, processes, threads))
                sys.stdout.write(f"{model}, {processes} processes: {found[processes][-1]:.2f} images/s\n")
    speeds = {processes: statistics.median(values) for processes, values in found.items()}
    where = (datetime.now(UTC).date().isoformat(), machine(), torch.__version__, model, side, batch)
    rows = [
        (*where, processes, threads, round(speeds[processes], 2), round(speeds[processes] / speeds[1], 2), runs)
        for processes, threads in contestants.items()
    ]
    kept = [row for row in read_rows(RESULTS, COLUMNS) if row[COLUMNS.index("model")] != model]
    record(RESULTS, COLUMNS, [*kept, *rows])


if __name__ == "__main__":
    main()
