"""One optimiser step, and the order in which the loader is asked for its images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lt_data.errors import LtError
from lt_train.data.mask_runs import MaskRuns
from lt_train.data.plan import Draw, Plan, Step
from lt_train.engine.optim import set_lr
from lt_train.engine.state import RunState


class TrainingStopped(LtError):
    """The run cannot go on: a loss is not finite."""


def train_step(
    state: RunState, step: Step, batches: Iterator[Any], *, lr: float, clip: float | None = None
) -> dict[str, float]:
    """One optimiser step over one or several forward passes; their losses are averaged.

    Args:
        state: Model and optimiser; changed.
        step: How many forward passes, and of which images.
        batches: Gives the images and targets of each forward pass.
        lr: Learning rate.
        clip: Largest gradient norm, or ``None``.

    Returns:
        The mean of every loss.

    Raises:
        TrainingStopped: A loss is not finite; no weight was changed.
    """
    device = next(state.model.parameters()).device
    set_lr(state.optimizer, lr)
    state.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for _ in step.batches:
        images, targets = next(batches)
        losses = state.model(
            [image.to(device, non_blocking=True).float() / 255 for image in images],
            [on_device(target, device) for target in targets],
        )
        total = torch.stack(list(losses.values())).sum() / len(step.batches)
        total.backward()  # type: ignore[no-untyped-call]
        for name, value in losses.items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + value.detach() / len(step.batches)
    values = {name: float(value) for name, value in sums.items()}
    _refuse_non_finite(values, step, targets)
    if clip is not None:
        nn.utils.clip_grad_norm_([p for p in state.model.parameters() if p.requires_grad], clip)
    state.optimizer.step()
    return values


def _refuse_non_finite(values: dict[str, float], step: Step, targets: list[dict[str, Any]]) -> None:
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        images = ", ".join(str(target["image_id"]) for target in targets)
        raise TrainingStopped(
            f"step {step.index + 1}: {', '.join(wrong)} is not finite (last images {images}); no weight was changed "
            "in this step, but earlier ones may be damaged; go back to the last checkpoint, and lower optim.lr or set "
            "optim.clip"
        )


def on_device(target: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A target whose tensors and runs are on the device."""
    kinds = (Tensor, MaskRuns)
    return {k: v.to(device, non_blocking=True) if isinstance(v, kinds) else v for k, v in target.items()}


class Draws:
    """The draws of every forward pass that remains, for the loader."""

    def __init__(self, plan: Plan, done: int) -> None:
        self.plan = plan
        self.done = done

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in self.plan.steps(self.done):
            for batch in step.batches:
                yield list(batch)
