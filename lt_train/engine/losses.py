"""The losses of a step, read without stopping the device."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

from lt_data.errors import LtError


class TrainingStopped(LtError):
    """The run cannot go on."""


class NotFinite(TrainingStopped):
    """A loss or a gradient is not finite; no weight was changed in its step or later."""


class Losses:
    """The losses of a step on their way from the device: nothing waits for them before they are read.

    Args:
        values: Every loss, a scalar on the device.
        where: What to call the step if one is not finite.
        step: Index of the step, from 0.
        gradient: Norm of the gradient, where one that is not finite stops the run; it is the same in all processes.
        world: Processes whose losses are averaged, all of which are here; so they agree on a loss that is not finite.
    """

    def __init__(
        self, values: dict[str, Tensor], where: str, *, step: int = 0, gradient: Tensor | None = None, world: int = 1
    ) -> None:
        self.names, self.where, self.step = tuple(values), where, step
        stacked = torch.stack(list(values.values()))
        if world > 1:
            dist.all_reduce(stacked)
            stacked /= world
        if gradient is not None:
            stacked = torch.cat([stacked, gradient.reshape(1).to(stacked.dtype)])
        # 1 where the weights must not change, in the form that the optimiser reads on the device
        self.stop = (~stacked.isfinite().all()).float()
        self._host, self._copied = stacked, None
        if stacked.is_cuda:
            self._host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
            self._host.copy_(stacked, non_blocking=True)
            self._copied = torch.cuda.Event()
            # of the device of the losses, which need not be the current one
            self._copied.record(torch.cuda.current_stream(stacked.device))

    def read(self) -> dict[str, float]:
        """The losses.

        Raises:
            NotFinite: One, or the gradient, is not finite; no weight was changed in this step or later.
        """
        if self._copied is not None:
            self._copied.synchronize()
        numbers = self._host.tolist()
        wrong = [
            name
            for name, number in zip((*self.names, "the gradient"), numbers, strict=False)
            if not math.isfinite(number)
        ]
        if wrong:
            # the gradient of a loss that is not finite is none either
            wrong = [name for name in wrong if name in self.names] or wrong
            raise NotFinite(
                f"{self.where}: {', '.join(wrong)} is not finite; no weight was changed in this step, but earlier ones "
                "may be damaged; go back to the last checkpoint, and lower optim.lr or set optim.clip"
            )
        return dict(zip(self.names, numbers, strict=False))
