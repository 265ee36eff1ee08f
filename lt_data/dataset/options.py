"""What a build may be asked for; the record of a dataset directory holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lt_data.groups import BAGS_EDGES

OnShortage = Literal["error", "cap"]


Surplus = Literal["drop", "ignore"]


DEFAULT_THRESHOLD = 0.001
# of the repeat factors: the published square root
DEFAULT_EXPONENT = 0.5


Order = Literal["rarest-first", "random", "fewest-images"]


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Attributes:
        seed: Seed of the visiting order.
        scale: Factor on the targets as decimal text, 0 < scale <= 1, multiplied exactly.
        edges: Ascending bounds between the groups.
        threshold: t of the repeat factors.
        on_shortage: ``error`` refuses a pool with too few instances of a category; ``cap`` takes what there is.
        surplus: ``drop`` leaves out instances beyond a target and crowds of taken images; ``ignore`` keeps them as
            ``iscrowd: 1`` regions, so that visible objects are not taught as background.
        order: Which images to try first, see :func:`lt_data.build.sampling.select`.
    """

    seed: int = 0
    scale: str = "1.0"
    edges: tuple[int, ...] = BAGS_EDGES
    threshold: float = DEFAULT_THRESHOLD
    on_shortage: OnShortage = "error"
    surplus: Surplus = "drop"
    order: Order = "rarest-first"
