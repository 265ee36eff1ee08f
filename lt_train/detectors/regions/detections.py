"""Which of the scores of one image become detections: those above a threshold that NMS leaves.

Shapes: R regions of the image, C foreground classes. Boxes are xyxy pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import boxes as box_ops

# sides in pixels below which torchvision drops a detection
MIN_SIDE = 1e-2


def pairs_above(scores: Tensor, threshold: float, most: int | None) -> tuple[Tensor, Tensor]:
    """Regions and labels of the scores above a threshold, by region and then by label.

    Args:
        scores: [R, C+1], column 0 is background and never chosen.
        threshold: See above.
        most: At most so many, those of the best scores; ``None`` is all.

    Returns:
        Two int64 tensors [pairs]: region in 0..R-1, label in 1..C.
    """
    classes = scores[:, 1:]
    flat = classes.reshape(-1)
    above = torch.where(flat > threshold)[0]
    if most is not None and len(above) > most:
        above = above[flat[above].topk(most).indices].sort().values
    return above.div(classes.shape[1], rounding_mode="floor"), above % classes.shape[1] + 1


def after_nms(boxes: Tensor, labels: Tensor, scores: Tensor, *, overlap: float, most: int) -> dict[str, Tensor]:
    """Detections that NMS within each class leaves, best first.

    Args:
        boxes: [n, 4].
        labels: [n] int64.
        scores: [n].
        overlap: Intersection over union above which the weaker of two goes.
        most: At most so many.

    Returns:
        ``boxes``, ``labels`` and ``scores``.
    """
    keep = box_ops.remove_small_boxes(boxes, min_size=MIN_SIDE)
    boxes, labels, scores = boxes[keep], labels[keep], scores[keep]
    keep = box_ops.batched_nms(boxes, scores, labels, overlap)[:most]
    return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}
