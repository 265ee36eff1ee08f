"""Random changes of colour, as torchvision's ``ColorJitter`` makes them."""

from __future__ import annotations

import torch
from torch import Tensor


def change_colours(image: Tensor, largest: tuple[float, float, float, float], generator: torch.Generator) -> Tensor:
    """Changes brightness, contrast, saturation and hue, in a random order.

    Args:
        image: uint8 [3, H, W].
        largest: Of each: factors lie within 1 less and more that, the turn of hue within it.
        generator: Source of five draws.

    Returns:
        uint8 [3, H, W].
    """
    # a part of torchvision that nothing else here needs
    from torchvision.transforms.v2 import functional

    order = torch.randperm(4, generator=generator).tolist()
    shares = (2 * torch.rand(4, dtype=torch.float64, generator=generator) - 1).tolist()
    kernels = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    for which in order:
        change = shares[which] * largest[which]
        if largest[which]:
            image = kernels[which](image, change if which == 3 else 1 + change)
    return image
