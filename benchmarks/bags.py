"""Balanced Group Softmax at the size of LVIS v0.5 (1,236 logits), against a loop over the slices.

    python benchmarks/bags.py [--cuda]

The peer works as the released code does: for each slice in turn it looks up the bins, draws the others that stay by
their places, takes a weighted cross-entropy and divides it; for the scores it takes one softmax a slice and assigns its
columns to those of the classes. Before anything is timed, both have to give the same losses and the same gradient for
the same kept regions, the same number of kept regions when each draws for itself, and the same scores.

Every run is a process of its own; in it the contestants take turns of two calls, of which the second is timed. A time
is the smallest of all turns of all runs, of CPU time (of all threads, also while they wait) and of wall time. Each
process first frees one tensor of 31 MiB: from then on the C library keeps freed memory, as it does once a detector has
run, instead of asking the system for new pages each time. Times of a loss include its gradient for the logits.
``operations`` are calls that PyTorch dispatches, views left out; ``waits`` are those for which the host would wait for
a GPU. Writes benchmarks/results/bags.csv, replacing it.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from common.operations import Operations
from common.record import machine, record
from torch import Tensor
from torch.nn import functional as F

from lt_data.counts.categories import embedded_reference
from lt_train.heads import make_head
from lt_train.heads.groups.bags import BagsHead
from lt_train.heads.groups.region_weights import others_weights

RESULTS = Path(__file__).parent / "results" / "bags.csv"
COLUMNS = (
    *("date", "machine", "torch", "job", "threads", "contestant", "runs", "turns", "cpu_ms", "wall_ms"),
    *("cpu_ratio", "wall_ratio", "operations_forward", "operations", "waits"),
)
OURS, PEER = "lt-train", "slice by slice"
RATIO = 8.0
FOREGROUND = 0.25
# regions, and micro-batches that they come from
SIZES = ((512, 1), (1024, 1), (2048, 4))
KEPT_BY_MALLOC = 31 * 2**20

Job = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Batch:
    """What the contestants work on: a head, the peer's tables, R logits and labels, a generator."""

    head: BagsHead
    columns: list[Tensor]
    logits: Tensor
    labels: Tensor
    generator: torch.Generator


def batch(regions: int, device: str) -> Batch:
    """LVIS v0.5's counts in a drawn order; a quarter of the regions are objects, of classes as frequent as there."""
    random = np.random.default_rng(0)
    counts = random.permutation(embedded_reference("lvis-v0.5").instances)
    head = make_head("bags", instance_counts=counts.tolist()).to(device)
    assert isinstance(head, BagsHead)
    labels = random.choice(len(counts), regions, p=counts / counts.sum()) + 1
    labels[random.random(regions) >= FOREGROUND] = 0
    logits = torch.from_numpy(random.normal(scale=2, size=(regions, head.num_logits)).astype(np.float32))
    columns = [row.nonzero()[:, 0] for row in head.label_to_bin[1:]]
    generator = torch.Generator().manual_seed(0)
    return Batch(head, columns, logits.to(device), torch.from_numpy(labels).to(device), generator)


def peer_weights(bins: Tensor, generator: torch.Generator) -> Tensor:
    """Weights of one group's regions: its own, and a draw of others by their places."""
    own = bins > 0
    weights = torch.zeros(len(bins), device=bins.device)
    positives = int(own.sum())
    if positives == 0:
        return weights
    others = (~own).nonzero()[:, 0]
    kept = int(positives * RATIO)
    if kept >= len(others):
        return torch.ones_like(weights)
    weights[own] = 1
    drawn = torch.randperm(len(others), generator=generator)[:kept]
    weights[others[drawn.to(others.device)]] = 1
    return weights


def peer_loss(b: Batch, logits: Tensor, labels: Tensor, given: Tensor | None = None) -> list[Tensor]:
    """Losses of the slices; ``given`` [G, R] are weights to use in place of a draw."""
    losses = []
    for i, (start, length) in enumerate(b.head.slices):
        bins = b.head.label_to_bin[i][labels]
        if i == 0:
            weights = torch.ones(len(bins), device=bins.device)
        else:
            weights = peer_weights(bins, b.generator) if given is None else given[i - 1]
        divisor = max(float(weights.sum()), 1.0)
        per_region = F.cross_entropy(logits[:, start : start + length], bins, reduction="none")
        losses.append((per_region * weights).sum() / divisor)
    return losses


def peer_loss_in_parts(b: Batch, logits: Tensor, parts: int) -> list[Tensor]:
    """The mean over equal micro-batches, one after another."""
    pairs = zip(logits.chunk(parts), b.labels.chunk(parts), strict=True)
    each = [torch.stack(peer_loss(b, rows, labels)) for rows, labels in pairs]
    return list(torch.stack(each).mean(dim=0).unbind())


def peer_scores(b: Batch) -> Tensor:
    """Scores, the columns of one slice after another."""
    parts = [b.logits[:, start : start + length].softmax(dim=1) for start, length in b.head.slices]
    scores = b.logits.new_zeros(len(b.logits), b.head.num_classes + 1)
    for columns, part in zip(b.columns, parts[1:], strict=True):
        scores[:, columns] = part[:, 1:]
    scores[:, 1:] *= parts[0][:, 1:]
    scores[:, 0] = parts[0][:, 0]
    return scores


def with_gradient(logits: Tensor, losses: Callable[[Tensor], list[Tensor]]) -> Callable[[], Tensor]:
    """A call that takes the losses and the gradient of their sum."""
    leaf = logits.detach().requires_grad_()
    return lambda: torch.autograd.grad(torch.stack(losses(leaf)).sum(), leaf)[0]


def check_same(b: Batch) -> None:
    """Stops unless losses, gradients, numbers of kept regions and scores are the same."""
    bins = b.head.label_to_bin[1:, b.labels]
    kept = others_weights(bins, RATIO, generator=torch.Generator().manual_seed(1))
    drawn = torch.stack([peer_weights(row, b.generator) for row in bins])
    assert torch.equal(kept.sum(dim=1), drawn.sum(dim=1)), "the contestants keep different numbers of regions"

    def ours(x: Tensor) -> list[Tensor]:
        return list(b.head.loss(x, b.labels, generator=torch.Generator().manual_seed(1)).values())

    def peer(x: Tensor) -> list[Tensor]:
        return peer_loss(b, x, b.labels, kept)

    torch.testing.assert_close(torch.stack(ours(b.logits)), torch.stack(peer(b.logits)), rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(with_gradient(b.logits, ours)(), with_gradient(b.logits, peer)(), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(b.head.scores(b.logits), peer_scores(b), rtol=1e-6, atol=1e-7)


def loss_jobs(device: str, sizes: Sequence[tuple[int, int]] = SIZES) -> Iterator[tuple[str, Job, Job]]:
    """Name, calls with gradient, and calls without."""
    for regions, parts in sizes:
        b = batch(regions, device)
        check_same(b)
        micro_batch = None if parts == 1 else torch.arange(parts, device=device).repeat_interleave(regions // parts)
        calls: dict[str, Callable[[Tensor], list[Tensor]]] = {
            OURS: lambda x, b=b, m=micro_batch: list(
                b.head.loss(x, b.labels, micro_batch=m, generator=b.generator).values()
            ),
            PEER: lambda x, b=b, n=parts: peer_loss_in_parts(b, x, n) if n > 1 else peer_loss(b, x, b.labels),
            "plain cross-entropy": lambda x, b=b: [F.cross_entropy(x, b.labels)],
        }
        name = f"loss and gradient, {regions} regions" + (f" in {parts} micro-batches" if parts > 1 else "")
        forward = {k: (lambda f=f, x=b.logits: f(x)) for k, f in calls.items()}
        yield name, {k: with_gradient(b.logits, f) for k, f in calls.items()}, forward


def jobs(device: str, sizes: Sequence[tuple[int, int]] = SIZES) -> Iterator[tuple[str, Job, Job]]:
    """All jobs; without a gradient, both kinds of calls are the same."""
    yield from loss_jobs(device, sizes)
    b = batch(1000, device)
    check_same(b)
    calls = {
        OURS: lambda: b.head.scores(b.logits),
        PEER: lambda: peer_scores(b),
        "plain softmax": lambda: b.logits.softmax(dim=1),
    }
    yield "scores, 1000 regions", calls, calls


def operations(call: Callable[[], Any]) -> Operations:
    """What one call dispatches."""
    with Operations() as seen:
        call()
    return seen


def turns(calls: Job, number: int, device: str) -> dict[str, tuple[float, float]]:
    """Smallest CPU and wall milliseconds of each, in turns."""
    finish = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    best = dict.fromkeys(calls, (float("inf"), float("inf")))
    for turn in range(number + 3):
        for name, call in calls.items():
            # the first call wipes out what the contestant before left in the caches
            call()
            finish()
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            finish()
            took = (1000 * (time.process_time() - cpu), 1000 * (time.perf_counter() - wall))
            if turn >= 3:
                best[name] = (min(best[name][0], took[0]), min(best[name][1], took[1]))
    return best


def measure(threads: int, number: int, device: str) -> dict[tuple[str, str], tuple[float, float, int, int, int]]:
    """Of one process: by job and contestant, CPU and wall milliseconds, operations forward and in all, waits."""
    torch.set_num_threads(threads)
    torch.empty(KEPT_BY_MALLOC, dtype=torch.uint8)
    result = {}
    for job, calls, forward in jobs(device):
        for name, times in turns(calls, number, device).items():
            seen = operations(calls[name])
            result[job, name] = (*times, operations(forward[name]).number, seen.number, seen.waits)
    return result


def contest(threads: int, runs: int, number: int, device: str) -> list[tuple[object, ...]]:
    """Rows of the result for one number of threads."""
    where = f"{threads} threads" if device == "cpu" else machine(device)
    found = []
    context = multiprocessing.get_context("spawn")
    for run in range(runs):
        with ProcessPoolExecutor(1, mp_context=context) as process:
            found.append(process.submit(measure, threads, number, device).result())
        sys.stdout.write(f"{where}, run {run + 1} of {runs}\n")
    best = {key: tuple(min(f[key][i] for f in found) for i in range(5)) for key in found[0]}
    rows = []
    for (job, name), (cpu, wall, forward, total, waits) in best.items():
        ratios = [round(best[job, PEER][i] / best[job, name][i], 2) for i in range(2)]
        head = (datetime.now(UTC).date().isoformat(), machine(device), torch.__version__)
        times = (runs, number, round(cpu, 3), round(wall, 3), *ratios)
        rows.append((*head, job, threads, name, *times, forward, total, waits))
        sys.stdout.write(f"{where}, {job}, {name}: {cpu:.2f} ms CPU, {wall:.2f} ms wall, ratios {ratios}\n")
    return rows


@click.command()
@click.option("--runs", default=7, show_default=True, help="Processes for each number of threads.")
@click.option("--turns", "number", default=100, show_default=True, help="Turns of each contestant in a process.")
@click.option("--cuda", is_flag=True, help="Also on the GPU, where plain cross-entropy shows the overhead.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, show_default=True)
def main(runs: int, number: int, cuda: bool, out: Path) -> None:
    """Measure and record."""
    rows = [row for threads in (1, 2) for row in contest(threads, runs, number, "cpu")]
    if cuda and torch.cuda.is_available():
        rows += contest(1, runs, number, "cuda")
    else:
        reason = "no CUDA device here" if cuda else "--cuda not given"
        sys.stdout.write(f"GPU: skipped, {reason}\n")
    record(out, COLUMNS, rows)


if __name__ == "__main__":
    main()
