"""The last layers of a mask branch for one label a region, only that label's mask is computed; and their loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_train.global_batch import divisor, share


def masks_of_labels(predictor: Any, features: Tensor, labels: Tensor) -> Tensor:
    """Mask logits of each region for its own label.

    Args:
        predictor: torchvision's ``MaskRCNNPredictor``.
        features: Output of the mask head, [R, D, M / 2, M / 2].
        labels: [R] int64, the channel of each region.

    Returns:
        [R, M, M]: channel ``labels[r]`` of what the predictor gives for region r.
    """
    hidden = predictor.relu(predictor.conv5_mask(features))
    return channels_of_labels(predictor.mask_fcn_logits, hidden, labels)


def channels_of_labels(layer: Any, hidden: Tensor, labels: Tensor) -> Tensor:
    """One output channel of a 1x1 convolution for each row: its weights are gathered before it is applied.

    With C channels it takes neither C times the time nor the memory.

    Args:
        layer: ``Conv2d`` with kernels of one cell.
        hidden: [R, D, M, M].
        labels: [R] int64.

    Returns:
        [R, M, M].
    """
    weight = layer.weight[:, :, 0, 0].index_select(0, labels)
    logits = torch.einsum("rdhw,rd->rhw", hidden, weight)
    return logits + layer.bias.index_select(0, labels)[:, None, None]


def mean_cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean binary cross-entropy over the cells of all masks [R, M, M] of the batch, 0 without any."""
    if share().world == 1 and len(logits):
        return F.binary_cross_entropy_with_logits(logits, wanted)
    # without a mask the sum is 0 and keeps the path to every weight
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / divisor(logits.numel(), logits.device)
