"""The detectors that there are, without torch: a recipe names one of them.

A new one is a row here, and a trunk of its own if it is made in another way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Trunk:
    """How detectors are made, with masks and without.

    Attributes:
        maker: ``module:function``, which makes torchvision's model of the number of classes and its settings.
        mark: A weight that no other detectors have.
        pretrained: Whether there are weights for it, so that its batch norms then use stored statistics.
        frozen: How the names of the weights begin that are then never trained: those of its first stages.
    """

    maker: str
    mark: str
    pretrained: bool
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class DetectorSpec:
    """One detector.

    Attributes:
        kind: What people call it.
        trunk: How it is made.
        masks: Whether it has a mask branch.
    """

    kind: str
    trunk: Trunk
    masks: bool


RESNET50 = Trunk(
    "lt_train.detectors.trunks.resnet50:resnet50_rcnn",
    "backbone.body.conv1.weight",
    pretrained=True,
    frozen=("backbone.body.conv1.", "backbone.body.bn1.", "backbone.body.layer1."),
)
LITE0 = Trunk(
    "lt_train.detectors.trunks.efficientnet_lite0:lite0_rcnn",
    "backbone.body.stem.conv.0.weight",
    pretrained=True,
    frozen=("backbone.body.stem.", "backbone.body.stage1.", "backbone.body.stage2."),
)
SMALL = Trunk("lt_train.detectors.trunks.small:small_rcnn", "backbone.lateral.0.weight", pretrained=False)

DETECTORS: dict[str, DetectorSpec] = {
    "mask_rcnn_r50_fpn": DetectorSpec("Mask R-CNN", RESNET50, masks=True),
    "faster_rcnn_r50_fpn": DetectorSpec("Faster R-CNN", RESNET50, masks=False),
    "mask_rcnn_lite0": DetectorSpec("Mask R-CNN", LITE0, masks=True),
    "faster_rcnn_lite0": DetectorSpec("Faster R-CNN", LITE0, masks=False),
    "mask_rcnn_small": DetectorSpec("Mask R-CNN", SMALL, masks=True),
    "faster_rcnn_small": DetectorSpec("Faster R-CNN", SMALL, masks=False),
}


def detector_of_weights(names: Collection[str]) -> str | None:
    """The detector that weights of these names belong to; ``None`` if that cannot be told."""
    masks = any(name.startswith("roi_heads.mask_") for name in names)
    found = [name for name, spec in DETECTORS.items() if spec.trunk.mark in names and spec.masks == masks]
    return found[0] if len(found) == 1 else None
