"""One optimiser step, and the order in which the loader is asked for its images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lt_train.data.images import as_input, on_device
from lt_train.data.plan import Draw, Plan, Step
from lt_train.data.share import BLANK_SIDE, blank_target, own_part
from lt_train.data.target import Target
from lt_train.detectors.detector import check_targets
from lt_train.detectors.trunks.norm import stored_statistics
from lt_train.engine.losses import Losses, TrainingStopped
from lt_train.engine.optim import set_lr
from lt_train.engine.state import RunState
from lt_train.global_batch import sharing
from lt_train.processes import Processes

# what PyTorch raises when a loader process dies, anywhere: it comes from the handler of a signal
LOST_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (is killed by signal: [\w ]+|exited unexpectedly)"
)


class LossesOf(Protocol):
    """Gives the losses of a forward pass, of whatever its batch is made of."""

    def __call__(self, state: RunState, inputs: list[Any], targets: list[Target], /) -> dict[str, Tensor]:
        """Scalar losses by name; of a process that has nothing of the batch, some to stay in step with the others."""


def losses_of_images(state: RunState, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
    """Losses of uint8 images [3, H, W]: the whole detector; without any those of one that shows nothing."""
    device = next(state.model.parameters()).device
    blank = not images
    if blank:
        images = [torch.zeros(3, BLANK_SIDE, BLANK_SIDE, dtype=torch.uint8)]
        targets = [blank_target(state.masks, stuff=state.stuff)]
    if device.type != "cpu":
        # the model does it where looking at numbers costs nothing
        check_targets(targets, state.model.head.num_classes)
    # a blank image is to leave no trace in running statistics
    with stored_statistics(state.model) if blank else nullcontext():
        losses: dict[str, Tensor] = state.trained(
            [as_input(image, device) for image in images],
            [on_device(target, device) for target in targets],
        )
    return losses


def train_step(
    state: RunState,
    step: Step,
    batches: Iterator[Any],
    *,
    lr: float,
    clip: float | None = None,
    losses_of: LossesOf = losses_of_images,
) -> Losses:
    """One optimiser step over one or several forward passes; their losses are averaged.

    A loss that is not finite changes no weight, on the device; it is found when the losses are read, which happens here
    for the step before: by then they have arrived.

    Args:
        state: Model, optimiser and what belongs to them; changed.
        step: How many forward passes, and of which images.
        batches: Gives inputs (images, unless ``losses_of`` takes others) and targets of each forward pass.
        lr: Learning rate.
        clip: Largest gradient norm, or ``None``.
        losses_of: Makes losses of them.

    Returns:
        The mean of every loss.

    Raises:
        TrainingStopped: A loss of the step before was not finite; no weight was changed since.
        DataError: A target cannot be trained on.
    """
    set_lr(state.optimizer, lr)
    state.remember_head(step.index)
    state.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for number in range(len(step.batches)):
        inputs, targets = next(batches)
        with state.gradients_stay() if number + 1 < len(step.batches) else nullcontext():
            found = _backward(state, losses_of, inputs, targets, parts=len(step.batches))
        for name, value in found.items():
            sums[name] = sums[name] + value if name in sums else value
    shown = ", ".join(str(target["image_id"]) for target in targets)
    where = f"step {step.index + 1} (last images {shown})"
    # before anything is done with gradients: a scaler refuses those of a step that was broken off
    if state.losses is not None:
        state.losses.read()
    losses = Losses(sums, where, step=step.index, gradient=_clip(state, clip), world=state.processes.world)
    state.losses = losses
    _change_weights(state, losses)
    return losses


def _backward(
    state: RunState, losses_of: LossesOf, inputs: list[Any], targets: list[Target], *, parts: int
) -> dict[str, Tensor]:
    """Adds the gradients of one forward pass out of ``parts``; its share of every loss."""
    weight = float(bool(inputs))
    with sharing(state.processes.world, weight=weight):
        losses = losses_of(state, inputs, targets)
    if not weight:
        losses = {name: value * 0 for name, value in losses.items()}
    total = torch.stack(list(losses.values())).sum() / parts
    if state.scaler.is_enabled():
        # it looks at gradients alone, and those of an infinite loss can be finite: they become NaN
        total = total * torch.where(total.isfinite(), 1.0, torch.nan)
    state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
    return {name: value.detach() / parts for name, value in losses.items()}


def _clip(state: RunState, clip: float | None) -> Tensor | None:
    """Clips the gradient, and gives the norm that it had; ``None`` where gradients may be infinite at times."""
    if clip is None and state.scaler.is_enabled():
        return None
    if clip is not None:
        state.scaler.unscale_(state.optimizer)
    trained = [p for p in state.model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None], foreach=None)
    if clip is not None:
        nn.utils.clip_grads_with_norm_(trained, clip, norm)
    # the scaler leaves such a step out, and scales less from then on
    return None if state.scaler.is_enabled() else norm


def _change_weights(state: RunState, losses: Losses) -> None:
    optimizer, scaler = state.optimizer, state.scaler
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
    """The draws of every forward pass that remains, for the loader: those of this process.

    Args:
        plan: Of the run.
        done: Steps taken.
        processes: This process among those that share every forward pass.
        unit: Images of a micro-batch, which stay together.
    """

    def __init__(self, plan: Plan, done: int, processes: Processes | None = None, unit: int = 1) -> None:
        self.plan = plan
        self.done = done
        self.processes = processes or Processes()
        self.unit = unit

    def __iter__(self) -> Iterator[list[Draw]]:
        rank, world = self.processes.rank, self.processes.world
        for step in self.plan.steps(self.done):
            for batch in step.batches:
                yield list(own_part(batch, rank=rank, world=world, unit=self.unit))
