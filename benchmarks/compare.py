"""CPU time of `lt-train compare`, whole process: two systems, 1,000 resamples of 5,000 images with 100 detections each.

    python benchmarks/compare.py [--images 5000] [--resamples 1000]

No peer: the evaluators that could be called for each resample take minutes for one. The data is that of evaluate.py;
the second system has lost every tenth detection. Writes benchmarks/results/compare.csv, replacing it.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click
from common.record import machine, record
from evaluate import make_data, run

RESULTS = Path(__file__).parent / "results" / "compare.csv"
COLUMNS = ("date", "machine", "job", "runs", "cpu_s", "anonymous_mib")
COMPARE = """
from pathlib import Path
from lt_train.evaluation.comparison.compare import compare_evaluations
compare_evaluations([Path(a), Path(b)], resamples=resamples)
print(0)
"""


@click.command()
@click.option("--images", default=5000, show_default=True)
@click.option("--resamples", default=1000, show_default=True)
@click.option("--runs", default=2, show_default=True)
def main(images: int, resamples: int, runs: int) -> None:
    """Measure and record."""
    from lt_train.evaluation.measure import evaluate_predictions

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, images=images, categories=80, kept=100, masks=False, federated=False)
        found = json.loads((folder / "bbox.json").read_text())
        (folder / "fewer.json").write_text(json.dumps([one for i, one in enumerate(found) if i % 10]))
        for results in ("bbox", "fewer"):
            evaluate_predictions(folder / f"{results}.json", folder / "truth.json", out=folder / results)
        names = {"a": f"{name}/bbox", "b": f"{name}/fewer", "resamples": resamples}
        measured = [run(COMPARE, **names) for _ in range(runs)]
    job = f"two systems, {resamples} resamples of {images} images x 100"
    cpu, memory = statistics.median(m[0] for m in measured), max(m[1] for m in measured)
    where = (datetime.now(UTC).date().isoformat(), machine(), job)
    record(RESULTS, COLUMNS, [(*where, runs, round(cpu, 1), round(memory))])


if __name__ == "__main__":
    main()
