"""What came out of giving another tool's weights our names."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

POOLING = (
    "weights of {tool}: it pools regions half a cell aside from here (RoIAlign aligned, adaptive samples); train on "
    "before you measure"
)


@dataclass(frozen=True)
class Converted:
    """Weights as torchvision names them.

    Attributes:
        state: State dict.
        classes: Names of labels 1..C, where the file tells them.
        notes: What whoever uses them should know, one sentence each.
    """

    state: dict[str, Tensor]
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
