"""Which tool a file of weights is from, and its weights with our names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lt_train.detectors.foreign.detectron2 import from_detectron2, is_detectron2s
from lt_train.detectors.foreign.efficientnet_lite0 import from_lite0, is_lite0
from lt_train.detectors.foreign.mmdetection import from_mmdetection, is_mmdetections
from lt_train.detectors.foreign.outcome import Converted
from lt_train.detectors.foreign.torchvision import from_mobilenet, is_mobilenet
from lt_train.detectors.foreign.wrapping import unwrapped


def converted(state: Mapping[str, Tensor], content: Mapping[str, Any], path: Path) -> Converted:
    """Weights with torchvision's names; those of a tool that is not known are left as they are.

    Args:
        state: The state dict of a file.
        content: All of the file.
        path: Where it is.

    Raises:
        DataError: They are of a known tool, and of a model that ours cannot be.
    """
    inner, notes = unwrapped(state, where=str(path))
    if is_detectron2s(inner):
        found = from_detectron2(inner, path)
    elif is_mmdetections(inner):
        found = from_mmdetection(inner, content.get("meta"), where=str(path))
    elif is_lite0(inner):
        found = from_lite0(inner, where=str(path))
    elif is_mobilenet(inner):
        found = from_mobilenet(inner)
    else:
        found = Converted(inner)
    return Converted(found.state, found.classes, notes + found.notes)
