"""Training steps of ``lt-train fit`` against a plain torchvision loop, Mask R-CNN R50-FPN with 80 and 1,230 classes.

    python benchmarks/train_step.py           # two images of 320 pixels, on the CPU
    python benchmarks/train_step.py --cuda    # 16 images of 800 x 1333, half precision on both sides
    python benchmarks/train_step.py --only 1230:all    # one job of the four; may be given several times

The peer is ``common/peer_training.py``: what torchvision's reference scripts do (with ``--amp`` on a GPU: fp16).
lt-train runs what ``fit`` runs, from the recipe on: its loader, its model, its step. Both read the same drawn JPEGs
(``common/drawn_data.py``) and start from the same weights; batch norms use stored statistics and the first stages are
not trained. lt-train trains the weights of batch norms too, as its recipes do, which is more work than the peer's. An
untrained network proposes hardly an object, so on both sides 12 proposals around every object replace the worst ones:
as many regions are foreground as in a trained network. ``classifier`` is a second stage: the peer freezes all other
weights.

First, in fp32 (TF32 switched off) and on the same inputs with the same random state, the losses of several steps have
to agree (``loss_difference`` is the largest relative one; empty if the check failed; the job is timed all the same, and
the exit status is 1 then). On a GPU that check takes 4 images. What is timed is fp32 on a CPU, and on a GPU half
precision by autocast, with PyTorch's defaults for what is left in fp32. Every contestant runs in a process of its own:
some steps that are not counted, then steps that are timed together (``s_per_step``: wall time, data included;
``cpu_s``: processor time of this process), then steps in which each part is timed with the device at rest, then one
whose waits are counted: calls for which the host waits for a GPU, by the package that made them. On a GPU these are
what PyTorch warns of; on a CPU those that would wait, as ``common/operations.py`` tells them: copies to the device are
counted where a tensor is made there, not where one is moved, as images and targets are. The step is planned and its
batch loaded before. ``ratio`` (of wall time on a GPU, of processor time on a CPU) and ``memory_ratio`` are the peer's
figure over the contestant's, both of the same call. ``peak_mib`` is tensors on a GPU, else the process.

The contestants take their turns in rounds, what matters most first: on a GPU the peer and bf16 with NHWC feature maps
for all jobs, then fp16 and bf16 without it, and that one in DistributedDataParallel, then the compiled one where all
weights are trained.

Writes benchmarks/results/train_step.csv or train_step_cuda.csv after every contestant. A contestant that fails (no
compiler, out of memory) leaves a note on stderr and no row; the others are measured, and the exit status is 1 then.
Without the peer's row there are no ratios. The table is
replaced; with ``--only`` a row takes the place of one of the same ``trains``, ``classes``, ``contestant`` and
``machine``, and the other rows stay. ``--tiny`` rehearses all of it with one small job on the CPU.
"""

from __future__ import annotations

import copy
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from common.peer_training import ReferenceTraining, freeze_all_but_the_classifier, reference_batches, reference_model
from common.precision import without_tf32
from common.record import machine, read_rows, record
from common.steps import JOBS, LR, Job, Training, jobs, ours, peer, propose_like_a_trained_network
from common.waits import by_package, waits_of
from pycocotools import mask as coco_mask
from torch import Tensor

from lt_train.data.instance_masks import InstanceMasks
from lt_train.detectors import LongTailDetector
from lt_train.detectors.table import RESNET50
from lt_train.heads import make_head

RESULTS = Path(__file__).parent / "results"
PARTS = ("data", "transform", "backbone", "rpn", "roi_heads")
COLUMNS = (
    *("date", "machine", "torch", "trains", "classes", "batch", "side", "contestant", "steps", "s_per_step", "cpu_s"),
    *("images_per_s", "ratio", "peak_mib", "memory_ratio", "loss_difference"),
    *(f"{part}_s" for part in (*PARTS, "backward_and_optimiser")),
    *("waits_lt_train", "waits_torchvision", "waits_other"),
)
# what no two rows share
KEY = ("machine", "trains", "classes", "contestant")
PEER = "torchvision references"
HALF = ("compute.precision=bf16", "compute.channels_last=true")
# what exchanging gradients costs when there is nobody to exchange them with
DDP = "lt-train, bf16, NHWC, DistributedDataParallel of one process"
# recipe overrides of every contestant; the peer has none
CONTESTANTS = {
    PEER: (),
    "lt-train": (),
    "lt-train, NHWC": ("compute.channels_last=true",),
    "lt-train, fp16": ("compute.precision=fp16",),
    "lt-train, bf16": ("compute.precision=bf16",),
    "lt-train, bf16, NHWC": HALF,
    DDP: HALF,
    "lt-train, bf16, NHWC, compiled": (*HALF, "compute.compile=true"),
}
ON_CPU = ((PEER, "lt-train", "lt-train, NHWC"),)
TINY = ((PEER, "lt-train, bf16, NHWC", DDP),)
ON_GPU = (
    (PEER, "lt-train, bf16, NHWC"),
    ("lt-train, fp16", "lt-train, bf16", DDP),
    ("lt-train, bf16, NHWC, compiled",),
)
NAMES = {f"{classes}:{trains}": (classes, trains) for classes, trains in JOBS}
CHECKED_STEPS, CHECKED_IMAGES = 3, 4
# largest relative difference of a loss: the order of sums differs, and weights drift apart after the first step
SAME = 2e-3

Figures = dict[str, float]


def settle(device: str) -> None:
    """Waits for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def time_parts(training: Training, job: Job) -> dict[str, float]:
    """Seconds of each part of one step, the device at rest at its ends; medians."""
    seconds: dict[str, list[float]] = defaultdict(list)
    started: dict[str, float] = {}
    hooks = []
    for part in PARTS[1:]:

        def before(*_: Any, part: str = part) -> None:
            settle(job.device)
            started[part] = time.perf_counter()

        def after(*_: Any, part: str = part) -> None:
            settle(job.device)
            seconds[part].append(time.perf_counter() - started[part])

        module = getattr(training.model, part)
        hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    for _ in range(max(2, job.steps // 4)):
        waited, start = training.batches.seconds, time.perf_counter()
        training.step()
        settle(job.device)
        whole = time.perf_counter() - start
        seconds["data"].append(training.batches.seconds - waited)
        seconds["backward_and_optimiser"].append(
            whole - sum(times[-1] for part, times in seconds.items() if part in PARTS)
        )
    for hook in hooks:
        hook.remove()
    return {f"{part}_s": statistics.median(times) for part, times in seconds.items()}


def count_waits(training: Training, device: str) -> dict[str, int]:
    """Calls of one step that wait for a GPU; on a CPU, those that would."""
    training.draw_ahead()
    found = by_package(waits_of(training.step, device))
    return {f"waits_{package}": number for package, number in found.items()}


def measured(job: Job, contestant: str) -> dict[str, float]:
    """Runs in a process of its own."""
    training = peer(job) if contestant == PEER else ours(job, CONTESTANTS[contestant], group_of_one=contestant == DDP)
    propose_like_a_trained_network(training.model, job.regions)
    for _ in range(job.warmup):
        training.step()
    settle(job.device)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(job.steps):
        training.step()
    settle(job.device)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if job.device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = {"s_per_step": wall / job.steps, "cpu_s": cpu / job.steps, "peak_mib": peak}
    return {**times, **time_parts(training, job), **count_waits(training, job.device)}


def as_run_lengths(target: dict[str, Tensor]) -> dict[str, Any]:
    """The peer's target with the same bitmaps in lt-train's form."""
    height, width = target["masks"].shape[-2:]
    rles = [coco_mask.encode(np.asfortranarray(m.numpy(), dtype=np.uint8)) for m in target["masks"]]
    return {**target, "masks": InstanceMasks.from_segmentations(rles, height, width)}


def loss_difference(job: Job) -> float:
    """Largest relative difference of a loss in several fp32 steps on the same inputs with the same random state."""
    torch.manual_seed(0)
    stock = reference_model(job.classes, job.side, job.most)
    head = make_head("softmax", instance_counts=[1] * job.classes)
    models = [stock, LongTailDetector.from_stock(copy.deepcopy(stock), head, frozen=RESNET50.frozen)]
    if job.trains == "classifier":
        for model in models:
            freeze_all_but_the_classifier(model)
    trainings = []
    for model in models:
        propose_like_a_trained_network(model.to(job.device), job.regions)
        trainings.append(ReferenceTraining(model, iter(()), lr=LR, half=False))
    worst = 0.0
    batches = reference_batches(Path(job.annotations), job.batch, 0, seed=1)
    for number in range(CHECKED_STEPS):
        images, targets = next(batches)
        losses = []
        for training, given in zip(trainings, (targets, [as_run_lengths(t) for t in targets]), strict=True):
            torch.manual_seed(number)
            training.batches = iter([(images, _moved_later(given))])
            losses.append(training.step())
        # in a second stage lt-train does not compute what trains nothing
        worst = max([worst, *(abs(losses[0][k] - v) / abs(losses[0][k]) for k, v in losses[1].items())])
    return worst


def _moved_later(targets: Sequence[dict[str, Any]]) -> Any:
    """Targets whose masks stay where they are when the loop moves every value."""
    return [
        {key: _Stays(value) if isinstance(value, InstanceMasks) else value for key, value in t.items()} for t in targets
    ]


class _Stays:
    """Something that has no device."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def to(self, device: torch.device) -> Any:
        """Itself."""
        return self.value


class ContestantError(Exception):
    """A contestant's process failed.

    Args:
        code: Its exit status.
        output: What it wrote to stderr.
    """

    def __init__(self, code: int, output: str) -> None:
        lines = [line for line in output.splitlines() if line.strip()]
        super().__init__(lines[-1] if lines else f"exit status {code}")


def run(job: Job, contestant: str) -> dict[str, float]:
    """Starts a contestant.

    Raises:
        ContestantError: It failed.
    """
    command = [sys.executable, __file__, "--contestant", contestant, "--job", json.dumps(asdict(job))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ContestantError(done.returncode, done.stderr)
    sys.stderr.write(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


class Contest:
    """One job: its losses are checked before its first contestant.

    Args:
        job: The job.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.found: dict[str, Figures] = {}
        self.failed: list[str] = []
        self.difference: float | None = None
        self._checked = False

    def check(self) -> None:
        """Compares the losses of both sides, once."""
        if self._checked:
            return
        self._checked = True
        few = min(self.job.batch, CHECKED_IMAGES) if self.job.device == "cuda" else self.job.batch
        try:
            self.difference = run(replace(self.job, batch=few), "check")["loss_difference"]
        except ContestantError as error:
            self._note("check", error)
            return
        if self.difference > SAME:
            self._note("check", f"losses differ by a share of {self.difference:.2g}")

    def _note(self, name: str, error: object) -> None:
        self.failed.append(f"{self.job.classes}:{self.job.trains}, {name}: {error}")
        sys.stderr.write(f"{self.failed[-1]}\n")
        sys.stderr.flush()

    def row(self, name: str) -> tuple[object, ...] | None:
        """Measures a contestant; a row of the table, or ``None`` if it fails."""
        try:
            got = run(self.job, name)
        except ContestantError as error:
            self._note(name, error)
            return None
        self.found[name] = got
        sys.stdout.write(f"{self.job.trains}, {self.job.classes} classes, {name}: {got}\n")
        sys.stdout.flush()
        further = {**ratios(self.job, got, self.found.get(PEER)), "loss_difference": self.difference}
        return row_of(self.job, name, {**got, **further})


def ratios(job: Job, got: dict[str, float], theirs: dict[str, float] | None) -> dict[str, float | None]:
    """What is left out of a contestant's figures: images a second, and the peer's figures over its own."""
    key = "s_per_step" if job.device == "cuda" else "cpu_s"
    return {
        "images_per_s": job.batch / got["s_per_step"],
        "ratio": theirs[key] / got[key] if theirs else None,
        "memory_ratio": theirs["peak_mib"] / got["peak_mib"] if theirs else None,
    }


def row_of(job: Job, name: str, figures: dict[str, float | None]) -> tuple[object, ...]:
    """A row of the table; empty where a figure is ``None``."""
    start = (datetime.now(UTC).date(), machine(job.device), torch.__version__)
    what = (job.trains, job.classes, job.batch, job.side, name, job.steps)
    wanted = (figures[column] for column in COLUMNS[9:])
    return (*start, *what, *("" if value is None else f"{value:.4g}" for value in wanted))


def key_of(row: Sequence[object]) -> tuple[str, ...]:
    """What tells a row of the table from the others."""
    return tuple(str(row[COLUMNS.index(column)]) for column in KEY)


@click.command()
@click.option("--cuda", is_flag=True, help="On a GPU.")
@click.option("--tiny", is_flag=True, help="One small job on the CPU, to try this script.")
@click.option("--batch", type=int, help="Images of a step; 16 on a GPU, else 2.")
@click.option("--side", type=int, help="Short side in pixels; 800 on a GPU, else 320.")
@click.option("--steps", type=int, help="Timed steps; 40 on a GPU, else 5.")
@click.option("--warmup", type=int, help="Steps before them; 10 on a GPU, else 1.")
@click.option("--workers", type=int, help="Loader processes; 12 on a GPU, else 0.")
@click.option("--only", type=click.Choice(list(NAMES)), multiple=True, help="Only these jobs; other rows are kept.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Another file for the table.")
@click.option("--contestant", hidden=True)
@click.option("--job", hidden=True)
def main(
    cuda: bool,
    tiny: bool,
    only: tuple[str, ...],
    out: Path | None,
    contestant: str | None,
    job: str | None,
    **given: int | None,
) -> None:
    """Measures and records."""
    if job is not None and contestant is not None:
        answer(Job(**json.loads(job)), contestant)
        return
    if cuda and tiny:
        raise click.UsageError("--tiny is for the CPU; leave out --cuda")
    if cuda and not torch.cuda.is_available():
        raise click.UsageError("--cuda: no CUDA device is visible here; leave it out to measure on the CPU")
    options = defaults(cuda, tiny) | {name: value for name, value in given.items() if value is not None}
    wanted = [NAMES[name] for name in only] or ([NAMES["80:all"]] if tiny else JOBS)
    if tiny and out is None:
        raise click.UsageError("--tiny is a rehearsal, whose figures are none to record; name a file by --out")
    path = out or RESULTS / f"train_step{'_cuda' if cuda else ''}.csv"
    table = {key_of(row): row for row in (read_rows(path, COLUMNS) if only else ())}
    with tempfile.TemporaryDirectory() as folder:
        contests = [Contest(job) for job in jobs(Path(folder), wanted, **options)]
        for row in rows(contests, TINY if tiny else ON_GPU if cuda else ON_CPU):
            table[key_of(row)] = row
            record(path, COLUMNS, list(table.values()))
    if failed := [line for contest in contests for line in contest.failed]:
        raise SystemExit("; ".join(failed))


def rows(contests: Sequence[Contest], rounds: Sequence[Sequence[str]]) -> Iterator[tuple[object, ...]]:
    """Rows of the table, each as soon as it is there."""
    for names in rounds:
        for contest in contests:
            for name in names:
                contest.check()
                skipped = "compile" in name and contest.job.trains != "all"
                if not skipped and (row := contest.row(name)):
                    yield row


def defaults(cuda: bool, tiny: bool = False) -> dict[str, Any]:
    """Options of a job."""
    if cuda:
        return {"batch": 16, "side": 800, "steps": 40, "workers": 12, "warmup": 10, "device": "cuda"}
    if tiny:
        return {"batch": 1, "side": 64, "steps": 1, "workers": 0, "warmup": 0, "device": "cpu", "regions": 16}
    return {"batch": 2, "side": 320, "steps": 5, "workers": 0, "warmup": 1, "device": "cpu"}


def answer(job: Job, contestant: str) -> None:
    """Measures one contestant or checks the losses, in a process of its own; the figures go to stdout as JSON."""
    if contestant == "check":
        with without_tf32():
            result = {"loss_difference": loss_difference(job)}
    else:
        result = measured(job, contestant)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
