"""Which images of a forward pass each process takes, and what a process without any computes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import torch

from lt_data.errors import RecipeError
from lt_data.files.stuff_maps import UNLABELLED
from lt_train.data.instance_masks import InstanceMasks
from lt_train.data.target import MaskForm, Target

T = TypeVar("T")

# pixels of the sides of an image that shows nothing: every recipe allows it
BLANK_SIDE: Final = 32


def own_part(batch: Sequence[T], *, rank: int, world: int, unit: int = 1) -> Sequence[T]:
    """The images of one process: a run of whole micro-batches, so that each is computed where all of it is.

    Args:
        batch: Images of a forward pass, in order.
        rank: Of the process.
        world: Number of processes; the first ones take a micro-batch more where they cannot be dealt out evenly.
        unit: Images of a micro-batch; the last one may have fewer.
    """
    micro_batches = -(-len(batch) // unit)
    each, more = divmod(micro_batches, world)
    first = rank * each + min(rank, more)
    return batch[first * unit : (first + each + (rank < more)) * unit]


def check_shareable(batch: int, unit: int, world: int) -> None:
    """Refuses a batch that several processes cannot share evenly: some would wait for others in every step.

    Args:
        batch: Images of a forward pass.
        unit: Images of a micro-batch.
        world: Number of processes.

    Raises:
        RecipeError: It is no multiple of ``unit * world``.
    """
    whole = unit * world
    if batch % whole == 0:
        return
    near = sorted({max(batch // whole, 1) * whole, (batch // whole + 1) * whole})
    of = f" of {unit} images (optim.micro_batch)" if unit > 1 else ""
    fitting = [n for n in range(2, world) if batch % (unit * n) == 0]
    fewer = f", or start {fitting[-1]} processes" if fitting else ""
    raise RecipeError(
        f"optim.batch: got {batch} images for {world} processes, which take whole micro-batches{of}; "
        f"allowed are multiples of {whole}, such as {' and '.join(map(str, near))}{fewer}"
    )


def blank_target(masks: MaskForm, *, stuff: bool = False) -> Target:
    """The target of an image that shows nothing.

    Args:
        masks: What of the instances' masks targets hold.
        stuff: Whether they hold a stuff map.
    """
    boxes = torch.zeros(0, 4)
    target: Target = {
        "image_id": -1,
        "boxes": boxes,
        "labels": torch.zeros(0, dtype=torch.int64),
        "draw_seed": 0,
        "short_side": BLANK_SIDE,
    }
    if stuff:
        target["stuff"] = torch.full((BLANK_SIDE, BLANK_SIDE), UNLABELLED, dtype=torch.uint8)
    if masks != "none":
        none = InstanceMasks.from_segmentations([], BLANK_SIDE, BLANK_SIDE, boxes=boxes)
        target["masks"] = none.runs() if masks == "runs" else none
    return target
