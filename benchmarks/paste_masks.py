"""Pasting 100 predicted masks into an image as run lengths, against torchvision's pasting and pycocotools' encoding.

    python benchmarks/paste_masks.py

Every contestant runs in a process of its own, in turns, on one thread; it pastes the same masks several times and gives
the CPU time of one image. Memory is the largest anonymous memory while it pastes beyond what it had before. torchvision
pastes as many masks at a time as suits it best: all of 1, 10 and 100 are tried where they fit in 4 GB, and the
ratio is against the fastest. Writes benchmarks/results/paste_masks.csv, replacing it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
from common.record import anonymous, machine, record

RESULTS = Path(__file__).parent / "results" / "paste_masks.csv"
COLUMNS = ("date", "machine", "job", "contestant", "runs", "cpu_ms_per_image", "anonymous_mib", "cpu_ratio")
SIZES = ((640, 480), (1333, 800), (4000, 4000))
DETECTIONS = 100
LARGEST = 4 * 2**30
# masks that differ from torchvision's in more than this share of their pixels are not the same work
ROUNDING = 1e-6

HEADER = """
import sys, time
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
content = np.load(source)
probs, boxes = torch.from_numpy(content["probs"]), torch.from_numpy(content["boxes"])
"""
OURS = """
from lt_train.evaluation import paste_masks_to_rle
def paste(probs, boxes, height, width):
    return [mask["counts"] for mask in paste_masks_to_rle(probs, boxes, height, width)]
"""
TORCHVISION = """
from pycocotools import mask as rle
from torchvision.models.detection.roi_heads import paste_masks_in_image
def paste(probs, boxes, height, width):
    counts = []
    for start in range(0, len(probs), at_a_time):
        part = slice(start, start + at_a_time)
        masks = paste_masks_in_image(probs[part, None], boxes[part], (height, width), padding=1)[:, 0] > 0.5
        counts += [rle.encode(np.asfortranarray(m))["counts"].decode() for m in masks.numpy().view(np.uint8)]
    return counts
"""
MEASURE = """
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
paste(probs[:2], boxes[:2] / 100, 40, 40)
print(anonymous(), flush=True)
sys.stdin.readline()
times = []
for _ in range(repeats):
    start = time.process_time()
    counts = paste(probs, boxes, height, width)
    times.append(time.process_time() - start)
print(sorted(times)[len(times) // 2], flush=True)
Path(out).write_text("\\n".join(counts))
"""


def run(code: str, **names: object) -> tuple[float, float]:
    """CPU milliseconds of one image, and the anonymous memory in MiB beyond that before the first."""
    script = "".join(f"{k} = {v!r}\n" for k, v in names.items()) + HEADER + code + MEASURE
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    before = int(process.stdout.readline() or 0)
    process.stdin.write("\n")
    process.stdin.flush()
    peak = before
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.002)
    if process.returncode:
        raise SystemExit(f"a contestant failed:\n{code}")
    return 1000 * float(process.stdout.readline()), (peak - before) / 1024


def detections(path: Path, width: int, height: int) -> None:
    """Writes 100 masks with ragged borders in boxes from 1/24 to 2/3 of the image's sides."""
    random = np.random.default_rng(0)
    y, x = np.meshgrid(*[np.linspace(-1, 1, 28)] * 2, indexing="ij")
    ripple = np.cos(np.arctan2(y, x) * random.integers(2, 7, (DETECTIONS, 1, 1)) + random.random((DETECTIONS, 1, 1)))
    probs = 1 / (1 + np.exp(-8 * (0.75 + 0.15 * ripple - np.hypot(x, y))))
    sides = np.exp(random.random((DETECTIONS, 2)) * np.log(16)) / 24 * [width, height]
    middles = random.random((DETECTIONS, 2)) * [width, height]
    corners = np.concatenate([middles - sides / 2, middles + sides / 2], axis=1)
    boxes = corners.clip(0, [width, height, width, height])
    np.savez(path, probs=probs.astype(np.float32), boxes=boxes.astype(np.float32))


def check_same(folder: Path, names: list[str], width: int, height: int) -> None:
    """Stops if the contestants did not paste the same masks."""
    from pycocotools import mask as rle

    counts = [(folder / f"{name}.txt").read_text().splitlines() for name in names]
    for other in counts[1:]:
        for a, b in zip(counts[0], other, strict=True):
            if a == b:
                continue
            masks = [rle.decode({"size": [height, width], "counts": text.encode()}) for text in (a, b)]
            if (masks[0] != masks[1]).sum() > ROUNDING * width * height:
                raise SystemExit(f"{names}: the masks differ")


def contest(width: int, height: int, runs: int, folder: Path) -> list[tuple[object, ...]]:
    """Rows of the result for one image size."""
    source = folder / "detections.npz"
    detections(source, width, height)
    fitting = [n for n in (1, 10, 100) if 2 * 4 * n * width * height <= LARGEST]
    contestants = {"lt-train": OURS} | {
        f"torchvision, {n} at a time": f"at_a_time = {n}\n{TORCHVISION}" for n in fitting
    }
    repeats = {name: 20 if name == "lt-train" else max(1, 2_000_000 // (width * height)) for name in contestants}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for number in range(runs):
        for name, code in contestants.items():
            where = {"source": str(source), "out": str(folder / f"{name}.txt")}
            measured[name].append(run(code, width=width, height=height, repeats=repeats[name], **where))
            sys.stdout.write(f"{width}x{height}, {name}, run {number + 1}: {measured[name][-1][0]:.1f} ms CPU\n")
    check_same(folder, list(contestants), width, height)
    cpu = {name: statistics.median(c for c, _ in values) for name, values in measured.items()}
    best = min(value for name, value in cpu.items() if name != "lt-train")
    job = (datetime.now(UTC).date().isoformat(), machine(), f"{DETECTIONS} masks into {width}x{height}")
    return [
        (*job, name, runs, round(cpu[name], 2), round(max(m for _, m in values)), round(best / cpu[name], 1))
        for name, values in measured.items()
    ]


@click.command()
@click.option("--runs", default=3, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, show_default=True)
def main(runs: int, out: Path) -> None:
    """Measure and record."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            rows += contest(width, height, runs, Path(folder))
    record(out, COLUMNS, rows)


if __name__ == "__main__":
    main()
