"""Pieces of a step on a GPU, each against its peer in the same process; the scripts for single pieces say more of each.

- ``mask predictor``: ``mask_predictor.py``, one label's mask against the masks of all classes.
- ``1000 proposals``: ``inference.py``, from logits to detections at a threshold of 1e-4, against torchvision.
- ``loss``, ``scores``: ``bags.py``, BAGS against plain cross-entropy or softmax over as many logits: what the method
  costs. ``slice by slice`` is the way of the released code.
- ``mask targets``: 28 x 28 targets of 128 regions from runs of pixels, against torchvision's from bitmaps.
- ``sampling``: the anchors to train on of 16 images, keyed, against torchvision's sampler.

Before a piece is timed, its results are compared with the peer's with TF32 switched off; sampling takes other anchors,
of which the numbers are compared. ``ms`` is the median wall time of the turns, the device at rest at their ends;
``peak_mib`` is memory of tensors beyond what there was before, on a GPU.
"""

from __future__ import annotations

import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bags
import inference
import mask_predictor
import numpy as np
import torch
from common.drawn_data import star
from common.precision import without_tf32
from common.record import Table
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from lt_train.data.instance_masks import InstanceMasks
from lt_train.data.mask_targets import mask_targets
from lt_train.detectors.regions.sampling import BoxSampler

COLUMNS = ("piece", "classes", "contestant", "turns", "ms", "ratio", "peak_mib", "memory_ratio")
OURS, TORCHVISION = "lt-train", "torchvision"
HEIGHT, WIDTH = 800, 1066
INSTANCES, CELLS = 20, 28

Calls = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        regions: Of the mask predictor's loss, and of mask targets.
        detections: Of its inference.
        proposals: Of an image.
        sizes: Regions of the BAGS loss, and micro-batches.
        images: Of sampling.
        anchors: Of an image.
        turns: That are timed.
        classes: Of the mask predictor.
    """

    regions: int = 128
    detections: int = 300
    proposals: int = 1000
    sizes: tuple[tuple[int, int], ...] = ((512, 1), (2048, 4))
    images: int = 16
    anchors: int = 268_569
    turns: int = 20
    classes: tuple[int, ...] = (80, 1230)


TINY = Size(4, 4, 20, ((64, 1),), 2, 1000, 2, (80,))


@dataclass(frozen=True)
class Piece:
    """Calls that do the same, by contestant; ``peer`` is the one of the ratios."""

    name: str
    classes: int | None
    calls: Calls
    peer: str


def measure(path: Path, device: str, *, tiny: bool) -> list[str]:
    """Writes the table.

    Args:
        path: The CSV file.
        device: ``cpu`` or ``cuda``.
        tiny: A rehearsal at the smallest size.

    Returns:
        A line for every piece that failed; the others are measured all the same.
    """
    table, size = Table(path, COLUMNS, device), TINY if tiny else Size()
    failed = []
    for make in (mask_predictors, balanced_groups, targets, sampling, detections):
        try:
            for piece in make(device, size):
                add_rows(table, piece, device, size.turns)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            failed.append(f"{make.__name__}: {type(error).__name__}: {error}".splitlines()[0])
    return failed


def add_rows(table: Table, piece: Piece, device: str, turns: int) -> None:
    """Times a piece."""
    found = {name: timed(call, device, turns) for name, call in piece.calls.items()}
    for name, (ms, mib) in found.items():
        ms_of_peer, mib_of_peer = found[piece.peer]
        memory = mib_of_peer / mib if mib and mib_of_peer is not None else None
        table.add(piece.name, piece.classes, name, turns, ms, ms_of_peer / ms, mib, memory)


def timed(call: Callable[[], Any], device: str, turns: int) -> tuple[float, float | None]:
    """Median milliseconds of a call, and MiB beyond what there was."""
    settle = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    for turn in range(turns + 2):
        settle()
        if turn == 2 and device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        start = time.perf_counter()
        call()
        settle()
        times.append(1000 * (time.perf_counter() - start))
    mib = (torch.cuda.max_memory_allocated() - before) / 2**20 if device == "cuda" else None
    return statistics.median(times[2:]), mib


def mask_predictors(device: str, size: Size) -> Iterator[Piece]:
    """Pieces of the mask branch."""
    for job in mask_predictor.JOBS:
        regions = size.detections if job.endswith("inference") else size.regions
        for classes in size.classes:
            mask_predictor.check_same(job, classes, device)
            given = mask_predictor.inputs(job, classes, regions, device)
            ways = mask_predictor.ways(job)
            calls: Calls = {
                name: lambda way=way, job=job, given=given: mask_predictor.turn(way, job, given)
                for name, way in ways.items()
            }
            yield Piece(f"mask {job}, {regions} regions", classes, calls, mask_predictor.PEER)


def detections(device: str, size: Size) -> Iterator[Piece]:
    """From a predictor's outputs to detections."""
    models = {k: m.to(device) for k, m in inference.models(inference.CLASSES).items() if k != inference.PASTED}
    for scene in inference.SCENES:
        calls = {name: inference.from_outputs(model, scene, device, size.proposals) for name, model in models.items()}
        with torch.inference_mode():
            with without_tf32():
                same = inference.is_same(calls[inference.PEER](), calls[inference.UNBOUNDED]())
            if not same:
                raise SystemExit(f"{scene}: without a bound, detections differ from torchvision's")
            # only for the comparison
            del calls[inference.UNBOUNDED]
            yield Piece(f"{size.proposals} {scene.split(maxsplit=1)[1]}", inference.CLASSES, calls, inference.PEER)


def balanced_groups(device: str, size: Size) -> Iterator[Piece]:
    """BAGS against plain cross-entropy."""
    for name, calls, _ in bags.jobs(device, size.sizes):
        yield Piece(f"BAGS {name}", len(bags.batch(1, "cpu").head.label_to_bin[0]) - 1, calls, list(calls)[-1])


def targets(device: str, size: Size) -> Iterator[Piece]:
    """Mask targets of one image."""
    random = np.random.default_rng(0)
    outlines = [star(random, np.full(2, random.uniform(30, 320)), WIDTH, HEIGHT) for _ in range(INSTANCES)]
    flat = [[outline.reshape(-1).tolist()] for outline in outlines]
    masks = InstanceMasks.from_segmentations(flat, HEIGHT, WIDTH)
    drawn = [coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(s, HEIGHT, WIDTH))) for s in flat]
    bitmaps = torch.from_numpy(np.stack(drawn)).to(device)
    corners = torch.tensor(np.array([np.concatenate([o.min(0), o.max(0)]) for o in outlines]), dtype=torch.float32)
    matched = torch.arange(size.regions) % INSTANCES
    moved = corners[matched] + torch.from_numpy(random.uniform(-3, 3, (size.regions, 4))).float()
    boxes = moved.clamp(min=0).minimum(torch.tensor([WIDTH, HEIGHT] * 2)).to(device)
    runs, matched = masks.runs().to(torch.device(device)), matched.to(device)
    calls: Calls = {
        OURS: lambda: mask_targets(runs, boxes, matched, CELLS, "exact"),
        TORCHVISION: lambda: project_masks_on_boxes(bitmaps, boxes, matched, CELLS),
    }
    torch.testing.assert_close(calls[OURS](), calls[TORCHVISION](), rtol=0, atol=1e-4)
    yield Piece(f"mask targets, {size.regions} regions", None, calls, TORCHVISION)


def sampling(device: str, size: Size) -> Iterator[Piece]:
    """Anchors to train on: about one in 5,000 is positive, as in COCO."""
    generator = torch.Generator().manual_seed(0)
    chance = torch.rand(size.images, size.anchors, generator=generator)
    labels = torch.where(chance < 2e-4, 1.0, torch.where(chance < 0.9, 0.0, -1.0)).to(device)
    ours, peer = BoxSampler(256, 0.5), BalancedPositiveNegativeSampler(256, 0.5)
    seeds = list(range(size.images))
    calls: Calls = {OURS: lambda: ours(labels, seeds), TORCHVISION: lambda: indices_of(peer, labels)}
    if int(ours(labels, seeds).taken.sum()) != sum(map(len, indices_of(peer, labels))):
        raise SystemExit("sampling: the contestants take different numbers of anchors")
    yield Piece(f"sampling, {size.images} images", None, calls, TORCHVISION)


def indices_of(peer: BalancedPositiveNegativeSampler, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The drawn anchors, positive and negative ones, as torchvision's RPN looks them up for the whole batch."""
    positive, negative = (torch.where(torch.cat(masks))[0] for masks in peer(list(labels)))
    return positive, negative
