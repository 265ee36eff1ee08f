"""Where the host waits for a GPU, with the line that asks for it."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch

from common.operations import Operations, place_of
from lt_train.data import mask_runs
from lt_train.detectors import detector


def waits_of(call: Callable[[], Any], device: str) -> Counter[str]:
    """How often a call waits, by place (``package/file.py:line``); on a CPU, how often it would on a GPU."""
    return _waits_on_gpu(call) if device == "cuda" else _waits_told_on_cpu(call)


def by_package(places: Counter[str]) -> dict[str, int]:
    """The same for ``lt_train``, ``torchvision`` and ``other``."""
    found = dict.fromkeys(("lt_train", "torchvision", "other"), 0)
    for place, number in places.items():
        package = place.split("/")[0]
        found[package if package in found else "other"] += number
    return found


def _waits_on_gpu(call: Callable[[], Any]) -> Counter[str]:
    """What PyTorch itself warns of. A wait in the backward pass counts for the line that starts that pass."""
    places: Counter[str] = Counter()

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if "called a synchronizing" in str(message):
            places[place_of(sys._getframe(1))] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return places


def _waits_told_on_cpu(call: Callable[[], Any]) -> Counter[str]:
    """What ``Operations`` counts, without the branches that are taken on a CPU only."""
    with (
        mock.patch.object(mask_runs, "_on_host", return_value=False),
        # it looks at targets before they go to a GPU
        mock.patch.object(detector, "check_targets", return_value=None),
        Operations() as seen,
    ):
        call()
    return seen.places
