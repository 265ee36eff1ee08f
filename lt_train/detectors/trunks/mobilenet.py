"""The detectors with a MobileNetV3-Large and a feature pyramid, as torchvision makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone

from lt_train.detectors.trunks.norm import StoredStatsBatchNorm2d

# sides in pixels and ratios of the anchors of each of the three levels
SIDES = (32, 64, 128, 256, 512)
RATIOS = (0.5, 1.0, 2.0)
LEVELS = 3
STAGES = 6
# what the published detector asks of a proposal
LEAST_OBJECTNESS = 0.05


def mobilenet_rcnn(num_classes: int, *, body: str, masks: bool, pretrained: bool, **settings: Any) -> Any:
    """Torchvision's Faster R-CNN with a pyramid of 256 channels at strides 32, 32 and 64, or a Mask R-CNN on it.

    Args:
        num_classes: C, without background.
        body: The network in front of the pyramid, as torchvision calls it.
        masks: Whether it has a mask branch, which is that of the Mask R-CNN with a ResNet-50.
        pretrained: Batch norms on stored statistics.
        **settings: Passed to torchvision.
    """
    # their eps is that of the detector that torchvision has trained on COCO, not that of the classifier
    norm: Callable[..., nn.Module] = StoredStatsBatchNorm2d if pretrained else nn.BatchNorm2d
    trunk = mobilenet_backbone(backbone_name=body, weights=None, fpn=True, norm_layer=norm, trainable_layers=STAGES)
    anchors = AnchorGenerator((SIDES,) * LEVELS, (RATIOS,) * LEVELS)
    make = MaskRCNN if masks else FasterRCNN
    options = {"rpn_score_thresh": LEAST_OBJECTNESS, **settings}
    return make(trunk, num_classes=num_classes + 1, rpn_anchor_generator=anchors, **options)
