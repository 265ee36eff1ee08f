"""Windows of images: where they lie, and what of an image and its objects is in one.

Shapes: images uint8 [3, H, W]; boxes xyxy pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor

from lt_train.data.dataset import Sample
from lt_train.data.images import resized_size
from lt_train.data.instance_masks import InstanceMasks
from lt_train.data.target import Target

# pixels that an image made smaller keeps on its short side
LEAST_SIDE = 32


class Window(NamedTuple):
    """A part of an image, in whole pixels."""

    left: int
    top: int
    width: int
    height: int


def window_around(target: Target, size: tuple[int, int], shares: tuple[float, float], draws: Tensor) -> Window:
    """A random window that holds the centre of one of the objects.

    Args:
        target: The objects; where a sampler drew a class, one of that class is chosen.
        size: Height and width of the image.
        shares: Smallest and largest share of each side.
        draws: [5] in 0..1: height, width, the object, and where the window lies down and across.

    Source: detectron2's ``RandomCrop`` of type ``relative_range`` for images with instances.
    """
    share = shares[0] + draws[:2] * (shares[1] - shares[0])
    sides = [max(1, round(float(part) * side)) for part, side in zip(share, size, strict=True)]
    boxes = target["boxes"]
    if "only" in target:
        boxes = boxes[target["labels"] == target["only"]]
    first, last = [0, 0], [side - own for side, own in zip(size, sides, strict=True)]
    if len(boxes):
        box = boxes[min(int(draws[2] * len(boxes)), len(boxes) - 1)].tolist()
        centre = [math.floor((box[1] + box[3]) / 2), math.floor((box[0] + box[2]) / 2)]
        first = [min(max(0, c + 1 - own), end) for c, own, end in zip(centre, sides, last, strict=True)]
        last = [min(c, end) for c, end in zip(centre, last, strict=True)]
    top, left = (int(a + float(d) * (b - a + 1)) for a, b, d in zip(first, last, draws[3:], strict=True))
    return Window(min(left, last[1]), min(top, last[0]), sides[1], sides[0])


def crop(image: Tensor, target: Target, window: Window, kept: float) -> Sample:
    """What is in a window; boxes are clipped to it, masks cut exactly.

    Args:
        image: [3, H, W].
        target: Its objects.
        window: Inside the image.
        kept: Objects are dropped that have less than this share of their box inside, or nothing of box or mask.
    """
    left, top, width, height = window
    if (height, width) == tuple(image.shape[-2:]):
        return image, target
    # a copy with the channels of a pixel together: a view would keep the whole image, and send it between processes
    pixels = image.permute(1, 2, 0)[top : top + height, left : left + width].contiguous().permute(2, 0, 1)
    boxes = clipped(target["boxes"], window)
    whole, inside = _areas(target["boxes"]), _areas(boxes)
    there = (inside > 0) & (inside >= kept * whole)
    masks = target.get("masks")
    if isinstance(masks, InstanceMasks):
        masks = masks.crop(left, top, width, height)
        for index in (there & (inside < whole)).nonzero().flatten().tolist():
            there[index] = bool(masks.bitmaps([index]).any())
    cut = with_objects(target, boxes, masks if isinstance(masks, InstanceMasks) else None, there)
    if "ignore" in target:
        regions = clipped(target["ignore"], window)
        regions = regions[_areas(regions) > 0]
        if len(regions):
            cut["ignore"] = regions
        else:
            del cut["ignore"]
    return pixels, cut


def with_objects(target: Target, boxes: Tensor, masks: InstanceMasks | None, chosen: Tensor) -> Target:
    """A target with other boxes and masks of its objects, of which only those stay that are chosen, [n] bool."""
    found = cast(Target, {**target, "boxes": boxes[chosen], "labels": target["labels"][chosen]})
    if masks is not None:
        found["masks"] = masks if bool(chosen.all()) else masks.select(chosen.numpy())
    return found


def clipped(boxes: Tensor, window: Window) -> Tensor:
    """Boxes as seen from a window, clipped to it."""
    moved = boxes - torch.tensor([window.left, window.top] * 2, dtype=boxes.dtype)
    limits = torch.tensor([window.width, window.height] * 2, dtype=boxes.dtype)
    return torch.minimum(moved.clamp(min=0), limits)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def rescale(
    image: Tensor, target: Target, scales: tuple[float, float], *, max_size: int, kept: float, draws: Tensor
) -> Sample:
    """Large-scale jitter: as if the image were resized by a random factor, and then cut to the usual size.

    Nothing is resized here. Above 1 a window is cut out, of which the detector makes an image of the usual size; below
    1 the target's ``short_side`` is less.

    Args:
        image: [3, H, W].
        target: Its objects and ``short_side``.
        scales: Smallest and largest factor.
        max_size: Largest long side in pixels.
        kept: See :func:`crop`.
        draws: [3] in 0..1: the factor, and where the window lies down and across.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR
    2021: factors 0.1 to 2, uniform.
    """
    height, width = image.shape[-2:]
    factor = scales[0] + float(draws[0]) * (scales[1] - scales[0])
    if factor > 1:
        sides = [max(1, round(side / factor)) for side in (height, width)]
        top, left = (
            int(float(d) * (side - own + 1)) for d, side, own in zip(draws[1:], (height, width), sides, strict=True)
        )
        return crop(image, target, Window(left, top, sides[1], sides[0]), kept)
    usual = min(resized_size(height, width, target["short_side"], max_size))
    smaller = cast(Target, {**target, "short_side": min(usual, max(LEAST_SIDE, round(usual * factor)))})
    return image, smaller
