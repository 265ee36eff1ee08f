"""How the processes start that load images, and why a signal to the whole group does not end them first."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch.utils.data import DataLoader, Dataset

from lt_train.data.worker_memory import settle_worker
from lt_train.launch import usable_cores

_SIGNALS: Final = frozenset(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def many_workers_note(workers: int) -> tuple[str, ...]:
    """A warning if there are more loader processes than cores that this process, and others like it here, may use.

    Args:
        workers: Loader processes of a run, in each of its processes.
    """
    # set by torchrun; tasks of SLURM have cores of their own
    processes, cores = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), usable_cores()
    if workers * processes <= cores:
        return ()
    each = f" in each of {processes} processes" if processes > 1 else ""
    return (
        f"warning: data.workers={workers}{each} is more than the cores that may be used ({cores}): loader processes "
        "then wait for each other, and each takes memory",
    )


def loaded(dataset: Dataset[Any], **options: Any) -> Generator[Any, None, None]:
    """The batches of a loader, whose processes end with it: at the last batch, with an error, or when it is closed.

    Whoever may leave early closes it (``contextlib.closing``). Left to the cycle collector, as what an error holds
    often is, a loader has lost the queues by which it tells its processes that it is over, and the program would wait
    for them at its end, for ever.

    A signal that comes while they start waits until they run: a process that is not settled yet would die of it, and
    its parent, which is about to end in its own way, would take that for a mishap.

    Args:
        dataset: What is loaded.
        options: Of PyTorch's ``DataLoader``.
    """
    with _signals_waiting(), warnings.catch_warnings():
        # of more processes than cores; said once, by many_workers_note
        warnings.filterwarnings("ignore", "This DataLoader will create")
        batches = iter(DataLoader(dataset, worker_init_fn=start_worker, **options))
    try:
        yield from batches
    finally:
        # PyTorch has no public way. An error that came from a process holds the loader in its traceback, so that
        # letting go of it here would not end them
        end = getattr(batches, "_shutdown_workers", None)
        if end is not None:
            end()


@contextmanager
def _signals_waiting() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
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
