"""A bare MobileNetV3-Large of torchvision: its names, and batch norms with another eps."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lt_train.detectors.foreign.names import TRUNK
from lt_train.detectors.foreign.outcome import Converted
from lt_train.detectors.trunks.norm import fold_eps

FEATURES = "features."
# a weight that no other network of torchvision has in this shape
MARK, MARK_SHAPE = "features.16.0.weight", (960, 160, 1, 1)
# of the classifier's batch norms
EPS = 1e-3


def is_mobilenet(state: Mapping[str, Tensor]) -> bool:
    """Whether weights are of that classifier."""
    return MARK in state and tuple(state[MARK].shape) == MARK_SHAPE


def from_mobilenet(state: Mapping[str, Tensor]) -> Converted:
    """Gives the weights our names and our eps, without those of the classifier's last layers.

    Args:
        state: Its state dict.
    """
    features = {
        f"{TRUNK}{key.removeprefix(FEATURES)}": value for key, value in state.items() if key.startswith(FEATURES)
    }
    return Converted(fold_eps(features, EPS))
