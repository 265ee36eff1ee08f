"""What is known of a training image: one type from the dataset to the losses."""

from __future__ import annotations

from typing import Literal, Required, TypedDict

from torch import Tensor

from lt_train.data.instance_masks import InstanceMasks
from lt_train.data.mask_runs import MaskRuns

# what of the instances' masks targets hold: nothing, polygons in the size of the image, or runs of the resized one
MaskForm = Literal["none", "polygons", "runs"]


class Target(TypedDict, total=False):
    """The objects of an image, and what keys its draws. A dict, because torchvision's detectors take one.

    Attributes:
        boxes: [n, 4] float, xyxy pixels.
        labels: [n] int64 in 1..C.
        masks: For mask models: the n masks, or runs of the resized image.
        ignore: [m, 4] float, regions that are not background, see :mod:`lt_train.detectors.regions.ignore`.
        image_id: For messages.
        stuff: [H, W] uint8, the label of what each pixel shows, see :mod:`lt_data.files.stuff_maps`.
        draw_seed: Keys the samplers; without it they draw from the global generator as torchvision does.
        short_side: Pixels of the resized short side.
        place: Place in the forward pass, where images before it are left out; else that in the list.
        only: The class of which alone the objects are trained on, where a sampler drew one.
    """

    boxes: Required[Tensor]
    labels: Required[Tensor]
    masks: InstanceMasks | MaskRuns
    ignore: Tensor
    stuff: Tensor
    image_id: int
    draw_seed: int
    short_side: int
    place: int
    only: int
