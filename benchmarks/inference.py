"""Detection at a low threshold with 1,230 classes: bounded work and memory; whole images. Against torchvision.

    python benchmarks/inference.py [--cuda] [--out FILE]

``1000 proposals``: from logits and box deltas of one image to its 300 detections at a threshold of 1e-4. With ``flat``
logits, those of an untrained network, every one of the 1,230,000 pairs of proposal and class is above the threshold;
with ``peaked`` ones, in which some classes stand out for each proposal, about one in a hundred is. lt-train lets the
best 10,000 pairs into NMS; ``lt-train, unbounded`` all, as torchvision does. Before anything is timed, the unbounded
detections have to be torchvision's; whether the bounded ones are the same is in the column ``same_detections``.

``whole image``: Mask R-CNN R50-FPN with random weights, one image of 640 x 480 pixels a time, 300 detections. What
comes out differs: torchvision always pastes the masks into the image, as probabilities of every pixel. ``lt-train,
pasted`` also ends with masks in image size, as run lengths of what exceeds 0.5, which is what an evaluation reads and
what torchvision's masks would still have to be turned into: this is the ratio to look at. ``lt-train`` alone stops at
mask probabilities of 28 x 28 cells, as the model gives them. On a GPU both compute in half precision, lt-train with
NHWC feature maps, and run lengths are made on the CPU. ``1000 proposals`` is float32 on both sides and has neither
convolutions nor matrix products; the comparison of detections runs with TF32 switched off all the same.

Each contestant runs in a process of its own; a time is the median of its turns, after one that is not counted
(processor time of one thread on a CPU, wall time on a GPU); ``peak_mib`` is memory beyond what the process had before
the first turn. Writes benchmarks/results/inference.csv (with ``--cuda`` inference_cuda.csv), replacing it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import torch
from common.peak import Peak
from common.peer_training import reference_model
from common.precision import without_tf32
from common.record import machine, record
from torch import Tensor, nn

from lt_train.detectors import LongTailDetector
from lt_train.evaluation.predictions.paste import paste_masks_to_rle
from lt_train.heads import make_head

RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    *("date", "machine", "torch", "job", "classes", "contestant", "turns", "ms", "images_per_s", "ratio", "peak_mib"),
    *("memory_ratio", "same_detections"),
)
OURS, UNBOUNDED, PASTED, PEER = "lt-train", "lt-train, unbounded", "lt-train, pasted", "torchvision"
CLASSES = 1230
PROPOSALS = 1000
THRESHOLD = 1e-4
KEPT = 300
SHAPE = (800, 1066)
HEIGHT, WIDTH = 480, 640
# standard deviation of the logits
SPREAD = {"flat": 0.05, "peaked": 4.0}
SCENES = tuple(f"1000 proposals, {name}" for name in SPREAD)

Detect = Callable[[], Any]


def models(classes: int) -> dict[str, nn.Module]:
    """The contestants' detectors with the same weights, at test time."""
    torch.manual_seed(0)
    stock = reference_model(classes, 800, 1333)
    stock.roi_heads.score_thresh, stock.roi_heads.detections_per_img = THRESHOLD, KEPT
    head = make_head("softmax", instance_counts=[1] * classes)
    found = {OURS: LongTailDetector.from_stock(stock, head), UNBOUNDED: LongTailDetector.from_stock(stock, head)}
    found[UNBOUNDED].roi_heads.pre_nms_topk = None
    found[PASTED] = found[OURS]
    return {PEER: stock.eval(), **{name: model.eval() for name, model in found.items()}}


def outputs(spread: float, device: str, number: int = PROPOSALS) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, deltas and proposals of an image, from a seed."""
    torch.manual_seed(0)
    logits = spread * torch.randn(number, CLASSES + 1)
    corners = torch.rand(number, 2) * torch.tensor([900.0, 650.0])
    proposals = torch.cat([corners, corners + 20 + 120 * torch.rand(number, 2)], dim=1)
    deltas = torch.randn(number, 4 * (CLASSES + 1))
    return logits.to(device), deltas.to(device), proposals.to(device)


def from_outputs(model: nn.Module, job: str, device: str, number: int = PROPOSALS) -> Detect:
    """The step from a predictor's outputs to detections."""
    logits, deltas, proposals = outputs(SPREAD[job.split(", ")[1]], device, number)
    heads: Any = model.roi_heads
    if not isinstance(model, LongTailDetector):
        return lambda: dict(
            zip(
                ("boxes", "scores", "labels"),
                heads.postprocess_detections(logits, deltas, [proposals], [SHAPE]),
                strict=True,
            )
        )
    heads.box_predictor.bbox_pred = nn.Identity()

    def detect() -> dict[str, list[Tensor]]:
        found = heads.detections(heads.head.scores(logits), deltas, [proposals], [SHAPE])[0]
        return {key: [value] for key, value in found.items()}

    return detect


def from_image(model: nn.Module, device: str) -> Detect:
    """The whole model."""
    image = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)).to(device)
    half = torch.float16 if device == "cuda" else None
    if isinstance(model, LongTailDetector):
        model.precision, model.channels_last = half, half is not None
        if half:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return lambda: model([image])

    def detect() -> Any:
        with torch.autocast(device, dtype=half, enabled=half is not None):
            return model([image])

    return detect


def pasted(detect: Detect) -> Detect:
    """The same call, and the run lengths of its masks in the image."""

    def call() -> list[list[dict[str, Any]]]:
        return [paste_masks_to_rle(d["mask_probs"], d["boxes"], HEIGHT, WIDTH) for d in detect()]

    return call


def call_of(contestant: str, job: str, device: str) -> Detect:
    """What is timed."""
    classes = CLASSES if job in SCENES else int(job.split()[2].replace(",", ""))
    model = models(classes)[contestant].to(device)
    if job in SCENES:
        return from_outputs(model, job, device)
    detect = from_image(model, device)
    return pasted(detect) if contestant == PASTED else detect


def is_same(want: dict[str, list[Tensor]], got: dict[str, list[Tensor]]) -> bool:
    """Whether the detections are torchvision's: boxes within 1e-3 pixels, labels, scores within 1e-6."""
    same = torch.equal(want["labels"][0], got["labels"][0])
    near = all(
        torch.allclose(want[key][0], got[key][0], rtol=0, atol=most)
        for key, most in (("boxes", 1e-3), ("scores", 1e-6))
    )
    return same and near


def measured(contestant: str, job: str, turns: int, device: str) -> dict[str, Any]:
    """Runs in a process of its own."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        call = call_of(contestant, job, device)
        settle = torch.cuda.synchronize if device == "cuda" else lambda: None
        clock = time.perf_counter if device == "cuda" else time.process_time
        peak, times = Peak(device), []
        for _ in range(turns + 1):
            settle()
            start = clock()
            call()
            settle()
            times.append(1000 * (clock() - start))
        result = {"ms": statistics.median(times[1:]), "peak_mib": peak.mib()}
        if job in SCENES:
            with without_tf32():
                result["same"] = is_same(*(call_of(name, job, device)() for name in (PEER, contestant)))
            if contestant == UNBOUNDED and not result["same"]:
                raise SystemExit(f"{job}: without a bound, detections differ from torchvision's")
    return result


def contest(job: str, turns: int, device: str) -> list[tuple[object, ...]]:
    """Rows of the result."""
    found: dict[str, dict[str, Any]] = {}
    for name in (OURS, UNBOUNDED if job in SCENES else PASTED, PEER):
        command = [sys.executable, __file__, "--contestant", name, "--job", job, "--turns", str(turns)]
        done = subprocess.run(command + ["--cuda"] * (device == "cuda"), check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        sys.stdout.write(f"{job}, {name}: {found[name]}\n")
    classes = CLASSES if job in SCENES else int(job.split()[2].replace(",", ""))
    rows: list[tuple[object, ...]] = []
    for name, got in found.items():
        ratio, memory = (found[PEER][key] / got[key] for key in ("ms", "peak_mib"))
        numbers = (
            f"{got['ms']:.1f}",
            f"{1000 / got['ms']:.2f}",
            f"{ratio:.1f}",
            f"{got['peak_mib']:.0f}",
            f"{memory:.1f}",
        )
        start = (datetime.now(UTC).date(), machine(device), torch.__version__, job, classes, name, turns)
        rows.append((*start, *numbers, got.get("same", "")))
    return rows


@click.command()
@click.option("--turns", default=3, show_default=True, help="Turns that are counted.")
@click.option("--cuda", is_flag=True, help="On a GPU.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Another file for the table.")
@click.option("--contestant", hidden=True)
@click.option("--job", hidden=True)
def main(turns: int, cuda: bool, out: Path | None, contestant: str | None, job: str | None) -> None:
    """Measures and records."""
    if cuda and not torch.cuda.is_available():
        raise click.UsageError("--cuda: no CUDA device is visible here; leave it out to measure on the CPU")
    device = "cuda" if cuda else "cpu"
    if contestant is not None and job is not None:
        sys.stdout.write(json.dumps(measured(contestant, job, turns, device)) + "\n")
        return
    jobs = (*SCENES, "whole image, 80 classes", f"whole image, {CLASSES} classes")
    rows = [row for one in jobs for row in contest(one, turns, device)]
    record(out or RESULTS / f"inference{'_cuda' if cuda else ''}.csv", COLUMNS, rows)


if __name__ == "__main__":
    main()
