"""The losses of a step, read without stopping the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lt_data.errors import LtError


class TrainingStopped(LtError):
    """The run cannot go on: a loss is not finite."""


class Losses:
    """The losses of a step on their way from the device: nothing waits for them before they are read.

    Args:
        values: Every loss, a scalar on the device.
        where: What to call the step if one is not finite.
    """

    def __init__(self, values: dict[str, Tensor], where: str) -> None:
        self.names, self.where = tuple(values), where
        stacked = torch.stack(list(values.values()))
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
        """The values.

        Raises:
            TrainingStopped: One is not finite; no weight was changed in this step or later.
        """
        if self._copied is not None:
            self._copied.synchronize()
        values = dict(zip(self.names, self._host.tolist(), strict=True))
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise TrainingStopped(
                f"{self.where}: {', '.join(wrong)} is not finite; no weight was changed in this step, but earlier ones "
                "may be damaged; go back to the last checkpoint, and lower optim.lr or set optim.clip"
            )
        return values
