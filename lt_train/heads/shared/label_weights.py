"""Weights of labels by training count, for the heads that count classes differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lt_data.counts.class_weights import class_weights
from lt_train.heads.shared.class_weight_options import ClassWeightOptions


def label_weights(
    instance_counts: Sequence[int],
    weighting: Literal["none", "inverse", "effective-number"],
    options: ClassWeightOptions,
) -> Tensor:
    """Weight of labels 0..C, float32 [C+1].

    Args:
        instance_counts: Training instances of classes 1..C; without any instance all classes weigh 1.
        weighting: How a weight falls with the count; with ``none`` every label weighs 1.
        options: See :func:`lt_data.counts.class_weights.class_weights`.
    """
    weights = torch.ones(len(instance_counts) + 1, dtype=torch.float32)
    if weighting == "none":
        return weights
    if not any(instance_counts):
        weights[0] = options.background
        return weights
    table = class_weights(
        list(instance_counts),
        kind=weighting,
        beta=options.beta,
        power=options.power,
        lower=options.lower,
        upper=options.upper,
        background=options.background,
        background_ratio=options.background_ratio,
    )
    return torch.from_numpy(table).float()
