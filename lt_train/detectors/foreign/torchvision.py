"""What torchvision's own files need: checkpoints of its reference scripts, and a bare MobileNetV3-Large.

The scripts save ``model`` beside the ``args`` of the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lt_train.detectors.foreign.names import TRUNK
from lt_train.detectors.foreign.objects import Inert
from lt_train.detectors.foreign.outcome import Converted
from lt_train.detectors.trunks.norm import fold_eps

# what the reference script is told to start from, and how names of torchvision's COCO weights end
STARTS = ("weights", "pretrained")
COCO_ENDINGS = ("COCO_V1", "DEFAULT")
ZERO_EPS = "weights of torchvision's reference script, from its COCO weights: their batch norms' eps of 0 is kept"
# of a bare MobileNet, whose names begin so; the mark is a weight that no other network of torchvision has in this shape
FEATURES = "features."
MARK, MARK_SHAPE = "features.16.0.weight", (960, 160, 1, 1)
# of the classifier's batch norms
EPS = 1e-3


def had_zero_eps(content: Mapping[str, Any]) -> bool:
    """Whether a detector was trained from torchvision's COCO weights, whose batch norms it runs with eps 0.

    Args:
        content: A checkpoint; the arguments of the command are its ``args``.
    """
    args = content.get("args")
    given = args.state if isinstance(args, Inert) else args
    if not isinstance(given, Mapping):
        return False
    weights, pretrained = (given.get(name) for name in STARTS)
    return pretrained is True or (isinstance(weights, str) and weights.endswith(COCO_ENDINGS))


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
