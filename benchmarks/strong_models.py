"""Seconds and memory of the largest detectors on a GPU: Cascade R-CNN and HTC on ResNeXt-101-64x4d, with BAGS.

    python benchmarks/strong_models.py           # on one GPU, some minutes
    python benchmarks/strong_models.py --tiny    # rehearses all of it with small models on the CPU

Each row is a model of 1,230 classes (LVIS v0.5's counts, 1,236 logits a stage) on images that are drawn at the size
named, 13 objects each, with stuff maps where there is a semantic branch. ``all`` and ``classifier`` are steps of
training: losses, gradients, and SGD with momentum; nothing is loaded meanwhile. ``detect`` is detection, with masks of
28 x 28 that are not pasted. bf16 by autocast with NHWC feature maps; the first stages of the trunk are not trained,
batch norms use stored statistics. No weights are downloaded: the last batch norm of every block of the trunk is scaled
down, so that the numbers stay as small as in a trained one. As in ``train_step.py``, 12 proposals around every object
replace the worst ones in training. The stages see as many positives as there are such boxes, not what a trained one
refines.

``s_per_image`` is the median of the timed turns over the images of a turn, the device at rest at their ends.
``peak_mib`` is the most memory of tensors, weights included; empty on a CPU. A row that fails (out of memory) leaves a
note on stderr, the others are measured, and the exit status is 1 then. Writes
benchmarks/results/strong_models_cuda.csv after every row, replacing it; with --tiny strong_models_cpu.csv below the
folder of --out, which is needed then.
"""

from __future__ import annotations

import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from common.drawn_data import star
from common.record import Table
from common.steps import LR, OBJECTS, propose_around_objects
from torch import Tensor

from lt_data.counts.categories import embedded_reference
from lt_train.data.images import on_device
from lt_train.data.instance_masks import InstanceMasks
from lt_train.data.target import Target
from lt_train.detectors import LongTailDetector, build_detector, set_trainable
from lt_train.heads import make_head
from lt_train.recipe.sections import ComputeSection
from lt_train.runs.compute import prepare

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("model", "semantic", "dcn", "height", "width", "job", "images", "turns", "s_per_image", "peak_mib")
TRAIN, DETECT = ("all", "classifier"), "detect"
WARMUP = 2
# of the last batch norm of a block, in place of 1
DAMPED = 0.2


@dataclass(frozen=True)
class Case:
    """A model at a size.

    Attributes:
        name: Of the detector and its trunk.
        height: Of the images, in pixels; the short side.
        width: The long side.
        images: Of a turn.
        semantic: ``stuff`` or ``none``.
        dcn: ``c3-c5`` or ``none``.
    """

    name: str
    height: int
    width: int
    images: int = 1
    semantic: str = "none"
    dcn: str = "none"


CASES = (
    Case("cascade_rcnn_x101_64x4d_fpn", 800, 1333, images=2),
    Case("htc_x101_64x4d_fpn", 800, 1333, semantic="stuff"),
    # the largest images of a multi-scale range of 400 to 1400
    Case("htc_x101_64x4d_fpn", 1400, 1600, semantic="stuff"),
    Case("htc_x101_64x4d_fpn", 1400, 1600, semantic="stuff", dcn="c3-c5"),
)
TINY = (
    Case("cascade_rcnn_small", 64, 107, images=2),
    Case("htc_small", 64, 107, semantic="stuff"),
)


def model_of(case: Case, device: torch.device) -> LongTailDetector:
    """The detector of a case, with drawn weights."""
    head = make_head("bags", instance_counts=embedded_reference("lvis-v0.5").instances.tolist())
    model = build_detector(
        case.name,
        head,
        weights="imagenet",
        load_pretrained=False,
        min_size=(case.height,),
        max_size=case.width,
        semantic=case.semantic,
        dcn=case.dcn,
        generator=torch.Generator().manual_seed(0),
    )
    for name, weight in model.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.constant_(weight, DAMPED)
    return prepare(model, ComputeSection(precision="bf16", channels_last=True), device)


def batch_of(case: Case, device: torch.device) -> tuple[list[Tensor], list[Target]]:
    """Images of noise and their targets, stars with labels as frequent as in LVIS."""
    random = np.random.default_rng(0)
    counts = embedded_reference("lvis-v0.5").instances
    objects, largest = OBJECTS[len(counts)], 0.4 * case.height
    images, targets = [], []
    for number in range(case.images):
        sides = random.uniform(0.1 * largest, largest, objects)
        outlines = [star(random, np.full(2, side), case.width, case.height) for side in sides]
        flat = [[outline.reshape(-1).tolist()] for outline in outlines]
        target: Any = {
            "boxes": torch.tensor(np.array([[*o.min(0), *o.max(0)] for o in outlines]), dtype=torch.float32),
            "labels": torch.from_numpy(random.choice(len(counts), objects, p=counts / counts.sum()) + 1),
            "masks": InstanceMasks.from_segmentations(flat, case.height, case.width).runs(),
            "image_id": number,
            "draw_seed": number,
            "short_side": case.height,
        }
        if case.semantic == "stuff":
            labels = random.integers(0, 182, (case.height, case.width), np.uint8)
            target["stuff"] = torch.from_numpy(labels)
        images.append(torch.from_numpy(random.random((3, case.height, case.width), np.float32)).to(device))
        targets.append(on_device(target, device))
    return images, targets


def turn_of(job: str, model: LongTailDetector, images: list[Tensor], targets: list[Target]) -> Callable[[], object]:
    """One turn of a job; the model is set to it."""
    if job == DETECT:
        model.eval()
        return torch.inference_mode()(lambda: model(images))
    model.train()
    set_trainable(model, job)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], LR, momentum=0.9)

    def step() -> None:
        # the transform changes targets
        losses = model(images, [{**target} for target in targets])
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measured(call: Callable[[], object], device: torch.device, turns: int) -> tuple[float, float | None]:
    """Median seconds of a turn, and the most MiB of tensors."""
    on_gpu, seconds = device.type == "cuda", []
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARMUP + turns):
        if on_gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARMUP:]), torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None


def add_rows(table: Table, case: Case, device: torch.device, turns: int) -> list[str]:
    """Measures a case; a line for each job that failed."""
    model, failed = model_of(case, device), []
    images, targets = batch_of(case, device)
    propose_around_objects(model)
    settings = (case.name, case.semantic, case.dcn, case.height, case.width)
    # what needs the least memory first: the gradients of a job are gone before the next one
    for job in (DETECT, *reversed(TRAIN)):
        try:
            seconds, mib = measured(turn_of(job, model, images, targets), device, turns)
        except RuntimeError as error:
            traceback.print_exc()
            failed.append(f"{case.name}, {case.height} x {case.width}, {job}: {error}".splitlines()[0])
            model.zero_grad(set_to_none=True)
            continue
        table.add(*settings, job, case.images, turns, seconds / case.images, mib)
    return failed


@click.command()
@click.option("--turns", type=click.IntRange(1), default=10, show_default=True, help="That are timed.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder  [default: benchmarks/results].")
@click.option("--tiny", is_flag=True, help="A rehearsal on the CPU.")
def main(turns: int, out: Path | None, tiny: bool) -> None:
    """Measure and record."""
    if tiny and out is None:
        raise click.UsageError("--tiny needs --out: a rehearsal is not recorded beside the figures.")
    if not tiny and not torch.cuda.is_available():
        raise click.UsageError("no CUDA device is visible here; --tiny rehearses all of it on the CPU")
    device = torch.device("cpu" if tiny else "cuda")
    table = Table((out or RESULTS) / f"strong_models_{device.type}.csv", COLUMNS, device.type)
    failed = [line for case in (TINY if tiny else CASES) for line in add_rows(table, case, device, turns)]
    for line in failed:
        click.echo(line, err=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
