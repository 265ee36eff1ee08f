"""Checkpoints of torchvision's reference scripts: ``model`` beside the ``args`` of the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lt_train.detectors.foreign.objects import Inert

# what the reference script is told to start from, and how names of torchvision's COCO weights end
STARTS = ("weights", "pretrained")
COCO_ENDINGS = ("COCO_V1", "DEFAULT")
ZERO_EPS = "weights of torchvision's reference script, from its COCO weights: their batch norms' eps of 0 is kept"


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
