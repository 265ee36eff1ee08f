"""Training steps of ``lt-train fit`` against a plain torchvision loop, Mask R-CNN R50-FPN with 80 and 1,230 classes.

    python benchmarks/train_step.py           # two images of 320 pixels, on the CPU
    python benchmarks/train_step.py --cuda    # 16 images of 800 x 1333, half precision on both sides
    python benchmarks/train_step.py --only 1230:all    # one job of the four; may be given several times

The peer is ``peer_training.py``: what torchvision's reference scripts do (with ``--amp`` on a GPU). lt-train runs what
``fit`` runs, from the recipe on: its loader, its model, its step. Both read the same drawn JPEGs (``drawn_data.py``)
and start from the same weights; batch norms use stored statistics and the first stages are not trained. lt-train trains
the weights of batch norms too, as its recipes do, which is more work than the peer's. An untrained network proposes
hardly an object, so on both sides 12 proposals around every object replace the worst ones: as many regions are
foreground as in a trained network. ``classifier`` is a second stage: the peer freezes all other weights.

First, in fp32 (TF32 switched off) and on the same inputs with the same random state, the losses of several steps have
to agree (``loss_difference`` is the largest relative one; empty if the check ran out of memory; if they differ,
everything stops). What is timed is fp32 on a CPU, and on a GPU half precision by autocast, with PyTorch's defaults for
what is left in fp32. Then every contestant runs in a process of its own: some steps that are not counted, then steps
that are timed together (``s_per_step``: wall time, data included; ``cpu_s``: processor time of this process), then
steps in which each part is timed with the device at rest, then one whose waits are counted: calls for which the host
waits for a GPU, by the package that made them. On a GPU these are what PyTorch warns of; on a CPU those that would
wait, as ``operations.py`` tells them: copies to the device are counted where a tensor is made there, not where one is
moved, as images and targets are. The step is planned and its batch loaded before. ``ratio`` (of wall time on a GPU, of
processor time on a CPU) and ``memory_ratio`` are the peer's figure over the contestant's, both of the same call.
``peak_mib`` is tensors on a GPU, else the process.

Writes benchmarks/results/train_step.csv or train_step_cuda.csv after every contestant. A contestant that fails (no
compiler, out of memory) leaves a note on stderr and no row; without the peer's row there are no ratios. The table is
replaced; with ``--only`` a row takes the place of one of the same ``trains``, ``classes``, ``contestant`` and
``machine``, and the other rows stay.
"""

from __future__ import annotations

import copy
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from drawn_data import draw_data
from operations import Operations
from peer_training import ReferenceTraining, freeze_all_but_the_classifier, reference_batches, reference_model
from precision import without_tf32
from pycocotools import mask as coco_mask
from record import machine, record
from torch import Tensor, nn

from lt_train.data import mask_runs
from lt_train.data.dataset import make_loader
from lt_train.data.instance_masks import InstanceMasks
from lt_train.detectors import LongTailDetector, detector
from lt_train.engine.optim import lr_at
from lt_train.engine.setup import choose_device, load_run_data, make_plan
from lt_train.engine.state import start_state
from lt_train.engine.step import Draws, train_step
from lt_train.heads import make_head
from lt_train.recipe import make_recipe

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
# objects of an image: the means of COCO and of LVIS
OBJECTS = {80: 7, 1230: 13}
# classes and trains of every job
JOBS = tuple((classes, trains) for classes in OBJECTS for trains in ("all", "classifier"))
NAMES = {f"{classes}:{trains}": (classes, trains) for classes, trains in JOBS}
LR = 1e-3
PROPOSALS_OF_AN_OBJECT = 12
LONGEST = 5 / 3
CHECKED_STEPS = 3
# largest relative difference of a loss: the order of sums differs, and weights drift apart after the first step
SAME = 2e-3
# signs of it in an error's text, and the exit status of a process that the system killed for it
NO_MEMORY = ("out of memory", "MemoryError", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
KILLED = -9


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        annotations: The drawn data.
        weights: State dict of the peer's model.
        trains: ``all`` or ``classifier``.
        classes: C.
        batch: Images of a step.
        side: Short side in pixels.
        device: ``cpu`` or ``cuda``.
        workers: Loader processes.
        warmup: Steps that are not counted.
        steps: Steps that are.
    """

    annotations: str
    weights: str
    trains: str
    classes: int
    batch: int
    side: int
    device: str
    workers: int
    warmup: int
    steps: int

    @property
    def most(self) -> int:
        """Longest side in pixels."""
        return int(self.side * LONGEST)


def contestants(device: str) -> dict[str, tuple[str, ...]]:
    """Name and recipe overrides; the peer has none."""
    if device == "cpu":
        return {PEER: (), "lt-train": (), "lt-train, NHWC": ("compute.channels_last=true",)}
    half = ("compute.precision=bf16", "compute.channels_last=true")
    return {
        PEER: (),
        "lt-train, fp16": ("compute.precision=fp16",),
        "lt-train, bf16, NHWC": half,
        "lt-train, bf16, NHWC, compiled": (*half, "compute.compile=true"),
    }


class Timed:
    """An iterator that knows how long it was waited for, and can be asked ahead of time."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches, self.seconds = batches, 0.0
        self.ahead: list[Any] = []

    def __iter__(self) -> Timed:
        return self

    def __next__(self) -> Any:
        start = time.perf_counter()
        batch = self.ahead.pop() if self.ahead else next(self.batches)
        self.seconds += time.perf_counter() - start
        return batch

    def draw_ahead(self) -> None:
        """Gets the next one now, so that whoever asks for it waits for nothing."""
        self.ahead.append(next(self.batches))


@dataclass(frozen=True)
class Training:
    """A contestant: its model, what takes a step, its batches, and the planned steps where there is a plan."""

    model: nn.Module
    step: Callable[[], Any]
    batches: Timed
    plan: Timed | None = None

    def draw_ahead(self) -> None:
        """Plans and loads the next step now."""
        self.batches.draw_ahead()
        if self.plan is not None:
            self.plan.draw_ahead()


def peer(job: Job) -> Training:
    """The peer's training."""
    torch.manual_seed(0)
    model = reference_model(job.classes, job.side, job.most)
    model.load_state_dict(torch.load(job.weights, weights_only=True))
    if job.trains == "classifier":
        freeze_all_but_the_classifier(model)
    model.to(job.device)
    batches = Timed(reference_batches(Path(job.annotations), job.batch, job.workers, seed=0))
    training = ReferenceTraining(model, batches, lr=LR, half=job.device == "cuda")
    return Training(model, training.step, batches)


def ours(job: Job, overrides: Sequence[str]) -> Training:
    """What ``lt-train fit`` does."""
    files = {"annotations": job.annotations, "images": str(Path(job.annotations).parent / "images")}
    content = {
        "train": job.trains,
        "data": {"train": files, "workers": job.workers},
        "model": {"weights": job.weights, "min_size": [job.side], "max_size": job.most},
        "optim": {"lr": LR, "batch": job.batch, "base_batch": job.batch},
        "schedule": {"epochs": 10_000, "decay": [9_999], "warmup": 0},
        "device": job.device,
    }
    recipe = make_recipe(content, overrides)
    data = load_run_data(recipe)
    plan = make_plan(recipe, data)
    device = choose_device(recipe.device)
    state = start_state(recipe, data, device, init_from=None, resume=False)
    state.model.train()
    batches = Timed(make_loader(data.dataset, Draws(plan, 0), workers=job.workers, pin_memory=device.type == "cuda"))
    steps = Timed(plan.steps(0))

    def step() -> None:
        planned = next(steps)
        losses = train_step(state, planned, batches, lr=lr_at(planned, recipe.optim, recipe.schedule))
        if planned.index % recipe.log_every == 0:
            losses.read()

    return Training(state.model, step, batches, steps)


def propose_like_a_trained_network(model: nn.Module) -> None:
    """Puts boxes around the objects in place of the worst proposals, in training."""

    def around(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        proposals, losses = output
        found = []
        for boxes, target in zip(proposals, args[2], strict=True):
            truth = target["boxes"].repeat(PROPOSALS_OF_AN_OBJECT, 1)
            extent = (truth[:, 2:] - truth[:, :2]).repeat(1, 2)
            moved = truth + 0.08 * extent * torch.randn_like(truth)
            found.append(torch.cat([boxes[: len(boxes) - len(moved)], moved]))
        return found, losses

    model.rpn.register_forward_hook(around, with_kwargs=True)  # type: ignore[union-attr, operator]


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
    """Calls of one step that wait for a GPU; on a CPU, those that would, which no branch for the CPU hides."""
    training.draw_ahead()
    if device == "cuda":
        found = waits_of_cuda(training.step)
    else:
        mask_runs._on_host = lambda tensor: False
        # it looks at targets before they go to a GPU
        detector.check_targets = lambda *_: None  # type: ignore[assignment]
        with Operations() as seen:
            training.step()
        found = seen.waits_of
    return {f"waits_{name}": found[name] for name in ("lt_train", "torchvision", "other")}


def waits_of_cuda(call: Callable[[], Any]) -> Counter[str]:
    """What PyTorch itself warns of."""
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        call()
    torch.cuda.set_sync_debug_mode("default")
    waits = [w.filename for w in raised if "synchroniz" in str(w.message)]
    packages = ("lt_train", "torchvision")
    return Counter(next((p for p in packages if f"/{p}/" in name), "other") for name in waits)


def measured(job: Job, contestant: str) -> dict[str, float]:
    """Runs in a process of its own."""
    training = peer(job) if contestant == PEER else ours(job, contestants(job.device)[contestant])
    propose_like_a_trained_network(training.model)
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
    models = [stock, LongTailDetector.from_stock(copy.deepcopy(stock), head, pretrained=True)]
    if job.trains == "classifier":
        for model in models:
            freeze_all_but_the_classifier(model)
    trainings = []
    for model in models:
        propose_like_a_trained_network(model.to(job.device))
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
    if worst > SAME:
        raise SystemExit(f"{job}: losses differ by a share of {worst}")
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
        self.output = output
        self.out_of_memory = code == KILLED or any(sign in output for sign in NO_MEMORY)


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


def note(job: Job, contestant: str, error: ContestantError) -> None:
    """Says on stderr what is missing."""
    sys.stderr.write(f"{job.trains}, {job.classes} classes, {contestant}: failed, {error}\n")


def checked(job: Job) -> float | None:
    """The ``loss_difference`` of a job, ``None`` if memory ran out; stops if the check fails in another way."""
    try:
        return run(job, "check")["loss_difference"]
    except ContestantError as error:
        if not error.out_of_memory:
            raise SystemExit(error.output) from None
        note(job, "check", error)
        return None


def contest(job: Job) -> Iterator[tuple[object, ...]]:
    """Rows of the result for one job, each as soon as it is there; none for a contestant that fails."""
    difference, theirs = checked(job), None
    for name in contestants(job.device):
        try:
            got = run(job, name)
        except ContestantError as error:
            note(job, name, error)
            continue
        theirs = got if name == PEER else theirs
        sys.stdout.write(f"{job.trains}, {job.classes} classes, {name}: {got}\n")
        yield row_of(job, name, {**got, **ratios(job, got, theirs), "loss_difference": difference})


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
    where = torch.cuda.get_device_name() if job.device == "cuda" else machine()
    start = (datetime.now(UTC).date(), where, torch.__version__, job.trains, job.classes, job.batch, job.side)
    wanted = (figures[column] for column in COLUMNS[9:])
    return (*start, name, job.steps, *("" if value is None else f"{value:.4g}" for value in wanted))


def key_of(row: Sequence[object]) -> tuple[str, ...]:
    """What tells a row of the table from the others."""
    return tuple(str(row[COLUMNS.index(column)]) for column in KEY)


def recorded(path: Path) -> list[list[str]]:
    """The rows of a table, none if there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        header, *rows = list(csv.reader(handle)) or [[]]
    if header != list(COLUMNS):
        raise click.UsageError(f"--only: {path} has other columns than this script writes; name another file by --out")
    return rows


def jobs(folder: Path, wanted: Collection[tuple[int, str]] = JOBS, **options: Any) -> Iterator[Job]:
    """The wanted jobs, with their data and weights."""
    for classes, objects in OBJECTS.items():
        trained = [trains for number, trains in JOBS if number == classes and (number, trains) in wanted]
        if not trained:
            continue
        data = draw_data(folder / str(classes), images=64, classes=classes, objects=objects)
        torch.manual_seed(0)
        weights = folder / f"{classes}.pt"
        torch.save(reference_model(classes, 800, 1333).state_dict(), weights)
        for trains in trained:
            yield Job(str(data), str(weights), trains, classes, **options)


@click.command()
@click.option("--cuda", is_flag=True, help="On a GPU.")
@click.option("--batch", type=int, help="Images of a step; 16 on a GPU, else 2.")
@click.option("--side", type=int, help="Short side in pixels; 800 on a GPU, else 320.")
@click.option("--steps", type=int, help="Timed steps; 40 on a GPU, else 5.")
@click.option("--workers", type=int, help="Loader processes; 12 on a GPU, else 0.")
@click.option("--only", type=click.Choice(list(NAMES)), multiple=True, help="Only these jobs; other rows are kept.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Another file for the table.")
@click.option("--contestant", hidden=True)
@click.option("--job", hidden=True)
def main(
    cuda: bool,
    batch: int | None,
    side: int | None,
    steps: int | None,
    workers: int | None,
    only: tuple[str, ...],
    out: Path | None,
    contestant: str | None,
    job: str | None,
) -> None:
    """Measures and records."""
    if job is not None and contestant is not None:
        answer(Job(**json.loads(job)), contestant)
        return
    if cuda and not torch.cuda.is_available():
        raise click.UsageError("--cuda: no CUDA device is visible here; leave it out to measure on the CPU")
    given = {"batch": batch, "side": side, "steps": steps, "workers": workers}
    options = defaults(cuda) | {name: value for name, value in given.items() if value is not None}
    path = out or RESULTS / f"train_step{'_cuda' if cuda else ''}.csv"
    table: dict[tuple[str, ...], Sequence[object]] = {key_of(row): row for row in (recorded(path) if only else ())}
    with tempfile.TemporaryDirectory() as folder:
        for one in jobs(Path(folder), [NAMES[name] for name in only] or JOBS, **options):
            for row in contest(one):
                table[key_of(row)] = row
                record(path, COLUMNS, list(table.values()))


def defaults(cuda: bool) -> dict[str, Any]:
    """Options of a job."""
    if cuda:
        return {"batch": 16, "side": 800, "steps": 40, "workers": 12, "warmup": 10, "device": "cuda"}
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
