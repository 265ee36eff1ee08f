"""Mask probabilities of 28 x 28 cells, pasted into the image and run-length encoded, one mask at a time.

torchvision pastes all masks of an image into one float tensor [n, 1, H, W] (4.8 GB for 100 masks of a 12-megapixel
image). Here only the region of one box exists at any moment, and the runs are read off it: no full image is ever made.
The masks are the same, bit for bit. Torch is imported when needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_PADDING = 1  # as torchvision pastes: one cell of zeros around each mask, so that its border is interpolated
_THRESHOLD = 0.5


def paste_masks_to_rle(
    mask_probs: Tensor | NDArray[np.floating[Any]],
    boxes: Tensor | NDArray[np.floating[Any]],
    height: int,
    width: int,
) -> list[dict[str, Any]]:
    """Paste mask probabilities into their boxes and encode what exceeds 0.5.

    Equal to ``paste_masks_in_image(..., padding=1) > 0.5`` of torchvision, then COCO's RLE. A box wholly outside the
    image gives an empty mask. Memory: one box region as float32 (the image's size at most, if boxes are clipped to it).

    Args:
        mask_probs: [n, M, M] or [n, 1, M, M], 0..1, on any device.
        boxes: [n, 4] xyxy pixels of the image.
        height: Image height in pixels.
        width: Image width in pixels.

    Returns:
        n compressed RLEs ``{"size": [height, width], "counts": str}``.
    """
    import torch
    import torch.nn.functional as F
    from torchvision.models.detection.roi_heads import expand_boxes, expand_masks

    masks = torch.as_tensor(mask_probs).detach().to("cpu", torch.float32)
    masks = masks.reshape(len(masks), 1, *masks.shape[-2:])
    padded, scale = expand_masks(masks, _PADDING)
    corners = expand_boxes(torch.as_tensor(boxes).detach().to("cpu", torch.float32), scale).to(torch.int64)
    runs = []
    for i, (x0, y0, x1, y1) in enumerate(corners.tolist()):
        size = (max(y1 - y0 + 1, 1), max(x1 - x0 + 1, 1))
        left, top = max(x0, 0), max(y0, 0)
        right, bottom = max(min(x1 + 1, width), left), max(min(y1 + 1, height), top)
        region = F.interpolate(padded[i : i + 1], size=size, mode="bilinear", align_corners=False)[0, 0]
        inside = region[top - y0 : bottom - y0, left - x0 : right - x0] > _THRESHOLD
        runs.append(run_lengths(inside.numpy(), top=top, left=left, height=height, width=width))
    return _compress(runs, height, width)


def run_lengths(region: NDArray[np.bool_], *, top: int, left: int, height: int, width: int) -> NDArray[np.int64]:
    """COCO run lengths of an image that is empty but for one region.

    Args:
        region: [h, w] bool, wholly inside the image.
        top: Row of its first pixel.
        left: Column of its first pixel.
        height: Image height in pixels.
        width: Image width in pixels.

    Returns:
        Lengths of the runs down the columns, background first; their sum is ``height * width``.
    """
    h, w = region.shape
    columns = np.zeros((w, h + 2), dtype=np.bool_)
    columns[:, 1:-1] = region.T
    column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])
    edges = (column + left) * height + row + top  # start, end, start, end, ... in column-major order
    # a run that ends at the bottom and one that starts at the next column's top are one run
    joined = edges[1:-1:2] == edges[2::2]
    keep = np.ones(len(edges), dtype=np.bool_)
    keep[1:-1:2], keep[2::2] = ~joined, ~joined
    bounds = np.concatenate([[0], edges[keep], [height * width]])
    lengths = np.diff(bounds)
    return lengths[:-1] if len(lengths) > 1 and lengths[-1] == 0 else lengths


def _compress(runs: list[NDArray[np.int64]], height: int, width: int) -> list[dict[str, Any]]:
    from pycocotools import mask as rle

    if not runs:
        return []
    raw = [{"size": [height, width], "counts": lengths} for lengths in runs]
    return [
        {"size": [height, width], "counts": encoded["counts"].decode("ascii")}
        for encoded in rle.frPyObjects(raw, height, width)
    ]
