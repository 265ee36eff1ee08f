"""The mask branch's last layers for one label a region, against torchvision's predictor, which computes every class.

    python benchmarks/mask_predictor.py [--cuda] [--out FILE]

``loss``: mask logits of 128 foreground regions, their binary cross-entropy and its gradients for the features and all
weights. ``inference``: logits and probabilities of 300 detections. ``1x1 layer`` is the layer whose size depends on the
number of classes; ``predictor`` also has the transposed convolution in front of it, which is the same on both sides and
bounds its ratio. Both sides use the same weights, and before anything is timed the loss, its gradients and the
probabilities have to agree within 1e-6, on a GPU within 1e-5 with TF32 switched off. What is timed is float32 with
PyTorch's defaults: on a GPU cuDNN's convolutions use TF32 and matrix products do not, whichever side has them. Each
contestant runs in a process of its own with one thread; a time is the median of its turns, after one that is not
counted; ``peak_mib`` is memory beyond what the process had before the first turn (anonymous memory of the process, or
tensors on a GPU).
Writes benchmarks/results/mask_predictor.csv (with ``--cuda`` mask_predictor_cuda.csv), replacing it.
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

import click
import torch
from common.peak import Peak
from common.precision import without_tf32
from common.record import machine, record
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

from lt_train.detectors.regions.mask_predictor import channels_of_labels, masks_of_labels

RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    *("date", "machine", "torch", "job", "classes", "regions", "contestant", "turns", "ms", "ratio", "peak_mib"),
    "memory_ratio",
)
OURS, PEER = "lt-train", "torchvision"
# 1x1 layer: rows of 28 x 28 cells; predictor: of 14 x 14
JOBS = {"1x1 layer, loss": (128, 28), "predictor, loss": (128, 14), "predictor, inference": (300, 14)}
CLASSES = (80, 1230)
CHANNELS = 256
# on a GPU sums are taken in another order
SAME = {"cpu": 1e-6, "cuda": 1e-5}

Way = Callable[[nn.Module, Tensor, Tensor], Tensor]


def every_class(module: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """As torchvision does: all masks, then the label's."""
    logits: Tensor = module(features)
    return logits[torch.arange(len(labels), device=labels.device), labels]


def ways(job: str) -> dict[str, Way]:
    """The contestants."""
    return {OURS: channels_of_labels if job.startswith("1x1") else masks_of_labels, PEER: every_class}


def inputs(job: str, classes: int, regions: int, device: str) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """The layers, features, labels and targets, from a seed."""
    torch.manual_seed(0)
    predictor = MaskRCNNPredictor(CHANNELS, CHANNELS, classes + 1)
    side = JOBS[job][1]
    features = torch.randn(regions, CHANNELS, side, side)
    labels, wanted = torch.randint(1, classes + 1, (regions,)), torch.rand(regions, 28, 28)
    module = predictor.mask_fcn_logits if job.startswith("1x1") else predictor
    return module.to(device), features.to(device).requires_grad_(), labels.to(device), wanted.to(device)


def turn(way: Way, job: str, given: tuple[nn.Module, Tensor, Tensor, Tensor]) -> list[Tensor]:
    """What is timed; its results."""
    module, features, labels, wanted = given
    if job.endswith("inference"):
        with torch.inference_mode():
            return [way(module, features, labels).sigmoid()]
    loss = F.binary_cross_entropy_with_logits(way(module, features, labels), wanted)
    return [loss.detach(), *torch.autograd.grad(loss, [features, *module.parameters()])]


def check_same(job: str, classes: int, device: str) -> None:
    """Stops unless both ways give the same."""
    given = inputs(job, classes, 16, device)
    with without_tf32():
        ours, theirs = (turn(way, job, given) for way in ways(job).values())
    worst = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
    if worst > SAME[device]:
        raise SystemExit(f"{job}, {classes} classes: results differ by {worst}")


def measured(contestant: str, job: str, classes: int, turns: int, device: str) -> dict[str, float]:
    """Runs in a process of its own."""
    torch.set_num_threads(1)
    check_same(job, classes, device)
    given = inputs(job, classes, JOBS[job][0], device)
    settle = torch.cuda.synchronize if device == "cuda" else lambda: None
    clock = time.perf_counter if device == "cuda" else time.process_time
    peak, times = Peak(device), []
    for _ in range(turns + 1):
        settle()
        start = clock()
        turn(ways(job)[contestant], job, given)
        settle()
        times.append(1000 * (clock() - start))
    return {"ms": statistics.median(times[1:]), "peak_mib": peak.mib()}


def contest(job: str, classes: int, turns: int, device: str) -> list[tuple[object, ...]]:
    """Rows of the result."""
    found: dict[str, dict[str, float]] = {}
    for name in ways(job):
        command = [sys.executable, __file__, "--contestant", name, "--job", job, "--classes", str(classes)]
        command += ["--turns", str(turns), *(["--cuda"] if device == "cuda" else [])]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        sys.stdout.write(f"{job}, {classes} classes, {name}: {found[name]}\n")
    start = (datetime.now(UTC).date(), machine(device), torch.__version__, job, classes, JOBS[job][0])
    rows: list[tuple[object, ...]] = []
    for name, got in found.items():
        ratios = [found[PEER][key] / got[key] for key in ("ms", "peak_mib")]
        memory = (f"{got['peak_mib']:.0f}", f"{ratios[1]:.1f}")
        rows.append((*start, name, turns, f"{got['ms']:.1f}", f"{ratios[0]:.1f}", *memory))
    return rows


@click.command()
@click.option("--turns", default=5, show_default=True, help="Turns that are counted.")
@click.option("--cuda", is_flag=True, help="On a GPU.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Another file for the table.")
@click.option("--contestant", hidden=True)
@click.option("--job", hidden=True)
@click.option("--classes", type=int, hidden=True)
def main(
    turns: int, cuda: bool, out: Path | None, contestant: str | None, job: str | None, classes: int | None
) -> None:
    """Measures and records."""
    if cuda and not torch.cuda.is_available():
        raise click.UsageError("--cuda: no CUDA device is visible here; leave it out to measure on the CPU")
    device = "cuda" if cuda else "cpu"
    if contestant is not None and job is not None and classes is not None:
        sys.stdout.write(json.dumps(measured(contestant, job, classes, turns, device)) + "\n")
        return
    rows = [row for job in JOBS for number in CLASSES for row in contest(job, number, turns, device)]
    record(out or RESULTS / f"mask_predictor{'_cuda' if cuda else ''}.csv", COLUMNS, rows)


if __name__ == "__main__":
    main()
