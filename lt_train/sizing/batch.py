"""``optim.batch=auto``: how many images a forward pass takes on this machine and this data."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch

from lt_train.processes import Processes
from lt_train.recipe.sections import Recipe
from lt_train.recipe.step_sections import AUTO_BATCH
from lt_train.runs.data import RunData
from lt_train.sizing.step_cost import StepCost, free_memory, step_cost

# share of the memory that a step may take: kernels need room of their own, and images have many sizes
SHARE: Final = 0.6
# images per forward pass beyond which nothing is gained: on a GPU those that rates are published for
MOST_ON_GPU: Final = 16
MOST_ON_CPU: Final = 4
# steps that an epoch has at least, where there are images enough for it
LEAST_STEPS: Final = 20


class Batch(NamedTuple):
    """A number of images, and why.

    Attributes:
        images: Images per forward pass.
        why: For people.
    """

    images: int
    why: str


def fitting_batch(
    cost: StepCost, *, images: int, memory: int | None, gpu: bool, unit: int = 1, world: int = 1
) -> Batch:
    """The largest batch, doubled from the smallest one, that memory and data leave.

    Args:
        cost: Of a step.
        images: Training images.
        memory: Bytes that there are; ``None`` where that is not known.
        gpu: Whether a GPU takes the steps.
        unit: Images that belong together (``optim.micro_batch``).
        world: Processes that share a batch, each on a device of its own or all on one processor.
    """
    smallest = unit * world
    wanted = max(smallest, min((MOST_ON_GPU if gpu else MOST_ON_CPU) * (world if gpu else 1), images // LEAST_STEPS))
    batch = smallest
    while 2 * batch <= wanted and (memory is None or _need(cost, 2 * batch, gpu, world) <= SHARE * memory):
        batch *= 2
    need = _need(cost, batch, gpu, world)
    there = "" if memory is None else f" of {memory / 2**30:.1f}"
    why = f"a step of {batch} needs about {need / 2**30:.1f}{there} GiB"
    if memory is not None and need > SHARE * memory:
        return Batch(batch, f"{why}, which may be too much: it is the smallest")
    if images // (2 * batch) < LEAST_STEPS:
        return Batch(batch, f"{why}; with more, an epoch of {images:,} images has less than {LEAST_STEPS} steps")
    if 2 * batch > wanted:
        return Batch(batch, f"{why}, and more gains nothing")
    return Batch(batch, f"{why}, and twice as many do not fit")


def _need(cost: StepCost, batch: int, gpu: bool, world: int) -> float:
    """Bytes on one device: processes of one processor share its memory."""
    return cost.weights + cost.image * batch / world if gpu else cost.weights * world + cost.image * batch


def decided_batch(
    recipe: Recipe, data: RunData, device: torch.device, processes: Processes
) -> tuple[Recipe, tuple[str, ...]]:
    """A recipe whose batch is a number, and a line that says which and why where it was ``auto``.

    Args:
        recipe: The recipe.
        data: Its data.
        device: Of this process.
        processes: This process among those that train together; the first one decides.

    Raises:
        OutOfMemory: Not even one image fits.
    """
    if recipe.optim.batch != AUTO_BATCH:
        return recipe, ()
    cost = step_cost(recipe, data.train.counts, data.groups, device)
    found = fitting_batch(
        cost,
        images=len(data.dataset),
        memory=free_memory(device),
        gpu=device.type == "cuda",
        unit=recipe.optim.micro_batch or 1,
        world=processes.world,
    )
    batch = processes.tell(found.images)
    line = f"optim.batch=auto: {batch} images ({found.why}; one image of {cost.width} x {cost.height} was measured)"
    return with_batch(recipe, batch), (line,)


def with_batch(recipe: Recipe, batch: int) -> Recipe:
    """The recipe with so many images per forward pass."""
    return recipe.model_copy(update={"optim": recipe.optim.model_copy(update={"batch": batch})})
