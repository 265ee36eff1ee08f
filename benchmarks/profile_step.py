"""Where the processor's time goes in one training step, lt-train and its peer, by kind of operator.

    python benchmarks/profile_step.py [--side 320] [--out FILE]

The contestants are those of ``train_step.py`` (all weights trained, two images, fp32 on the CPU), each in a process of
its own with one thread. One step warms up; the next one is recorded by PyTorch's profiler, from the loaded batch to
the changed weights: planning and loading are left out. ``ms`` is self CPU time as the profiler gives it, recording
itself included: time of an operator without that of the operators it calls, so that nothing is counted twice.
``share`` is that over the sum of all kinds. Python code between operators is in no kind.

- ``convolutions``: forward and backward, transposed ones too.
- ``matrix products``: forward and backward, those of fully connected layers too; of lt-train also the mask branch's
  last layer, which is a convolution in the peer.
- ``roi_align``: forward and backward.
- ``nms``.
- ``copies and fills``: copying, joining (``cat``) and filling tensors, whoever asked for it.
- ``all else``.

Writes benchmarks/results/profile_step.csv, replacing it.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import click
import torch
from common.record import machine, record
from common.steps import OBJECTS, Job, jobs, ours, peer, propose_like_a_trained_network
from torch.profiler import ProfilerActivity, profile
from train_step import PEER, defaults

RESULTS = Path(__file__).parent / "results" / "profile_step.csv"
COLUMNS = ("date", "machine", "torch", "classes", "contestant", "kind", "ms", "share")
OURS = "lt-train"
ELSE = "all else"
# operators by their names without the library; autograd nodes, whose own time is small, are in the last kind
KINDS = {
    "convolutions": (
        *("conv2d", "conv_transpose2d", "convolution", "_convolution", "mkldnn_convolution", "thnn_conv2d"),
        *("_slow_conv2d_forward", "_slow_conv2d_backward", "slow_conv_transpose2d", "convolution_backward"),
    ),
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "addbmm", "matmul", "linear"),
    "roi_align": ("roi_align", "_roi_align_backward"),
    "nms": ("nms",),
    "copies and fills": ("copy_", "_to_copy", "clone", "contiguous", "cat", "fill_", "zero_"),
}


def kind_of(operator: str) -> str:
    """The kind of an operator, such as ``aten::mm``."""
    name = operator.rpartition("::")[2]
    return next((kind for kind, names in KINDS.items() if name in names), ELSE)


def profiled(job: Job, contestant: str) -> dict[str, float]:
    """Milliseconds of each kind in one step; runs in a process of its own."""
    torch.set_num_threads(1)
    training = peer(job) if contestant == PEER else ours(job, ())
    propose_like_a_trained_network(training.model, job.regions)
    for _ in range(job.warmup):
        training.step()
    training.draw_ahead()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        training.step()
    found: Counter[str] = Counter()
    for event in seen.key_averages():
        found[kind_of(event.key)] += event.self_cpu_time_total
    return {kind: found[kind] / 1000 for kind in (*KINDS, ELSE)}


def rows_of(job: Job, contestant: str) -> Iterator[tuple[object, ...]]:
    """Rows of the result for one contestant."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        found = process.submit(profiled, job, contestant).result()
    whole = sum(found.values())
    for kind, ms in found.items():
        sys.stdout.write(f"{job.classes} classes, {contestant}, {kind}: {ms:.1f} ms, {ms / whole:.1%}\n")
        start = (datetime.now(UTC).date(), machine(), torch.__version__, job.classes, contestant)
        yield (*start, kind, f"{ms:.1f}", f"{ms / whole:.3f}")


@click.command()
@click.option("--side", default=320, show_default=True, help="Short side in pixels.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, show_default=True)
def main(side: int, out: Path) -> None:
    """Measures and records."""
    options = defaults(cuda=False) | {"side": side}
    with tempfile.TemporaryDirectory() as folder:
        wanted = jobs(Path(folder), [(classes, "all") for classes in OBJECTS], **options)
        rows = [row for job in wanted for name in (PEER, OURS) for row in rows_of(job, name)]
    record(out, COLUMNS, rows)


if __name__ == "__main__":
    main()
