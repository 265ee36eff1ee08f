"""What a model finds in one image, as columns.

Shapes: n detections; M cells a side of a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lt_train.evaluation.predictions.columns import Detections
from lt_train.evaluation.predictions.paste import paste_masks_to_rle

if TYPE_CHECKING:
    from torch import Tensor

    from lt_data.annotations.category_ids import CategoryIds


def model_detections(
    image_id: int,
    detection: Mapping[str, Tensor],
    *,
    height: int,
    width: int,
    category_ids: CategoryIds,
) -> Detections:
    """Turns a model's detections of an image into columns, in the same order.

    Scores keep every bit, so that ties and ranking stay; boxes are not rounded.

    Args:
        image_id: Dataset id of the image.
        detection: ``boxes`` [n, 4] xyxy pixels of the original image, ``labels`` [n] int64 in 1..C, ``scores`` [n],
            and for masks ``mask_probs`` [n, M, M] or [n, 1, M, M] in 0..1. Tensors on any device.
        height: Height of the original image in pixels.
        width: Width of the original image in pixels.
        category_ids: The map from labels 1..C to dataset category ids.

    Returns:
        n detections, with masks where ``detection`` has them.

    Raises:
        DataError: A label outside 1..C.
    """
    corners = detection["boxes"].detach().cpu().double().numpy()
    masks = None
    if "mask_probs" in detection:
        masks = paste_masks_to_rle(detection["mask_probs"], detection["boxes"], height, width)
    return Detections(
        images=np.full(len(corners), image_id, np.int64),
        categories=category_ids.to_dataset(detection["labels"].cpu().numpy()),
        boxes=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        scores=detection["scores"].detach().cpu().double().numpy(),
        segmentations=masks,
    )
