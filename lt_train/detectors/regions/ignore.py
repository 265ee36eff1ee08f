"""Ignore regions: parts of an image that hold objects nobody labelled one by one, so nothing there is background.

A target may have ``ignore``: the boxes of the image's crowds and of instances kept as ``iscrowd: 1``. The rule: an
anchor or proposal takes part in no loss if it is not positive and its intersection with one region, over its own
area, is at least 0.5. It is how COCO evaluation treats a detection in a crowd (intersection over the detection's
area, smallest threshold 0.5: Lin et al., "Microsoft COCO", and ``iscrowd`` in pycocotools) and what mmdetection's
``ignore_iof_thr`` does in training. Here a positive box stays positive, whereas mmdetection looks at the region
first; and 0.5 itself counts. Regions are boxes, not masks: anchors are boxes, and the box metric of COCO takes the
crowd's box too. They have no class: what lies in one is background for no class.

Shapes: N images, A boxes (anchors or proposals) of one image, m regions of one image; xyxy in the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# least intersection over own area of a box that is ignored
IGNORE_OVERLAP = 0.5


def ignore_negatives(
    labels: Sequence[Tensor], boxes: Sequence[Tensor], targets: Sequence[Mapping[str, Any]]
) -> list[Tensor]:
    """Labels with -1, which no sampler takes, in place of 0 for boxes in an ignore region.

    Where an image has no region its labels come back as they are, without a wait for the device.

    Args:
        labels: N tensors [A]: > 0 positive, 0 negative, < 0 ignored.
        boxes: N tensors [A, 4].
        targets: N targets; ``ignore`` [m, 4] float if the image has regions.

    Returns:
        N tensors [A] of the dtypes given.
    """
    rows = zip(labels, boxes, targets, strict=True)
    return [
        label.masked_fill((label == 0) & lies_in_region(box, target["ignore"]), -1) if has_regions(target) else label
        for label, box, target in rows
    ]


def has_regions(target: Mapping[str, Any]) -> bool:
    """Whether a target has an ignore region; ``ignore`` may be missing or [0, 4]."""
    return "ignore" in target and len(target["ignore"]) > 0


def lies_in_region(boxes: Tensor, regions: Tensor) -> Tensor:
    """Whether one region alone covers at least ``IGNORE_OVERLAP`` of a box.

    Args:
        boxes: [A, 4]; of a box that reaches beyond the image, all of it is its area.
        regions: [m, 4].

    Returns:
        [A] bool; false for a box without an area.
    """
    # areas of large anchors are beyond half precision
    dtype = torch.promote_types(boxes.dtype, torch.float32)
    x1, y1, x2, y2 = boxes.to(dtype).unbind(1)
    left, top, right, bottom = regions.to(device=boxes.device, dtype=dtype)[:, :, None].unbind(1)
    width = (torch.minimum(x2, right) - torch.maximum(x1, left)).clamp_(min=0)
    height = (torch.minimum(y2, bottom) - torch.maximum(y1, top)).clamp_(min=0)
    area = (x2 - x1) * (y2 - y1)
    # a product instead of a quotient: half an area is exact
    return ((width * height >= IGNORE_OVERLAP * area) & (area > 0)).any(dim=0)
