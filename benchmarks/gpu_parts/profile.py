"""What the host and a GPU do in a training step of lt-train: kernels, calls, waits, and the share of the card's peak.

The job is that of ``train_step.py``: Mask R-CNN R50-FPN, all weights trained, bf16 with NHWC feature maps, as a trained
network's regions. Rows of the table, each for one step:

- ``step``: wall time without the profiler, and the operations (TFLOP) of its convolutions and matrix products, forward
  and backward; ``share`` is what they reach of the card's bf16 peak by its data sheet.
- ``kernels``: time of all kernels together, with the profiler; ``share`` is over the wall time of a step.
- ``matrix product``: 8192 x 8192 x 8192 in bf16, what the card reaches at best; ``share`` as for ``step``.
- ``kernel``: the 30 that take longest; ``share`` is over the time of all kernels.
- ``host``: the 30 calls in which the host's own time is longest; ``share`` is over the time of all calls.
- ``wait``: a line that waits for the GPU, and how often. On a CPU: that would wait.
"""

from __future__ import annotations

import gc
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common.record import Table
from common.steps import Job, Training, jobs, ours, propose_like_a_trained_network
from common.waits import waits_of
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from train_step import HALF, defaults

COLUMNS = ("classes", "kind", "name", "calls", "ms", "share", "tflop")
STEPS = 3
SHOWN = 30
LONGEST_NAME = 160
# dense bf16 TFLOP/s by NVIDIA's data sheets
PEAKS = {"NVIDIA H100 80GB HBM3": 989.4, "NVIDIA H200": 989.4, "NVIDIA A100": 312.0}
SIDE = 8192

Attempt = Callable[[str, Callable[[], None]], None]


def measure(path: Path, device: str, *, tiny: bool) -> list[str]:
    """Writes the table.

    Args:
        path: The CSV file.
        device: ``cpu`` or ``cuda``.
        tiny: A rehearsal at the smallest size.

    Returns:
        A line for everything that failed; the rest is measured all the same.
    """
    failed: list[str] = []

    def attempt(what: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            traceback.print_exc()
            failed.append(f"{what}: {type(error).__name__}: {error}".splitlines()[0])

    table = Table(path, COLUMNS, device)
    options = defaults(device == "cuda", tiny) | {"warmup": 1 if tiny else 5}
    peak = peak_of(device)
    if device == "cuda":
        attempt("matrix product", lambda: add_matrix_product(table, peak))
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs(Path(folder), [(80, "all")] if tiny else [(1230, "all"), (80, "all")], **options):
            attempt(f"{job.classes}:{job.trains}", lambda job=job: profile_job(table, job, peak, attempt))
            gc.collect()
            torch.cuda.empty_cache()
    return failed


def peak_of(device: str) -> float | None:
    """TFLOP/s of the card, if it is a known one."""
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return next((peak for card, peak in PEAKS.items() if name.startswith(card)), None)


def add_matrix_product(table: Table, peak: float | None) -> None:
    """The row ``matrix product``."""
    a, b = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = seconds_of(lambda: a @ b, "cuda")
    tflop = 2 * SIDE**3 / 1e12
    table.add(None, "matrix product", f"{SIDE}^3, bf16", 1, 1000 * seconds, peak and tflop / seconds / peak, tflop)


def profile_job(table: Table, job: Job, peak: float | None, attempt: Attempt) -> None:
    """All rows of a job."""
    training = ours(job, HALF)
    propose_like_a_trained_network(training.model, job.regions)
    for _ in range(job.warmup):
        training.step()
    seconds = seconds_of(training.step, job.device)
    attempt("operations", lambda: add_step(table, job, training, seconds, peak))
    attempt("events", lambda: add_events(table, job, training, seconds))
    attempt("waits", lambda: add_waits(table, job, training))


def add_step(table: Table, job: Job, training: Training, seconds: float, peak: float | None) -> None:
    """The row ``step``."""
    tflop = tflop_of(training.step)
    share = peak and tflop / seconds / peak
    table.add(job.classes, "step", "wall time, not profiled", 1, 1000 * seconds, share, tflop)


def add_waits(table: Table, job: Job, training: Training) -> None:
    """The rows ``wait``."""
    training.draw_ahead()
    for place, number in waits_of(training.step, job.device).most_common():
        table.add(job.classes, "wait", place, number, None, None, None)


def seconds_of(call: Callable[[], Any], device: str) -> float:
    """Wall time of a call, over several."""
    settle = torch.cuda.synchronize if device == "cuda" else lambda: None
    call()
    settle()
    start = time.perf_counter()
    for _ in range(STEPS):
        call()
    settle()
    return (time.perf_counter() - start) / STEPS


def tflop_of(call: Callable[[], Any]) -> float:
    """Operations of the convolutions and matrix products of a call, forward and backward."""
    with FlopCounterMode(display=False) as counted:
        call()
    return counted.get_total_flops() / 1e12


def add_events(table: Table, job: Job, training: Training, seconds: float) -> None:
    """Kernels and calls of the host."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if job.device == "cuda" else [])]
    with profile(activities=activities) as seen:
        for _ in range(STEPS):
            training.step()
        if job.device == "cuda":
            torch.cuda.synchronize()
    averages = seen.key_averages()
    # what PyTorch and users name on the device's side lasts as long as the kernels inside
    kernels = [e for e in averages if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    host = [e for e in averages if e.device_type == DeviceType.CPU]
    if kernels:
        whole = sum(e.self_device_time_total for e in kernels) / STEPS / 1e6
        calls = sum(e.count for e in kernels) / STEPS
        table.add(job.classes, "kernels", "all together", calls, 1000 * whole, whole / seconds, None)
    add_longest(table, job, "kernel", [(e.key, e.count, e.self_device_time_total) for e in kernels])
    add_longest(table, job, "host", [(e.key, e.count, e.self_cpu_time_total) for e in host])


def add_longest(table: Table, job: Job, kind: str, found: list[tuple[str, int, float]]) -> None:
    """Rows of the longest by name, calls and microseconds."""
    whole = sum(microseconds for *_, microseconds in found)
    for name, calls, microseconds in sorted(found, key=lambda row: -row[2])[:SHOWN]:
        ms = microseconds / STEPS / 1000
        table.add(job.classes, kind, name[:LONGEST_NAME], calls / STEPS, ms, microseconds / max(whole, 1), None)
