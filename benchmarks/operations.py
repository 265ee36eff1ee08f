"""Counting what PyTorch dispatches, and where a GPU would have to be waited for."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PACKAGES = ("lt_train", "torchvision")
# calls whose result the host has to know
_WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "nms")


class Operations(TorchDispatchMode):
    """Counts the calls that PyTorch dispatches, but not views, and those for which the host waits for a GPU.

    Attributes:
        number: Calls.
        waits: Of these, those that wait.
        waits_of: The same by the package whose code asked for them: the innermost of lt_train and torchvision.
    """

    def __init__(self) -> None:
        super().__init__()
        self.number, self.waits = 0, 0
        self.waits_of: Counter[str] = Counter()

    def __enter__(self) -> Self:
        # not dispatched on a CPU, where it copies nothing
        self._tolist = Tensor.tolist
        Tensor.tolist = lambda tensor: self._wait() or self._tolist(tensor)  # type: ignore[method-assign]
        return super().__enter__()  # type: ignore[no-untyped-call, no-any-return]

    def __exit__(self, *args: Any) -> None:
        Tensor.tolist = self._tolist  # type: ignore[method-assign]
        super().__exit__(*args)

    def _wait(self) -> None:
        self.waits += 1
        self.waits_of[_caller(sys._getframe(2))] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        self.number += not view
        name = func.overloadpacket.__name__
        indices = args[1] if name.startswith("index") and len(args) > 1 and isinstance(args[1], list | tuple) else ()
        boolean = any(isinstance(i, Tensor) and i.dtype == torch.bool for i in indices)
        # a boolean index that is set to one number is filled in, without a place being asked for
        filled = name.startswith("index_put") and isinstance(args[2], Tensor) and args[2].numel() == 1
        if (boolean and not filled) or name in _WAITING:
            self._wait()
        return func(*args, **(kwargs or {}))


def _caller(frame: FrameType | None) -> str:
    while frame is not None:
        parts = frame.f_code.co_filename.replace("\\", "/").split("/")
        for package in _PACKAGES:
            if package in parts:
                return package
        frame = frame.f_back
    return "other"
