"""Trunks: images -> feature maps by level.

Shapes: N images, H and W their padded size in pixels (multiples of 32), D channels of every level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

SMALL_WIDTHS = (32, 64, 128, 128)
SMALL_CHANNELS = 64


class SmallBackbone(nn.Module):
    """Four stages of 32-64-128-128 channels at strides 2, 4, 8 and 16, merged top-down into two levels.

    Made for images of about 128 pixels and two CPU cores; 0.7 million weights.

    Attributes:
        out_channels: D, as torchvision's detectors expect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = SMALL_CHANNELS
        inputs = (3, *SMALL_WIDTHS[:-1])
        self.stages = nn.ModuleList(_stage(i, o) for i, o in zip(inputs, SMALL_WIDTHS, strict=True))
        self.lateral = nn.ModuleList(nn.Conv2d(width, SMALL_CHANNELS, 1) for width in SMALL_WIDTHS[1:])
        self.output = nn.ModuleList(nn.Conv2d(SMALL_CHANNELS, SMALL_CHANNELS, 3, padding=1) for _ in range(2))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[N, 3, H, W] -> ``{"0": [N, D, H/4, W/4], "1": [N, D, H/8, W/8]}``."""
        stride_2 = self.stages[0](images)
        stride_4 = self.stages[1](stride_2)
        stride_8 = self.stages[2](stride_4)
        top = self.lateral[2](self.stages[3](stride_8))
        middle = self.lateral[1](stride_8) + _upsample(top, stride_8)
        bottom = self.lateral[0](stride_4) + _upsample(middle, stride_4)
        return {"0": self.output[0](bottom), "1": self.output[1](middle)}


def _stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions, the first of stride 2."""
    layers: list[nn.Module] = []
    for channels, stride in ((in_channels, 2), (out_channels, 1)):
        layers.append(nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False))
        layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


def resnet50_fpn(norm_layer: Callable[..., nn.Module]) -> Any:
    """A stock ResNet-50 with a feature pyramid of 256 channels at strides 4 to 64, without weights."""
    return resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=norm_layer, trainable_layers=5)


def is_resnet(backbone: nn.Module) -> bool:
    """Whether the trunk has torchvision's ResNet as its ``body``, which ImageNet weights fit."""
    body = getattr(backbone, "body", None)
    return isinstance(body, nn.Module) and hasattr(body, "layer1") and isinstance(body.conv1, torch.nn.Conv2d)
