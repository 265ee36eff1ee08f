"""Counting what PyTorch dispatches, and where a GPU would have to be waited for."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
import torchvision
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import lt_train

# code that can ask for a wait, the rest is PyTorch
_FOLDERS = {
    "lt_train": Path(lt_train.__file__).parent,
    "torchvision": Path(torchvision.__file__).parent,
    "benchmarks": Path(__file__).parents[1],
}
# calls whose result the host has to know
_WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "nms")
# calls that wait for a GPU but dispatch nothing that shows it on a CPU
_PATCHED = ((Tensor, "tolist"), (Tensor, "new_tensor"), (torch, "tensor"), (torch, "as_tensor"))


class Operations(TorchDispatchMode):
    """Counts the calls that PyTorch dispatches, but not views, and those for which the host waits for a GPU.

    On a CPU everything lies in one memory, so waits are told by the calls. Counted are: values that the host asks for
    (``item``, ``tolist``), results whose shape depends on values (``nonzero``, boolean indices, NMS), and tensors made
    of Python numbers or arrays on a device, whose copy from ordinary memory waits: every ``Tensor.new_tensor``, and
    ``torch.tensor`` and ``torch.as_tensor`` with a ``device``. Not counted are moves by ``to`` or ``cuda``, because a
    CPU does not show whether their source is pinned or on the device already; so a tensor that is made without a
    device and moved, pinned or not, is not counted. A call that names the CPU as its device, or asks a tensor for its
    values that is on the host in any case, is counted although it never waits.

    Attributes:
        number: Calls that were dispatched.
        waits: Calls that wait.
        places: The same by the line that asked for them, see ``place_of``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.places: Counter[str] = Counter()

    @property
    def waits(self) -> int:
        """Of all places."""
        return self.places.total()

    def __enter__(self) -> Self:
        self._plain = [getattr(owner, name) for owner, name in _PATCHED]
        for (owner, name), plain in zip(_PATCHED, self._plain, strict=True):
            setattr(owner, name, self._counted(name, plain))
        return super().__enter__()  # type: ignore[no-untyped-call, no-any-return]

    def __exit__(self, *args: Any) -> None:
        for (owner, name), plain in zip(_PATCHED, self._plain, strict=True):
            setattr(owner, name, plain)
        super().__exit__(*args)

    def _counted(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        """A function in place of ``plain`` that counts its waits."""

        def called(*args: Any, **kwargs: Any) -> Any:
            if name == "tolist" or _copies_numbers(name, args, kwargs):
                self._wait()
            return plain(*args, **kwargs)

        return called

    def _wait(self) -> None:
        self.places[place_of(sys._getframe(2))] += 1

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


def _copies_numbers(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call that makes a tensor copies what is none to the device of the model."""
    values = args[1:] if name == "new_tensor" else args
    to_device = name == "new_tensor" or kwargs.get("device") is not None
    return to_device and not any(isinstance(value, Tensor) for value in (*values, kwargs.get("data")))


def place_of(frame: FrameType | None) -> str:
    """The innermost line of lt_train, torchvision or the benchmarks, as ``package/file.py:line``; else ``other``."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        for name, folder in _FOLDERS.items():
            if path.is_relative_to(folder):
                return f"{name}/{path.relative_to(folder).as_posix()}:{frame.f_lineno}"
        frame = frame.f_back
    return "other"
