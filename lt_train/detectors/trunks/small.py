"""The small detectors, made for images of about 128 pixels and two CPU cores.

Shapes: N images, H and W their padded size in pixels (multiples of 32), D channels of every level, C classes.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from lt_train.detectors.trunks.mask_branch import mask_branch

SMALL_WIDTHS = (32, 64, 128, 128)
SMALL_CHANNELS = 64
SMALL_FEATURES = 256
SMALL_MASK_LAYERS = (32, 32, 32, 32)
# boxes up to this side in pixels are pooled at stride 4, larger ones at stride 8
SMALL_LEVEL_SIDE = 32


def small_rcnn(num_classes: int, *, masks: bool, pretrained: bool, **settings: Any) -> Any:
    """Torchvision's Faster or Mask R-CNN on a small trunk.

    Args:
        num_classes: C.
        masks: Whether it has a mask branch.
        pretrained: Changes nothing: there are no weights to start from.
        **settings: Passed to torchvision.
    """
    make = MaskRCNN if masks else FasterRCNN
    return make(SmallBackbone(), **_small_parts(num_classes, masks), **settings)


class SmallBackbone(nn.Module):
    """Four stages of 32-64-128-128 channels at strides 2, 4, 8 and 16, merged top-down into two levels.

    It has 0.7 million weights.

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


def _small_parts(num_classes: int, masks: bool) -> dict[str, Any]:
    """Parts and limits besides the trunk."""
    parts: dict[str, Any] = {
        "rpn_anchor_generator": AnchorGenerator(((20,), (40,)), ((1.0,), (1.0,))),
        "rpn_pre_nms_top_n_train": 300,
        "rpn_post_nms_top_n_train": 100,
        "rpn_pre_nms_top_n_test": 300,
        "rpn_post_nms_top_n_test": 100,
        "box_batch_size_per_image": 64,
        "box_roi_pool": _small_pool(7),
        "box_head": TwoMLPHead(SMALL_CHANNELS * 7 * 7, SMALL_FEATURES),
        "box_predictor": FastRCNNPredictor(SMALL_FEATURES, num_classes + 1),
    }
    if masks:
        parts |= mask_branch(SMALL_CHANNELS, SMALL_MASK_LAYERS, _small_pool(14), num_classes)
    return parts


def _small_pool(size: int) -> Any:
    return MultiScaleRoIAlign(
        featmap_names=["0", "1"],
        output_size=size,
        sampling_ratio=2,
        canonical_scale=SMALL_LEVEL_SIDE,
        canonical_level=3,
    )
