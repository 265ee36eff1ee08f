"""Detectors: torchvision's Faster and Mask R-CNN with long-tail heads, their weights, and which of them are trained."""

from __future__ import annotations

from lt_train.detectors.build import DETECTORS, build_detector
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
