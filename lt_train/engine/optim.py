"""SGD and the learning rate of each step."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import torch
from torch import nn

from lt_data.errors import RecipeError
from lt_train.data.plan import Plan, Step
from lt_train.recipe.step_sections import OptimSection, ScheduleSection


def make_optimizer(parameters: Iterable[nn.Parameter], optim: OptimSection) -> torch.optim.SGD:
    """SGD over the trainable parameters, in one kernel; weight decay touches nothing else."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.SGD(
        trainable, lr=optim.effective_lr, momentum=optim.momentum, weight_decay=optim.weight_decay, fused=True
    )


def describe_lr(optim: OptimSection) -> str:
    """The linear scaling rule with its numbers."""
    return (
        f"lr {optim.effective_lr:g} = {optim.lr:g} x {optim.images_per_step} images per step / {optim.base_batch} "
        f"(batch {optim.batch} x accumulate {optim.accumulate})"
    )


def describe_warmup(schedule: ScheduleSection, total: int) -> str:
    """How long the warm-up of a run of ``total`` steps is, and by what rule."""
    rule = "auto: a tenth of the run, at most 500" if schedule.warmup == "auto" else "schedule.warmup"
    return f"warm-up: {schedule.warmup_steps(total):,} of {total:,} steps ({rule})"


def check_schedule(schedule: ScheduleSection, plan: Plan) -> None:
    """Refuses a schedule that never reaches its rate: warm-up and decay have to lie in the run, in this order.

    Only with the data is it known how many steps an epoch has. A decay in steps is checked with the recipe already.

    Args:
        schedule: Warm-up and decay.
        plan: The steps of the run.

    Raises:
        RecipeError: The warm-up is as long as the run, or a decay lies inside it.
    """
    total = plan.total_steps()
    warmup = schedule.warmup_steps(total)
    if warmup >= max(total, 1):
        raise RecipeError(f"schedule.warmup: {schedule.too_long(total)}")
    if schedule.iterations is not None:
        return
    starts = list(accumulate((plan.epoch_steps(epoch) for epoch in range(schedule.epochs)), initial=0))[:-1]
    early = [epoch for epoch in schedule.decay if epoch < schedule.epochs and starts[epoch] < warmup]
    if early:
        first = next((epoch for epoch, start in enumerate(starts) if start >= warmup), None)
        later = "no epoch begins after it; set" if first is None else f"allowed are epochs from {first} on; set"
        decay = "schedule.decay=[]" if first is None else f"schedule.decay=[{max(first, schedule.epochs * 2 // 3)}]"
        raise RecipeError(
            f"schedule.decay: got {list(schedule.decay)}; a decay after {early[0]} epochs is one at step "
            f"{starts[early[0]]}, inside the warm-up of {warmup} steps; {later} {decay}, or a shorter schedule.warmup"
        )


def lr_at(step: Step, optim: OptimSection, schedule: ScheduleSection, total: int) -> float:
    """Learning rate of a step: linear warm-up times the decays passed.

    Args:
        step: Its index and epoch, both from 0.
        optim: Base rate and batch.
        schedule: Warm-up and decay; decay counts epochs, or steps when ``iterations`` is set.
        total: Steps of the whole run.
    """
    warmup = schedule.warmup_steps(total)
    warm = min(1.0, step.index / warmup) if warmup else 1.0
    factor = schedule.warmup_start + (1 - schedule.warmup_start) * warm
    now = step.epoch if schedule.iterations is None else step.index
    passed = sum(now >= milestone for milestone in schedule.decay)
    return optim.effective_lr * factor * schedule.decay_factor**passed


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
