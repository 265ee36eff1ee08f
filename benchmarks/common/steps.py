"""The contestants of a training step on the same data: torchvision's reference loop, and what ``lt-train fit`` runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from common.drawn_data import draw_data
from common.peer_training import ReferenceTraining, freeze_all_but_the_classifier, reference_batches, reference_model
from lt_train.data.dataset import make_loader
from lt_train.engine.optim import lr_at
from lt_train.engine.state import OWN_BUFFERS, start_state
from lt_train.engine.step import Draws, train_step
from lt_train.recipe.load import make_recipe
from lt_train.runs.data import load_run_data, make_plan
from lt_train.runs.model import choose_device

# objects of an image: the means of COCO and of LVIS
OBJECTS = {1230: 13, 80: 7}
# classes and trains of every job, the widest first
JOBS = tuple((classes, trains) for trains in ("all", "classifier") for classes in OBJECTS)
LR = 1e-3
PROPOSALS_OF_AN_OBJECT = 12
LONGEST = 5 / 3
IMAGES = 64


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
        regions: Regions of an image that the heads are trained on.
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
    regions: int = 512

    @property
    def most(self) -> int:
        """Longest side in pixels."""
        return int(self.side * LONGEST)


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


def ours(job: Job, overrides: Sequence[str], *, group_of_one: bool = False) -> Training:
    """What ``lt-train fit`` does.

    Args:
        job: What is trained.
        overrides: Of the recipe.
        group_of_one: As if it were one of several processes, of which it is the only one.
    """
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
    total = plan.total_steps()
    device = choose_device(recipe.device)
    state = start_state(recipe, data, device, init_from=None, resume=False)
    state.model.train()
    if group_of_one:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        state.trained = DistributedDataParallel(state.model, **OWN_BUFFERS)
    batches = Timed(make_loader(data.dataset, Draws(plan, 0), workers=job.workers, pin_memory=device.type == "cuda"))
    steps = Timed(plan.steps(0))

    def step() -> None:
        planned = next(steps)
        losses = train_step(state, planned, batches, lr=lr_at(planned, recipe.optim, recipe.schedule, total))
        if planned.index % recipe.log_every == 0:
            losses.read()

    return Training(state.model, step, batches, steps)


def propose_like_a_trained_network(model: nn.Module, regions: int) -> None:
    """Puts boxes around the objects in place of the worst proposals, in training; so many regions are drawn."""
    model.roi_heads.fg_bg_sampler.batch_size_per_image = regions  # type: ignore[union-attr, assignment]
    propose_around_objects(model)


def propose_around_objects(model: nn.Module) -> None:
    """Puts boxes around the objects in place of the worst proposals, in training."""

    def around(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        proposals, losses = output
        if args[2] is None:
            return output
        found = []
        for boxes, target in zip(proposals, args[2], strict=True):
            truth = target["boxes"].repeat(PROPOSALS_OF_AN_OBJECT, 1)
            extent = (truth[:, 2:] - truth[:, :2]).repeat(1, 2)
            moved = truth + 0.08 * extent * torch.randn_like(truth)
            found.append(torch.cat([boxes[: len(boxes) - len(moved)], moved]))
        return found, losses

    model.rpn.register_forward_hook(around, with_kwargs=True)  # type: ignore[union-attr, operator]


def jobs(folder: Path, wanted: Collection[tuple[int, str]] = JOBS, **options: Any) -> Iterator[Job]:
    """The wanted jobs in the order of ``JOBS``, with their data and weights."""
    drawn: dict[int, tuple[str, str]] = {}
    for classes, trains in JOBS:
        if (classes, trains) not in wanted:
            continue
        if classes not in drawn:
            data = draw_data(folder / str(classes), images=IMAGES, classes=classes, objects=OBJECTS[classes])
            torch.manual_seed(0)
            weights = folder / f"{classes}.pt"
            torch.save(reference_model(classes, 800, 1333).state_dict(), weights)
            drawn[classes] = str(data), str(weights)
        yield Job(*drawn[classes], trains, classes, **options)
