"""SGD and the learning rate of each step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from lt_train.data.plan import Step
from lt_train.recipe.sections import OptimSection, ScheduleSection


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


def lr_at(step: Step, optim: OptimSection, schedule: ScheduleSection) -> float:
    """Learning rate of a step: linear warm-up times the decays passed.

    Args:
        step: Its index and epoch, both from 0.
        optim: Base rate and batch.
        schedule: Warm-up and decay; decay counts epochs, or steps when ``iterations`` is set.
    """
    warm = min(1.0, step.index / schedule.warmup) if schedule.warmup else 1.0
    factor = schedule.warmup_start + (1 - schedule.warmup_start) * warm
    now = step.epoch if schedule.iterations is None else step.index
    passed = sum(now >= milestone for milestone in schedule.decay)
    return optim.effective_lr * factor * schedule.decay_factor**passed


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
