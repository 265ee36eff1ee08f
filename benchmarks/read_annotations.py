"""Reading, choosing and writing annotations against pycocotools, and counting against the lvis package: CPU ratios.

    python benchmarks/read_annotations.py --coco instances_train2017.json [--lvis lvis_v1_train.json]

Every contestant runs in a process of its own, one after the other, in turns; its CPU time (user and system) and its
largest anonymous memory are read from the operating system. The subset that pycocotools writes with ``json.dump`` is
the one that lt-data chose. Writes
benchmarks/results/read_annotations.csv; rows of a job that is not measured stay.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from common.record import anonymous, machine, read_rows, record

RESULTS = Path(__file__).parent / "results" / "read_annotations.csv"
COLUMNS = ("date", "machine", "job", "contestant", "runs", "cpu_s", "anonymous_mib", "cpu_ratio")

OURS = """
from lt_data.annotations.subset import write_subset
from lt_data.build.coco_lt import build_coco_lt
build = build_coco_lt(Path(source), None)
write_subset(build.pool, Path(out), images=build.selection.images, annotations=build.selection.annotations)
"""
PYCOCOTOOLS = """
import json
from pycocotools.coco import COCO
coco = COCO(source)
chosen = json.load(open(ids))
images, annotations = set(chosen["images"]), set(chosen["annotations"])
subset = {key: value for key, value in coco.dataset.items() if key not in ("images", "annotations")}
subset["images"] = [image for image in coco.dataset["images"] if image["id"] in images]
subset["annotations"] = [a for a in coco.dataset["annotations"] if a["id"] in annotations]
json.dump(subset, open(out, "w"))
"""
COUNT = """
from lt_data.counts.group_stats import group_stats
print(group_stats(Path(source)).instances)
"""
LVIS = """
import numpy
numpy.float = float
from lvis import LVIS
lvis = LVIS(source)
counts = {}
for annotation in lvis.anns.values():
    counts[annotation["category_id"]] = counts.get(annotation["category_id"], 0) + 1
print(sum(counts.values()))
"""


def run(code: str, **names: str) -> tuple[float, float]:
    """CPU seconds and the largest anonymous memory in MiB of a script in its own process."""
    header = "from pathlib import Path\n" + "".join(f"{k} = {v!r}\n" for k, v in names.items())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen([sys.executable, "-c", header + code], stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"a contestant failed:\n{code}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak / 1024


def contest(job: str, contestants: dict[str, tuple[str, dict[str, str]]], runs: int) -> list[tuple[object, ...]]:
    """Rows of the result, the peer's CPU time over each contestant's in the last column."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for number in range(runs):
        for name, (code, names) in contestants.items():
            measured[name].append(run(code, **names))
            sys.stdout.write(f"{job}, {name}, run {number + 1}: {measured[name][-1][0]:.2f} s CPU\n")
    cpu = {name: statistics.median(c for c, _ in values) for name, values in measured.items()}
    peer = list(contestants)[-1]
    where = (datetime.now(UTC).date().isoformat(), machine(), job)
    return [
        (*where, name, runs, round(cpu[name], 2), round(max(m for _, m in values)), round(cpu[peer] / cpu[name], 1))
        for name, values in measured.items()
    ]


@click.command()
@click.option("--coco", type=click.Path(exists=True), required=True)
@click.option("--lvis", type=click.Path(exists=True))
@click.option("--runs", default=3, show_default=True)
def main(coco: str, lvis: str | None, runs: int) -> None:
    """Measure and record."""
    from lt_data.build.coco_lt import build_coco_lt

    with tempfile.TemporaryDirectory() as folder:
        build = build_coco_lt(Path(coco), None)
        ids = Path(folder, "ids.json")
        chosen = {
            "images": build.pool.image_ids[build.selection.images].tolist(),
            "annotations": build.pool.annotation_ids[build.selection.annotations].tolist(),
        }
        ids.write_text(json.dumps(chosen))
        whole = f"import sys; sys.argv = ['lt-data', 'build-coco-lt', '--coco', {coco!r}, '--out', out, '--force']\n"
        whole += "from lt_cli.data import main; main(standalone_mode=False)\n"
        rows = contest(
            "COCO-LT from train2017 size",
            {
                "lt-data read, select, write": (OURS, {"source": coco, "out": f"{folder}/a.json"}),
                "lt-data build-coco-lt, whole command": (whole, {"out": f"{folder}/lt"}),
                "pycocotools + json.dump": (PYCOCOTOOLS, {"source": coco, "out": f"{folder}/b.json", "ids": str(ids)}),
            },
            runs,
        )
        if lvis:
            contestants = {"lt-data group-stats": (COUNT, {"source": lvis}), "lvis.LVIS": (LVIS, {"source": lvis})}
            rows += contest("counting LVIS v1 train size", contestants, runs)
    measured = {row[2] for row in rows}
    kept = [row for row in read_rows(RESULTS, COLUMNS) if row[2] not in measured]
    record(RESULTS, COLUMNS, [*rows, *kept])


if __name__ == "__main__":
    main()
