"""From stage to stage of a cascade: boxes that one has refined and the next is given, and the average of what all say.

Shapes: S stages, N images, R regions over the batch, R_i of image i, L logits, D features of a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lt_train.data.target import Target
from lt_train.detectors.regions.sampled import Regions

if TYPE_CHECKING:
    from lt_train.detectors.roi_heads import LongTailRoIHeads

Shapes = list[tuple[int, int]]


def mean_logits(logits: Sequence[Tensor]) -> Tensor:
    """The average of S tensors [R, L], in float32: half precision would round the sum."""
    return torch.stack([part.float() for part in logits]).mean(dim=0)


@torch.no_grad()
def refined(
    stage: LongTailRoIHeads, boxes: Sequence[Tensor], box_features: Tensor, image_shapes: Shapes
) -> list[Tensor]:
    """Boxes moved as a stage says, inside their images; no gradient goes through them.

    Args:
        stage: The stage.
        boxes: N tensors [R_i, 4].
        box_features: [R, D], what the stage saw of them.
        image_shapes: (height, width) of the N images.
    """
    deltas = stage.box_predictor.bbox_pred(box_features).split([len(part) for part in boxes])
    return [stage.decoded(*row) for row in zip(deltas, boxes, image_shapes, strict=True)]


def without_truth(
    stage: LongTailRoIHeads,
    regions: Regions,
    box_features: Tensor,
    image_shapes: Shapes,
    targets: Sequence[Target],
) -> list[Tensor]:
    """Refined boxes of regions, without those that were boxes of the ground truth: the next stage adds these itself."""
    moved = refined(stage, regions.boxes, box_features, image_shapes)
    found = []
    for boxes, before, target in zip(moved, regions.boxes, targets, strict=True):
        found.append(boxes[~are_truth(before, target)])
    return found


def are_truth(boxes: Tensor, target: Target) -> Tensor:
    """[R] bool: which of the boxes [R, 4] are boxes of the ground truth."""
    truth = target["boxes"].to(boxes.dtype)
    return (boxes[:, None] == truth[None]).all(dim=2).any(dim=1)
