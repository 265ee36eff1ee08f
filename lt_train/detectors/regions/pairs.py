"""Which pairs of a region and a class detections are made of.

Shapes: R regions of an image, C foreground classes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def best_pairs(scores: Tensor, *, above: float, most: int | None) -> tuple[Tensor, Tensor]:
    """Regions and labels of the pairs whose scores are above a threshold, by region and label.

    Args:
        scores: [R, C+1], column 0 is background.
        above: The threshold.
        most: How many pairs there may be, best scores first; ``None`` is all.

    Returns:
        Two tensors [pairs] int64: rows of ``scores``, and labels in 1..C.
    """
    classes = scores.shape[1] - 1
    flat = scores[:, 1:].reshape(-1)
    pairs = torch.where(flat > above)[0]
    if most is not None and len(pairs) > most:
        pairs = pairs[flat[pairs].topk(most).indices].sort().values
    return pairs.div(classes, rounding_mode="floor"), pairs % classes + 1
