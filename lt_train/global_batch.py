"""A batch that several processes share: what a loss is divided by so that it is the loss of the whole batch.

Gradients of several processes are averaged (PyTorch's ``DistributedDataParallel``). The mean of the whole batch, the
sum over all processes by the number of regions in all of them, is therefore W * (own sum) / (number of all) in each of
the W processes, and not the own mean: processes have unequal numbers of objects. With one process nothing here does
anything.

Everything that exchanges numbers here has to be called by all processes equally often, whatever their images hold: a
process that leaves a call out stops the others for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """What this process has of the batch.

    Attributes:
        world: W, processes that share it.
        weight: 1, or 0 for a process without an image, which computes on a blank one to stay in step.
        pooled: Whether micro-batches only draw by themselves, and have the divisors of the whole batch in common.
    """

    world: int = 1
    weight: float = 1.0
    pooled: bool = False


_SHARE: ContextVar[Share] = ContextVar("share", default=Share())  # noqa: B039


def share() -> Share:
    """What this process has of the batch that is computed now."""
    return _SHARE.get()


@contextmanager
def sharing(world: int, *, weight: float = 1.0) -> Iterator[None]:
    """Around a forward pass: the batch is shared by ``world`` processes, all of which are in it.

    Args:
        world: W, all processes of the default group.
        weight: See :class:`Share`.
    """
    token = _SHARE.set(Share(world, weight))
    try:
        yield
    finally:
        _SHARE.reset(token)


@contextmanager
def pooled_divisors(pooled: bool = True) -> Iterator[None]:
    """Around a head's loss: whether the divisors of micro-batches are those of the whole batch."""
    token = _SHARE.set(replace(share(), pooled=pooled))
    try:
        yield
    finally:
        _SHARE.reset(token)


def summed(own: Tensor) -> Tensor:
    """The sum of a tensor over all processes, for a count or what a head counts in its buffers; no gradient.

    Args:
        own: This process's share, of any shape; the shape is the same everywhere.

    Returns:
        A new tensor, or ``own`` where there is one process.
    """
    now = share()
    if now.world == 1:
        return own
    # whole numbers stay whole
    total = own.detach().clone() if now.weight else torch.zeros_like(own)
    dist.all_reduce(total)
    return total


def divisor(own: Tensor | int, device: torch.device | None = None) -> Tensor | int:
    """What a sum of this process's losses is divided by: the count over all processes (at least 1), over W.

    Args:
        own: Count, or sum of weights, of this process.
        device: Where to, for a number.
    """
    if isinstance(own, int):
        if share().world == 1:
            return max(own, 1)
        own = torch.tensor(own, device=device)
    return summed(own.float()).clamp(min=1) / share().world
