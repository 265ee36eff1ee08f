"""The detections of one image, as records of the COCO results format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lt_train.evaluation.predictions.paste import paste_masks_to_rle

if TYPE_CHECKING:
    from torch import Tensor

    from lt_data.annotations.category_ids import CategoryIds


def detection_results(
    image_id: int,
    detection: Mapping[str, Tensor],
    *,
    height: int,
    width: int,
    category_ids: CategoryIds,
) -> list[dict[str, Any]]:
    """Turn a model's detections into COCO results, in the same order.

    Scores keep every bit, so that ties and ranking stay; boxes are not rounded.

    Args:
        image_id: Dataset id of the image.
        detection: ``boxes`` [n, 4] xyxy pixels of the original image, ``labels`` [n] int64 in 1..C, ``scores`` [n],
            and for masks ``mask_probs`` [n, M, M] or [n, 1, M, M] in 0..1. Tensors on any device.
        height: Height of the original image in pixels.
        width: Width of the original image in pixels.
        category_ids: The map from labels 1..C to dataset category ids.

    Returns:
        n records with ``image_id``, ``category_id``, ``bbox`` [x, y, width, height], ``score`` and, with masks,
        ``segmentation`` (RLE with ``counts`` as str).

    Raises:
        DataError: A label outside 1..C.
    """
    categories = category_ids.to_dataset(detection["labels"].cpu().numpy()).tolist()
    corners = detection["boxes"].detach().to("cpu").double()
    boxes = corners.clone()
    boxes[:, 2:] -= corners[:, :2]
    records: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
        for category, box, score in zip(categories, boxes.tolist(), detection["scores"].tolist(), strict=True)
    ]
    if "mask_probs" in detection:
        masks = paste_masks_to_rle(detection["mask_probs"], detection["boxes"], height, width)
        for record, mask in zip(records, masks, strict=True):
            record["segmentation"] = mask
    return records
