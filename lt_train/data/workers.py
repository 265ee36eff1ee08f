"""How the processes start that load images, and why a signal to the whole group does not end them first."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from lt_train.data.worker_memory import settle_worker

T = TypeVar("T")

_SIGNALS: Final = frozenset(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def started(loader: Iterable[T]) -> Iterator[T]:
    """The batches of a loader whose processes run.

    A signal that comes meanwhile waits until they do: a process that is not settled yet would die of it, and its
    parent, which is about to end in its own way, would take that for a mishap.

    Args:
        loader: Of PyTorch, with :func:`start_worker` as what its processes begin with.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return iter(loader)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(worker: int) -> None:
    """Settles a process that outlives the first signal to its whole group, which is its parent's to answer.

    A step of training under way needs its images.

    Args:
        worker: Its number; any.
    """
    settle_worker(worker)
    ignore_interrupts()
    # a parent that ends sends it again to those that have not left by themselves
    signal.signal(signal.SIGTERM, lambda number, _: signal.signal(number, signal.SIG_DFL))
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def ignore_interrupts() -> None:
    """Leaves Ctrl-C and the end of the terminal to the parent, which ends this process."""
    for number in _SIGNALS - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
