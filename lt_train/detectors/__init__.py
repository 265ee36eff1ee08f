"""Detectors: torchvision's Faster and Mask R-CNN with long-tail heads, their weights, and which of them are trained.

The names below are imported when they are first used, so that a recipe can look at the table without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lt_train.detectors.table import DETECTORS

if TYPE_CHECKING:
    from lt_train.detectors.build import build_detector
    from lt_train.detectors.detector import LongTailDetector
    from lt_train.detectors.freeze import set_trainable
    from lt_train.detectors.weights import LoadReport, initialise_from, load_weights

__all__ = [
    "DETECTORS",
    "LoadReport",
    "LongTailDetector",
    "build_detector",
    "initialise_from",
    "load_weights",
    "set_trainable",
]

_MODULES = {
    "LoadReport": "weights",
    "LongTailDetector": "detector",
    "build_detector": "build",
    "initialise_from": "weights",
    "load_weights": "weights",
    "set_trainable": "freeze",
}


def __getattr__(name: str) -> Any:
    """One of the names above, from the module that it is written in."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
