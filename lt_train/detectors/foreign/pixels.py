"""What a trunk was trained to see: order of the channels, mean and deviation; and where its strides lie.

torchvision's detectors take R, G, B in 0..1, less ``MEAN`` and divided by ``STD``. Other statistics are put into the
first convolution. Shapes: its weight is [64, 3, 7, 7].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from lt_data.errors import DataError, shown
from lt_train.detectors.foreign.names import STEM, STEM_NORM

# of ImageNet, for R, G and B in 0..255
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
# of a mean, in steps of a pixel's 255: configurations are written with three digits
TOLERANCE = 0.01


@dataclass(frozen=True)
class Pixels:
    """How pixels become input.

    Attributes:
        mean: What is taken from pixels in 0..255, in the order of the input's channels.
        std: What the difference is divided by.
        bgr: Whether the channels are blue, green, red.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool


def pixels(mean: object, std: object, *, bgr: bool, where: str) -> Pixels:
    """Pixel statistics from a configuration's values.

    Raises:
        DataError: They are not three numbers each, or the mean is not ImageNet's.
    """
    means, stds = (_three(value) for value in (mean, std))
    wanted = MEAN[::-1] if bgr else MEAN
    if means is None or stds is None or min(stds) <= 0:
        found = f"mean {shown(mean)}, std {shown(std)}"
        raise DataError(f"weights {where}: its pixels have {found}; needed are three numbers each, std above 0")
    # another mean would be a constant, which the padding of the first convolution does not have
    if max(abs(a - b) for a, b in zip(means, wanted, strict=True)) > TOLERANCE:
        order = "B, G, R" if bgr else "R, G, B"
        raise DataError(
            f"weights {where}: its input is {order} less {list(means)}, this model takes {list(wanted)}; "
            "allowed are weights trained with ImageNet's mean"
        )
    return Pixels(means, stds, bgr)


def with_own_pixels(state: Mapping[str, Tensor], there: Pixels) -> dict[str, Tensor]:
    """A state whose first convolution gives for our input what it gave for its own.

    Args:
        state: Weights under our names.
        there: What its input was.
    """
    key = f"{STEM}.weight"
    weight = state[key]
    if weight.ndim != 4 or weight.shape[1] != 3:
        # refused with the other shapes
        return dict(state)
    std = there.std[::-1] if there.bgr else there.std
    factors = [ours / theirs for ours, theirs in zip(STD, std, strict=True)]
    weight = weight.flip(1) if there.bgr else weight
    if max(abs(factor - 1) for factor in factors) > 1e-6:
        weight = weight * torch.tensor(factors)[:, None, None]
    return {**state, key: weight}


def check_not_caffes(state: Mapping[str, Tensor], *, norm: str = STEM_NORM, where: str) -> None:
    """Refuses the ResNet-50 of MSRA, which caffe2, detectron2 and mmdetection's caffe style start from.

    Its strides lie in the 1x1 convolutions and it takes B, G, R in 0..255, neither of which shapes can show; but its
    batch norms came as a factor and a summand alone, so that the stored mean is 0 and the variance 1.

    Args:
        state: Weights.
        norm: The first batch norm.
        where: The file, for messages.

    Raises:
        DataError: It is that one.
    """
    mean, variance, weight = (state.get(f"{norm}.{part}") for part in ("running_mean", "running_var", "weight"))
    if mean is None or variance is None or weight is None:
        return
    # before any training the factor is 1 as well
    unused = bool((mean == 0).all()) and bool(((variance - 1).abs() < 1e-3).all())
    if unused and not bool((weight == 1).all()):
        raise DataError(
            f"weights {where}: {norm} has mean 0 and variance 1, as the ResNet-50 of caffe (MSRA) has; its strides lie "
            "in the 1x1 convolutions, here in the 3x3 ones; give weights that started from torchvision's ResNet-50"
        )


def _three(value: object) -> tuple[float, ...] | None:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        return None
    numbers = [v for v in value if isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v)]
    return tuple(map(float, numbers)) if len(numbers) == 3 else None
