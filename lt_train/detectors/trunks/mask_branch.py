"""The mask branch of the detectors that are made here: torchvision's, narrower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor


def mask_branch(channels: int, layers: Sequence[int], pool: nn.Module, num_classes: int) -> dict[str, Any]:
    """The parts that a ``MaskRCNN`` takes besides those of a ``FasterRCNN``.

    Args:
        channels: Of the feature maps.
        layers: Channels of the convolutions in front of the predictor.
        pool: Cuts regions of 14 x 14 cells out of the maps.
        num_classes: C.
    """
    return {
        "mask_roi_pool": pool,
        "mask_head": MaskRCNNHeads(channels, layers, 1),
        "mask_predictor": MaskRCNNPredictor(layers[-1], layers[-1], num_classes + 1),
    }
