"""Loading and evaluating result files against pycocotools and the lvis package: CPU ratios.

    python benchmarks/evaluate.py [--images 5000] [--lvis-images 5000]

Seeded data of the size of COCO val2017 (100 detections an image, 80 categories) and of LVIS (300 detections an image,
1,203 categories) is written to a temporary folder; the lvis package takes minutes and 6 GB for 5,000 images of it.
Every contestant runs in a process of its own, one after the other, in turns, from the JSON files to AP; its CPU time
(user and system, one thread) and its largest anonymous memory are read from the operating system. All contestants of a
job must agree on AP. Writes benchmarks/results/evaluate.csv, replacing it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from common.record import anonymous, machine, record

RESULTS = Path(__file__).parent / "results" / "evaluate.csv"
COLUMNS = ("date", "machine", "job", "contestant", "runs", "cpu_s", "anonymous_mib", "cpu_ratio", "AP")
WIDTH, HEIGHT = 640, 480
CORNERS = 14

OURS = """
import numpy
from lt_train.evaluation import evaluate
print(numpy.nanmean(evaluate(truth, found, iou_type=iou_type, engine="fast").class_ap()))
"""
PYCOCOTOOLS = """
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
coco = COCO(truth)
evaluator = COCOeval(coco, coco.loadRes(found), iou_type)
evaluator.evaluate()
evaluator.accumulate()
evaluator.summarize()
print(evaluator.stats[0])
"""
LVIS = """
import numpy
numpy.float = float
from lvis import LVISEval
evaluator = LVISEval(truth, found, iou_type)
evaluator.run()
print(evaluator.get_results()["AP"])
"""


def make_data(folder: Path, *, images: int, categories: int, kept: int, masks: bool, federated: bool) -> None:
    """Writes ``truth.json``, ``bbox.json`` and, with masks, ``segm.json``: objects, most found nearly, many wrongly."""
    rng = np.random.default_rng(0)
    often = 1 / np.arange(1, categories + 1) ** 0.8
    objects = rng.poisson(13.8 if federated else 8.3, images)
    image = np.repeat(np.arange(1, images + 1), objects)
    category = rng.choice(categories, len(image), p=often / often.sum()) + 1
    size = np.exp(rng.normal(4.3, 0.8, (len(image), 2))).clip(8, [WIDTH - 20, HEIGHT - 20])
    corner = rng.random((len(image), 2)) * (np.array([WIDTH, HEIGHT]) - size)
    box = np.concatenate([corner, size], axis=1).round(2)
    records = [
        {"id": i + 1, "image_id": int(image[i]), "category_id": int(category[i]), "bbox": box[i].tolist()}
        | {"area": float(box[i, 2] * box[i, 3]), "iscrowd": 0, "segmentation": [outline(box[i], rng)]}
        for i in range(len(image))
    ]
    names = [
        {"id": c, "name": f"category {c}", "frequency": "rcf"[min(int(30 * often[c - 1]), 2)]}
        for c in range(1, categories + 1)
    ]
    listed = []
    starts = np.concatenate([[0], np.cumsum(objects)])
    for i in range(images):
        here = set(category[starts[i] : starts[i + 1]].tolist())
        lists = {"neg_category_ids": sorted(set(rng.integers(1, categories + 1, 6).tolist()) - here)}
        lists["not_exhaustive_category_ids"] = sorted(here)[:1]
        listed.append({"id": i + 1, "width": WIDTH, "height": HEIGHT} | (lists if federated else {}))
    truth = {"images": listed, "categories": names, "annotations": records}
    (folder / "truth.json").write_text(json.dumps(truth))
    found: dict[str, list[dict[str, Any]]] = {"bbox": [], "segm": []}
    for i in range(images):
        rows = detections(box[starts[i] : starts[i + 1]], category[starts[i] : starts[i + 1]], kept, categories, rng)
        add_records(found, i + 1, rows, rng, masks=masks)
    for name, results in found.items():
        if results:
            (folder / f"{name}.json").write_text(json.dumps(results))


def detections(
    box: np.ndarray, category: np.ndarray, kept: int, categories: int, rng: np.random.Generator
) -> list[tuple[int, list[float], float]]:
    """Category, box and score: each object once nearly right, then boxes at objects or anywhere."""
    source = np.concatenate([np.arange(len(box)), rng.integers(0, max(len(box), 1), kept)])[:kept]
    source = source if len(box) else np.zeros(kept, int)
    near = rng.random(kept) < 0.6
    near[: len(box)] = True
    known = np.concatenate([box, [[10, 10, 100, 100]]])[source]
    moved = np.where(near[:, None], known, rng.random((kept, 4)) * [WIDTH / 2, HEIGHT / 2, WIDTH / 2, HEIGHT / 2] + 2)
    moved = moved + rng.normal(0, 0.08, (kept, 4)) * moved[:, [2, 3, 2, 3]]
    moved = np.concatenate([moved[:, :2].clip(0), moved[:, 2:].clip(4)], axis=1).round(2)
    labels = np.concatenate([category, [1]])[source]
    labels = np.where(near & (rng.random(kept) < 0.8), labels, rng.integers(1, categories + 1, kept))
    scores = np.where(np.arange(kept) < len(box), rng.random(kept) ** 0.5, rng.random(kept) ** 3).round(5)
    return list(zip(labels.tolist(), moved.tolist(), scores.tolist(), strict=True))


def add_records(
    found: dict[str, list[dict[str, Any]]],
    image_id: int,
    rows: list[tuple[int, list[float], float]],
    rng: np.random.Generator,
    *,
    masks: bool,
) -> None:
    """Appends the COCO results of one image."""
    for label, box, score in rows:
        found["bbox"].append({"image_id": image_id, "category_id": label, "bbox": box, "score": score})
    if masks:
        from pycocotools import mask as rle

        encoded = rle.frPyObjects([outline(np.array(box), rng) for _, box, _ in rows], HEIGHT, WIDTH)
        for (label, _, score), mask in zip(rows, encoded, strict=True):
            mask = {"size": [HEIGHT, WIDTH], "counts": mask["counts"].decode()}
            found["segm"].append({"image_id": image_id, "category_id": label, "segmentation": mask, "score": score})


def outline(box: np.ndarray, rng: np.random.Generator) -> list[float]:
    """A rugged round polygon inside a box."""
    angle = np.arange(CORNERS) * (2 * np.pi / CORNERS)
    reach = rng.uniform(0.8, 1, CORNERS) / 2
    points = [box[0] + box[2] * (0.5 + reach * np.cos(angle)), box[1] + box[3] * (0.5 + reach * np.sin(angle))]
    return np.stack(points, axis=1).round(2).ravel().tolist()


def run(code: str, **names: object) -> tuple[float, float, float]:
    """CPU seconds, the largest anonymous memory in MiB and the AP that a script in its own process prints last."""
    header = "".join(f"{k} = {v!r}\n" for k, v in names.items())
    one_thread = {**os.environ, "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, "-c", header + code], stdout=out, env=one_thread)
        peak = 0
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            peak = max(peak, anonymous(process.pid))
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        if process.returncode:
            raise SystemExit(f"a contestant failed:\n{code}")
        out.seek(0)
        ap = float(out.read().split()[-1])
    return ended[2].ru_utime + ended[2].ru_stime, peak / 1024, ap


def contest(job: str, contestants: dict[str, str], runs: int, names: dict[str, str]) -> list[tuple[object, ...]]:
    """Rows of the result, the last contestant's CPU time over each one's among them."""
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in contestants}
    for number in range(runs):
        for name, code in contestants.items():
            measured[name].append(run(code, **names))
            sys.stdout.write(f"{job}, {name}, run {number + 1}: {measured[name][-1][0]:.2f} s CPU\n")
    figures = {round(ap, 10) for values in measured.values() for _, _, ap in values}
    if len(figures) != 1:
        raise SystemExit(f"{job}: the contestants differ on AP: {sorted(figures)}")
    cpu = {name: statistics.median(c for c, _, _ in values) for name, values in measured.items()}
    peer = list(contestants)[-1]
    where = (datetime.now(UTC).date().isoformat(), machine(), job)
    return [
        (
            *(*where, name, runs, round(cpu[name], 2), round(max(m for _, m, _ in values))),
            *(round(cpu[peer] / cpu[name], 1), round(values[0][2], 4)),
        )
        for name, values in measured.items()
    ]


@click.command()
@click.option("--images", default=5000, show_default=True, help="Images of the COCO-like data; 0 leaves it out.")
@click.option("--lvis-images", default=5000, show_default=True, help="Images of the LVIS-like data; 0 leaves it out.")
@click.option("--runs", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="The CSV file to write.")
def main(images: int, lvis_images: int, runs: int, out: Path) -> None:
    """Measure and record."""
    rows: list[tuple[object, ...]] = []
    if images:
        with tempfile.TemporaryDirectory() as folder:
            make_data(Path(folder), images=images, categories=80, kept=100, masks=True, federated=False)
            for kind, what in (("bbox", "boxes"), ("segm", "masks")):
                names = {"truth": f"{folder}/truth.json", "found": f"{folder}/{kind}.json", "iou_type": kind}
                job = f"COCO {what}, {images} images x 100"
                rows += contest(job, {"lt-train": OURS, "pycocotools": PYCOCOTOOLS}, runs, names)
    if lvis_images:
        with tempfile.TemporaryDirectory() as folder:
            make_data(Path(folder), images=lvis_images, categories=1203, kept=300, masks=False, federated=True)
            names = {"truth": f"{folder}/truth.json", "found": f"{folder}/bbox.json", "iou_type": "bbox"}
            rows += contest(f"LVIS boxes, {lvis_images} images x 300", {"lt-train": OURS, "lvis": LVIS}, runs, names)
    record(out, COLUMNS, rows)


if __name__ == "__main__":
    main()
