"""Locks of the operating system: they end with the process that holds them, however it ends."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

_flock: ModuleType | None
try:
    import fcntl as _flock
except ImportError:  # not on every operating system
    _flock = None

_held: set[int] = set()


def take_lock(path: Path, flags: int = os.O_RDONLY) -> int | None:
    """Locks a file or folder for this process alone; processes that it forks do not hold the lock.

    Args:
        path: What to lock.
        flags: Of ``os.open``; some network file systems lock only what is open for writing.

    Returns:
        What :func:`drop_lock` needs; ``None`` where the operating system or the file system has no such locks.

    Raises:
        BlockingIOError: Another process, or another call in this one, holds the lock.
        OSError: The path cannot be opened.
    """
    if _flock is None:
        return None
    descriptor = os.open(path, flags, 0o666)
    try:
        _flock.flock(descriptor, _flock.LOCK_EX | _flock.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    _held.add(descriptor)
    return descriptor


def drop_lock(descriptor: int | None) -> None:
    """Gives a lock back; nothing happens where there was none to take."""
    if _flock is not None and descriptor is not None and descriptor in _held:
        _held.discard(descriptor)
        _flock.flock(descriptor, _flock.LOCK_UN)
        os.close(descriptor)


def _leave_to_parent() -> None:
    """In a forked process: the lock would outlive the parent as long as the child has it open."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
