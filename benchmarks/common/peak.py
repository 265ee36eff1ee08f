"""The most memory that a process takes while something is measured."""

from __future__ import annotations

import os
import threading
import time

import torch

from common.record import anonymous
from lt_train.data.worker_memory import return_free_memory


class Peak:
    """Watches anonymous memory of this process, or tensors on a GPU.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        # what was freed before would be taken again without being seen
        return_free_memory()
        self._start = self._most = self._now()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            threading.Thread(target=self._watch, daemon=True).start()

    def mib(self) -> float:
        """The most so far beyond what there was at the start."""
        most = torch.cuda.max_memory_allocated() if self._cuda else self._most
        return (most - self._start) / 2**20

    def _now(self) -> int:
        return torch.cuda.memory_allocated() if self._cuda else 1024 * anonymous(os.getpid())

    def _watch(self) -> None:
        while True:
            self._most = max(self._most, self._now())
            time.sleep(0.002)
