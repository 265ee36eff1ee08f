"""Deformable convolutions of version 1 (Dai et al., ICCV 2017) in the last three stages of a ResNet.

A 3x3 convolution reads each of its nine taps at a place of its own, which a second convolution predicts. Shapes: N
images, D channels in, E out, H and W the sides of a map, H' and W' those behind the stride.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

# c3, c4 and c5 of the papers
STAGES = ("layer2", "layer3", "layer4")
# how the names of the layers end that predict places
OFFSET = ".conv2.offset"


class DeformableConv2d(nn.Module):
    """A convolution whose taps are moved; with offsets of zero, as at first, it is the plain one.

    Its weight has the name and the shape that it had, so weights of a plain trunk fit. The offsets are in pixels of the
    map, for each tap in reading order first down, then to the right, as in mmcv.

    Args:
        plain: What it takes the place of; it has no bias.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        if plain.bias is not None or plain.padding_mode != "zeros":
            raise ValueError("deformable: a convolution without bias, padded with zeros, is needed")
        self.weight = plain.weight
        self.settings: Any = {"stride": plain.stride, "padding": plain.padding, "dilation": plain.dilation}
        taps = plain.kernel_size[0] * plain.kernel_size[1]
        self.offset = nn.Conv2d(plain.in_channels, 2 * taps, plain.kernel_size, **self.settings)  # type: ignore[arg-type]
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[N, D, H, W] -> [N, E, H', W'] of the same type; what is between is in 32 bits, and so are the places."""
        # torchvision's operation takes nothing else on CPUs, and gives nothing else under autocast
        with torch.autocast(x.device.type, enabled=False):
            exact = x.float()
            found: Tensor = deform_conv2d(exact, self.offset(exact), self.weight, **self.settings)
        return found.to(x.dtype)

    def extra_repr(self) -> str:
        """Shape of the weight, for ``print(model)``."""
        return f"{tuple(self.weight.shape)}, {', '.join(f'{key}={value}' for key, value in self.settings.items())}"


def use_deformable(body: Any) -> None:
    """Gives every block of the last three stages a deformable 3x3 convolution in place of its own.

    Args:
        body: A ResNet or ResNeXt of blocks with three convolutions, as torchvision makes it; changed in place.
    """
    for stage in STAGES:
        for block in body[stage]:
            block.conv2 = DeformableConv2d(block.conv2)
