"""One optimiser step, and the order in which the loader is asked for its images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lt_train.data.images import as_input, on_device
from lt_train.data.plan import Draw, Plan, Step
from lt_train.data.target import Target
from lt_train.detectors.detector import check_targets
from lt_train.engine.losses import Losses, TrainingStopped
from lt_train.engine.optim import set_lr
from lt_train.engine.state import RunState

# what PyTorch raises when a loader process dies, anywhere: it comes from the handler of a signal
LOST_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (is killed by signal: [\w ]+|exited unexpectedly)"
)


def train_step(state: RunState, step: Step, batches: Iterator[Any], *, lr: float, clip: float | None = None) -> Losses:
    """One optimiser step over one or several forward passes; their losses are averaged.

    A loss that is not finite changes no weight, on the device; it is found when the losses are read, which happens here
    for the step before: by then they have arrived.

    Args:
        state: Model, optimiser and what belongs to them; changed.
        step: How many forward passes, and of which images.
        batches: Gives the images and targets of each forward pass.
        lr: Learning rate.
        clip: Largest gradient norm, or ``None``.

    Returns:
        The mean of every loss.

    Raises:
        TrainingStopped: A loss of the step before was not finite; no weight was changed since.
        DataError: A target cannot be trained on.
    """
    set_lr(state.optimizer, lr)
    state.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for _ in step.batches:
        images, targets = next(batches)
        for name, value in _backward(state, images, targets, parts=len(step.batches)).items():
            sums[name] = sums[name] + value if name in sums else value
    shown = ", ".join(str(target["image_id"]) for target in targets)
    losses = Losses(sums, f"step {step.index + 1} (last images {shown})")
    if state.losses is not None:
        state.losses.read()
    state.losses = losses
    _change_weights(state, losses, clip)
    return losses


def _backward(state: RunState, images: list[Tensor], targets: list[Target], *, parts: int) -> dict[str, Tensor]:
    """Adds the gradients of one forward pass out of ``parts``; its share of every loss."""
    device = next(state.model.parameters()).device
    if device.type != "cpu":
        # the model does it where looking at numbers costs nothing
        check_targets(targets, state.model.head.num_classes)
    losses = state.model(
        [as_input(image, device) for image in images],
        [on_device(target, device) for target in targets],
    )
    total = torch.stack(list(losses.values())).sum() / parts
    if state.scaler.is_enabled():
        # it looks at gradients alone, and those of an infinite loss can be finite: they become NaN
        total = total * torch.where(total.isfinite(), 1.0, torch.nan)
    state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
    return {name: value.detach() / parts for name, value in losses.items()}


def _change_weights(state: RunState, losses: Losses, clip: float | None) -> None:
    optimizer, scaler = state.optimizer, state.scaler
    if clip is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_([p for p in state.model.parameters() if p.requires_grad], clip)
    if scaler.is_enabled():
        # it leaves out a step whose gradients are not finite
        scaler.step(optimizer)
        scaler.update()
    else:
        # PyTorch's fused optimisers skip their step where this is 1, as they do for a scaler
        optimizer.found_inf = losses.stop  # type: ignore[attr-defined]
        optimizer.step()
    if state.ema is not None:
        state.ema.update_parameters(state.model)


@contextmanager
def name_lost_workers(workers: int) -> Iterator[None]:
    """Around steps: says in one line why a loader process is gone and what helps.

    Args:
        workers: Loader processes of the recipe.

    Raises:
        TrainingStopped: One is gone; the step may be half taken, so nothing is to be saved.
    """
    try:
        yield
    except RuntimeError as error:
        lost = LOST_WORKER.search(str(error))
        if lost is None:
            raise
        raise TrainingStopped(
            f"data.workers={workers}: loader process {lost[1]} {lost[2]}; as a rule memory ran out, or shared memory "
            "(/dev/shm: bus error), or a file was cut off while it was mapped (bus error); set fewer data.workers or "
            "give the container more memory (--shm-size=8g); a run goes on with --resume from its last checkpoint"
        ) from None


class Draws:
    """The draws of every forward pass that remains, for the loader."""

    def __init__(self, plan: Plan, done: int) -> None:
        self.plan = plan
        self.done = done

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in self.plan.steps(self.done):
            for batch in step.batches:
                yield list(batch)
