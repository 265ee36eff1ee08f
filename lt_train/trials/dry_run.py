"""A run before it runs: its recipe, its data, what it trains, and how long and large it will be. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lt_data.errors import DataError, LtError
from lt_train.data.dataset import DetectionDataset, make_loader
from lt_train.data.plan import Draw, Plan
from lt_train.engine.budget import trainable_lines
from lt_train.engine.calibrate import groups_to_keep
from lt_train.engine.optim import check_schedule, describe_lr, describe_warmup, lr_at
from lt_train.engine.state import RunState, start_state
from lt_train.engine.step import Draws, name_lost_workers, train_step
from lt_train.engine.usage import StepTimer, Waiting, memory_gib
from lt_train.launch import refuse_several
from lt_train.memory import available_memory, limited_memory, named_memory, training_advice
from lt_train.processes import Processes
from lt_train.randomness import keyed_generator
from lt_train.recipe.origins import Setting, format_settings
from lt_train.recipe.paths import with_absolute_paths
from lt_train.recipe.sections import Recipe
from lt_train.runs.data import RunData, describe_data, load_run_data, make_plan
from lt_train.runs.live import duration
from lt_train.runs.model import choose_device
from lt_train.runs.trackers import make_trackers
from lt_train.sizing.batch import decided_batch

# the first step is not timed: it allocates and chooses kernels
TIMED = 5
# images that are read, and lines about those that cannot be
SAMPLED = 100
SHOWN = 5


def dry_run(
    recipe: Recipe, settings: tuple[Setting, ...], *, init_from: Path | None = None, notes: Sequence[str] = ()
) -> Iterator[str]:
    """Lines about a run, each as soon as it is known.

    Args:
        recipe: What would be run.
        settings: Its values with their origins.
        init_from: A run directory or checkpoint whose weights it would start from.
        notes: Lines about the recipe.

    Raises:
        LtError: What would stop the run at its start, or at an image of the sample that is read.
    """
    refuse_several("--dry-run")
    recipe = with_absolute_paths(recipe)
    yield format_settings(settings)
    yield from notes
    make_trackers(recipe.trackers)
    device = choose_device(recipe.device)
    yield f"\ndevice: {device}"
    fitted = recipe.calibration.name != "none"
    data = load_run_data(recipe, groups_to_keep(recipe, init_from) if fitted and init_from is not None else None)
    recipe, decided = decided_batch(recipe, data, device, Processes())
    plan = make_plan(recipe, data)
    yield from decided
    yield from describe_data(recipe, data, plan)
    if fitted:
        yield f"calibration '{recipe.calibration.name}' takes no steps and trains nothing; nothing is timed"
        return
    check_schedule(recipe.schedule, plan)
    yield from _read_sample(data.dataset, recipe.seed)
    state = start_state(recipe, data, device, init_from=init_from, resume=False)
    yield describe_lr(recipe.optim)
    yield describe_warmup(recipe.schedule, plan.total_steps())
    yield f"model: {sum(p.numel() for p in state.model.parameters()):,} numbers"
    yield from (*trainable_lines(state.model), *state.notes)
    doing = f"a step of {recipe.optim.batch} images per forward pass"
    with named_memory(doing, training_advice(recipe)), name_lost_workers(recipe.data.workers):
        yield _expected_memory(recipe, data, plan, state)
        with limited_memory(available_memory() if device.type == "cpu" else None):
            yield from _timed(recipe, data, plan, state)


def sample_rows(rows: int, seed: int) -> list[int]:
    """At most ``SAMPLED`` of so many rows, ascending: one out of each of equally long parts of the file."""
    parts = min(rows, SAMPLED)
    bounds = [rows * part // parts for part in range(parts + 1)] if parts else []
    places = torch.rand(parts, generator=keyed_generator(seed, "dry-run")).tolist()
    return [first + int(place * (end - first)) for first, end, place in zip(bounds, bounds[1:], places, strict=False)]


def _read_sample(dataset: DetectionDataset, seed: int) -> Iterator[str]:
    """Reads some images as training would, in this process.

    Raises:
        DataError: Some cannot be read.
    """
    rows, problems = sample_rows(len(dataset), seed), []
    start = time.perf_counter()
    for row in rows:
        try:
            dataset[Draw(0, 0, row)]
        except LtError as error:
            problems += error.problems[:1]
    ms = 1000 * (time.perf_counter() - start) / max(1, len(rows))
    yield (
        f"images: {len(rows) - len(problems):,} of {len(rows):,} read, a sample of {len(dataset):,}, "
        f"{ms:.1f} ms an image in one process"
    )
    if problems:
        more = [f"and {len(problems) - SHOWN} more; lt-data check --images reads every image"]
        raise DataError(problems[:SHOWN] + more * (len(problems) > SHOWN))


def _expected_memory(recipe: Recipe, data: RunData, plan: Plan, state: RunState) -> str:
    """What a step is going to need, from what one image keeps for its gradients, beside what there is."""
    step = next(plan.steps())
    one = replace(step, batches=((step.batches[0][0],),))
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    state.model.train()
    with saved_tensors_hooks(count, lambda tensor: tensor):
        train_step(state, one, make_loader(data.dataset, one.batches, workers=0), lr=0.0)
    weights = {p.untyped_storage().data_ptr() for p in state.model.parameters()}
    activations = sum(size for place, size in kept.items() if place not in weights) * len(step.batches[0])
    # a weight, and a gradient and a momentum for each that is trained
    numbers = sum(p.nbytes * (3 if p.requires_grad else 1) for p in state.model.parameters())
    device = next(state.model.parameters()).device
    there = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    expected = f"memory: a step is going to need about {(numbers + activations) / 2**30:.1f} GiB"
    if there is None:
        return expected
    short = "; that is too little" if numbers + activations > there else ""
    return f"{expected}, {there / 2**30:.1f} GiB are free{short}"


def _timed(recipe: Recipe, data: RunData, plan: Plan, state: RunState) -> Iterator[str]:
    """Takes some steps, on weights that are thrown away."""
    on_gpu = next(state.model.parameters()).is_cuda
    draws = Draws(plan, 0, state.processes)
    with closing(make_loader(data.dataset, draws, workers=recipe.data.workers, pin_memory=on_gpu)) as loader:
        yield from _timed_on(Waiting(loader), recipe, plan, state)


def _timed_on(batches: Waiting, recipe: Recipe, plan: Plan, state: RunState) -> Iterator[str]:
    """The same, on batches that are being loaded."""
    device, timer = next(state.model.parameters()).device, StepTimer(batches)
    state.model.train()
    steps = [step for step, _ in zip(plan.steps(), range(TIMED + 1), strict=False)]
    for number, step in enumerate(steps):
        lr = lr_at(step, recipe.optim, recipe.schedule, plan.total_steps())
        with timer.step(step.images):
            losses = train_step(state, step, batches, lr=lr, clip=recipe.optim.clip)
            values = losses.read()
        if number == 0:
            yield "losses of the first step: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            timer.lap()
    timed = len(steps) - 1
    if timed < 1:
        yield "the run has a single step; nothing is timed"
        return
    lap = timer.lap()
    seconds = lap.seconds / timed
    yield (
        f"{timed} timed steps: {seconds:.3f} s a step, {lap.images_per_second:.2f} images/s, "
        f"{100 * lap.data_wait:.0f} % of it waiting for data"
    )
    epoch, whole = (duration(seconds * steps) for steps in (plan.epoch_steps(0), plan.total_steps()))
    yield f"about {epoch} an epoch and {whole} in all, without evaluation"
    yield f"memory: {memory_gib(device):.2f} GiB of the {'GPU' if device.type == 'cuda' else 'process'} at most"
