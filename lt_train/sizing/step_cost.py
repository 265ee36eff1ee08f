"""What one image costs in a training step, measured on a drawn one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lt_data.counts.categories import CategoryCounts
from lt_data.groups import Group
from lt_train.data.instance_masks import InstanceMasks
from lt_train.detectors import LongTailDetector, set_trainable
from lt_train.memory import available_memory, machine_memory, named_memory, training_advice
from lt_train.randomness import keyed_generator
from lt_train.recipe.sections import Recipe, has_masks
from lt_train.runs.compute import prepare
from lt_train.runs.model import make_model

# photos are rarely longer than this many times their short side
_ASPECT = 4 / 3
# corners of the objects drawn into an image, as shares of its sides
_OBJECTS = ((0.05, 0.1, 0.3, 0.6), (0.2, 0.3, 0.9, 0.9), (0.5, 0.05, 0.6, 0.2), (0.7, 0.5, 0.95, 0.95))

# seconds of a pass beside which choosing kernels is nothing
_LONG = 10.0


class StepCost(NamedTuple):
    """What a step needs.

    Attributes:
        weights: Bytes of the weights, and of a gradient and a momentum for each that is trained.
        image: Bytes that each image keeps for the gradients.
        seconds: Of a forward and backward pass of one image; 0 where it was not timed.
        width: Of the image, in pixels.
        height: Likewise.
    """

    weights: int
    image: int
    seconds: float
    width: int
    height: int


def image_size(recipe: Recipe) -> tuple[int, int]:
    """Width and height of a photo once the recipe has resized it."""
    short = max(recipe.model.short_sides)
    return min(recipe.model.max_size, round(short * _ASPECT)), min(short, recipe.model.max_size)


def step_cost(
    recipe: Recipe, counts: CategoryCounts, groups: Sequence[Group], device: torch.device, *, timed: bool = False
) -> StepCost:
    """Takes a forward and a backward pass with one image on a model that is thrown away.

    Bytes are counted, so they are the same at every call; seconds are those of this machine now.

    Args:
        recipe: Model, method and image sizes.
        counts: Training counts of the classes.
        groups: Groups of the training data.
        device: Where to measure.
        timed: Measure the seconds too: of a second pass, as the first one chooses kernels, unless that took long.

    Raises:
        OutOfMemory: Not even one image fits.
    """
    width, height = image_size(recipe)
    with named_memory("a step of one image", training_advice(recipe)):
        model = make_model(recipe, counts, groups, load_pretrained=False)
        set_trainable(model, recipe.train)
        prepare(model, recipe.compute, device).train()
        image, target = _sample(recipe, counts, width, height, device)
        kept: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(count, lambda tensor: tensor):
            first = _seconds(model, image, target)
        seconds = 0.0
        if timed:
            seconds = first if first >= _LONG else _seconds(model, image, target)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    weights = sum(p.nbytes * (3 if p.requires_grad else 1) for p in model.parameters())
    return StepCost(weights, sum(n for place, n in kept.items() if place not in own), seconds, width, height)


def _sample(
    recipe: Recipe, counts: CategoryCounts, width: int, height: int, device: torch.device
) -> tuple[Tensor, dict[str, Any]]:
    """An image of noise with a few objects."""
    sides = torch.tensor([width, height, width, height])
    boxes = torch.tensor(_OBJECTS) * sides
    labels = torch.arange(len(boxes)) % len(counts.names) + 1
    target: dict[str, Any] = {"boxes": boxes.to(device), "labels": labels.to(device), "draw_seed": 0}
    if has_masks(recipe):
        outlines = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes.tolist()]
        target["masks"] = InstanceMasks.from_segmentations(outlines, height, width)
    if recipe.model.semantic == "stuff":
        target["stuff"] = torch.zeros(height, width, dtype=torch.uint8, device=device)
    image = torch.rand(3, height, width, generator=keyed_generator(0, "step-cost"))
    return image.to(device), target


def _pass(model: LongTailDetector, image: Tensor, target: dict[str, Any]) -> None:
    loss = torch.stack(list(model([image], [target.copy()]).values())).sum()
    loss.backward()  # type: ignore[no-untyped-call]


def _seconds(model: LongTailDetector, image: Tensor, target: dict[str, Any]) -> float:
    start = time.perf_counter()
    _pass(model, image, target)
    if image.is_cuda:
        torch.cuda.synchronize(image.device)
    return time.perf_counter() - start


def free_memory(device: torch.device) -> int | None:
    """Bytes that may still be taken on a device; ``None`` where that is not known."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()


def whole_memory(device: torch.device) -> int | None:
    """Bytes that a device has in all, whatever else runs; of a processor those of the machine."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else machine_memory()
