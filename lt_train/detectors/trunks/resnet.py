"""The detectors with a ResNet or ResNeXt and a feature pyramid, as torchvision makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from lt_train.detectors.trunks.norm import StoredStatsBatchNorm2d


def resnet_rcnn(num_classes: int, *, body: str, masks: bool, pretrained: bool, **settings: Any) -> Any:
    """Torchvision's Faster or Mask R-CNN with a pyramid of 256 channels at strides 4 to 64, no weights.

    Args:
        num_classes: C, without background.
        body: The network in front of the pyramid, as torchvision calls it: ``resnet50``, ``resnext101_64x4d``.
        masks: Whether it has a mask branch.
        pretrained: Batch norms on stored statistics.
        **settings: Passed to torchvision.
    """
    norm: Callable[..., nn.Module] = StoredStatsBatchNorm2d if pretrained else nn.BatchNorm2d
    trunk = resnet_fpn_backbone(backbone_name=body, weights=None, norm_layer=norm, trainable_layers=5)
    make = MaskRCNN if masks else FasterRCNN
    return make(trunk, num_classes=num_classes + 1, **settings)
