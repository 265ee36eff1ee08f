"""Keeping the memory of loader processes small: they share what they were forked with until they write to it.

This is about Linux with glibc; elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache
from typing import Any

# samples between two returns of free memory
TRIM_EVERY = 64
# glibc's name for the size in bytes from which a block is mapped for itself, which it otherwise raises as it likes
_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK = 2**18


def settle_worker(worker: int) -> None:
    """Keeps a new process from writing to what it shares, and lets it return the memory of every image at once.

    Args:
        worker: Its number; any.
    """
    # the collector writes into every object that it looks at
    gc.freeze()
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def return_free_memory() -> None:
    """Returns pages that hold nothing any more: small blocks are taken from all over the heap that was shared."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """The C library, or ``None`` where it is another one."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
