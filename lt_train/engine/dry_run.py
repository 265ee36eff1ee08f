"""A run before it runs: its recipe, its data, what it trains, and how long and large it will be. Nothing is written."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lt_train.data.dataset import Batch, make_loader
from lt_train.data.plan import Plan
from lt_train.engine.budget import trainable_lines
from lt_train.engine.log import duration
from lt_train.engine.optim import describe_lr, lr_at
from lt_train.engine.setup import RunData, choose_device, describe_data, load_run_data, make_plan
from lt_train.engine.state import RunState, start_state
from lt_train.engine.step import Draws, train_step
from lt_train.recipe import Recipe
from lt_train.recipe_origins import Setting, format_settings

# the first step is not timed: it allocates and chooses kernels
TIMED = 5


def dry_run(recipe: Recipe, settings: tuple[Setting, ...], *, init_from: Path | None = None) -> Iterator[str]:
    """Lines about a run, each as soon as it is known.

    Args:
        recipe: What would be run.
        settings: Its values with their origins.
        init_from: A run directory or checkpoint whose weights it would start from.

    Raises:
        LtError: What would stop the run at its start.
    """
    yield format_settings(settings)
    device = choose_device(recipe.device)
    yield f"\ndevice: {device}"
    data = load_run_data(recipe)
    plan = make_plan(recipe, data)
    yield from describe_data(recipe, data, plan)
    if recipe.calibration.name != "none":
        yield f"calibration '{recipe.calibration.name}' takes no steps and trains nothing; nothing is timed"
        return
    state = start_state(recipe, data, device, init_from=init_from, resume=False)
    yield describe_lr(recipe.optim)
    yield f"model: {sum(p.numel() for p in state.model.parameters()):,} numbers"
    yield from (*trainable_lines(state.model), *state.notes)
    yield from _timed(recipe, data, plan, state)


class _Waiting:
    """Batches, and the seconds that were spent waiting for them."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self.batches = batches
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        start = time.perf_counter()
        batch = next(self.batches)
        self.seconds += time.perf_counter() - start
        return batch


def _timed(recipe: Recipe, data: RunData, plan: Plan, state: RunState) -> Iterator[str]:
    """Takes some steps, on weights that are thrown away."""
    device = next(state.model.parameters()).device
    batches = _Waiting(
        make_loader(data.dataset, Draws(plan, 0), workers=recipe.data.workers, pin_memory=device.type == "cuda")
    )
    state.model.train()
    steps = [step for step, _ in zip(plan.steps(), range(TIMED + 1), strict=False)]
    start = 0.0
    for number, step in enumerate(steps):
        losses = train_step(state, step, batches, lr=lr_at(step, recipe.optim, recipe.schedule), clip=recipe.optim.clip)
        if number == 0:
            yield "losses of the first step: " + ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
            start, batches.seconds = time.perf_counter(), 0.0
    timed = len(steps) - 1
    if timed < 1:
        yield "the run has a single step; nothing is timed"
        return
    seconds = (time.perf_counter() - start) / timed
    images = recipe.optim.images_per_step
    yield (
        f"{timed} timed steps: {seconds:.3f} s a step, {images / seconds:.2f} images/s, "
        f"{100 * batches.seconds / timed / seconds:.0f} % of it waiting for data"
    )
    epoch, whole = (duration(seconds * steps) for steps in (plan.epoch_steps(0), plan.total_steps()))
    yield f"about {epoch} an epoch and {whole} in all, without evaluation"
    yield f"memory: {_memory(device)}"


def _memory(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB of the GPU at most"
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, others KiB
    return f"{peak / (2**30 if sys.platform == 'darwin' else 2**20):.2f} GiB of the process at most"
