"""Several processes for one piece of work: each takes a share, process 0 collects, writes and speaks.

Started by ``lt-train ... --processes N``, by ``torchrun --no-python --nproc-per-node N lt-train eval RUN``, by
``srun``, or by any launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; see :mod:`lt_train.launch`.
Results in ordinary memory are carried by gloo whatever device the models run on, gradients on GPUs by NCCL.

A process that fails says so in the store that all of them see; the others stop at their next look at it and end in
silence. A process that is killed closes its connections, which wakes those that wait for it: nobody waits for ever. An
interrupt of one process is one of all.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist

from lt_data.errors import DataError, LtError, RecipeError
from lt_train.launch import adopt_slurm, new_round

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

T = TypeVar("T")

# until all processes have found each other
START_TIMEOUT = timedelta(minutes=10)
# a process that is done waits for the slowest one; one that is gone is noticed at once
WORK_TIMEOUT = timedelta(days=7)
# seconds that process 0 keeps the store for others that have yet to see why they stop
FAREWELL = 30.0
# characters of why a process failed that the others get for the log
MOST_TOLD = 500
# seconds between two looks at the store
POLL = 0.05
_FAILED, _INTERRUPTED, _LEFT = "lt/failed", "lt/interrupted", "lt/left"
# of a process: how often it has gathered; of a gathering: whose turn it is
_GATHERED, _TURN = "lt/gathered/{rank}", "lt/turn/{number}"


class StoppedElsewhere(LtError):
    """Another process failed and says why; this one ends in silence.

    It ends as a failure all the same: torchrun starts a run again where every machine sees that it failed.

    Args:
        why: What the other one says, for the log.
    """

    def __init__(self, why: str = "") -> None:
        super().__init__([])
        self.why = why

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True)
class Processes:
    """This process among those that share the work; made by :func:`run_together`.

    Attributes:
        rank: 0 .. world - 1; process 0 collects, writes and speaks.
        world: Number of processes.
        local_rank: Number of this process on its machine.
        store: Small values that all processes see; ``None`` if there is one process.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    store: Store | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every ``world``-th item from ``rank`` on: each item is one process's, none is repeated to fill up."""
        return items[self.rank :: self.world]

    def check(self) -> None:
        """Looks whether the work goes on.

        Raises:
            StoppedElsewhere: Another process failed.
            KeyboardInterrupt: Another process was interrupted.
            DataError: Process 0 is gone.
        """
        if self.store is None:
            return
        try:
            failed, interrupted = self.store.check([_FAILED]), self.store.check([_INTERRUPTED])
        except RuntimeError:
            raise DataError(f"process 0 of {self.world} ended early; its own output says why") from None
        if failed:
            raise StoppedElsewhere(self.store.get(_FAILED).decode(errors="replace"))
        if interrupted:
            raise KeyboardInterrupt

    def agree(self, own: bool) -> bool:
        """Whether it is so in any process; all of them come here, and wait for each other.

        Args:
            own: Whether it is so in this one.
        """
        if self.world == 1:
            return own
        answer = torch.tensor(int(own), dtype=torch.uint8)
        dist.all_reduce(answer, dist.ReduceOp.MAX)
        return bool(answer)

    def wait(self) -> None:
        """Waits until all processes are here."""
        self.agree(False)

    def compare(self, seen: Mapping[str, str]) -> None:
        """Makes sure that all processes see the same; all of them come here.

        Args:
            seen: What this process sees of each thing, under its name; the names are the same everywhere.

        Raises:
            DataError: It is not what process 0 sees.
            StoppedElsewhere: Another process sees something else.
        """
        if self.world == 1:
            return
        digests = [hashlib.sha256(text.encode()).digest()[:8] for text in seen.values()]
        own = torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests])
        told = own.clone()
        dist.broadcast(told, src=0)
        other = [name for name, same in zip(seen, (own == told).tolist(), strict=True) if not same]
        if not self.agree(bool(other)):
            return
        if not other:
            raise StoppedElsewhere("another process sees other things than process 0")
        raise DataError(
            f"process {self.rank} of {self.world} sees other things than process 0: {', '.join(other)}; all processes "
            "need the same versions, files and run directory, as on a shared file system"
        )

    def tell(self, number: int) -> int:
        """The number that process 0 gives; all processes come here, and wait for each other."""
        told = torch.tensor(number)
        if self.world > 1:
            dist.broadcast(told, src=0)
        return int(told)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Around work in which processes wait for each other: says what it means that one of them is gone.

        Raises:
            StoppedElsewhere: It failed, and says why.
            KeyboardInterrupt: It was interrupted.
            DataError: It was killed.
        """
        try:
            yield
        except RuntimeError as error:
            if self.store is None or not _is_of_connection(error):
                raise
            self.check()
            raise DataError(
                f"another of the {self.world} processes ended in the middle of the work (killed, perhaps for want of "
                "memory); a run goes on with --resume from its last checkpoint"
            ) from None

    def gather(self, content: bytes) -> list[bytes] | None:
        """What every process gives, in the order of their ranks, at process 0; ``None`` at the others.

        Args:
            content: What this process gives, at least one byte.

        Raises:
            StoppedElsewhere: Another process failed.
            DataError: A process is gone.
        """
        if self.store is None:
            return [content]
        turn = _TURN.format(number=self._own_number())
        if not self.is_first:
            self._await_turn(turn, self.rank)
            with self._contact(0):
                dist.send(torch.tensor([len(content)]), dst=0)
                dist.send(torch.frombuffer(bytearray(content), dtype=torch.uint8), dst=0)
            # leaving earlier could lose what is still on its way
            self._await_turn(turn, self.rank + 1)
            return None
        parts = [content]
        for rank in range(1, self.world):
            self.store.set(turn, str(rank))
            with self._contact(rank):
                size = torch.zeros(1, dtype=torch.int64)
                dist.recv(size, src=rank)
                part = torch.empty(int(size), dtype=torch.uint8)
                dist.recv(part, src=rank)
            parts.append(part.numpy().tobytes())
        self.store.set(turn, str(self.world))
        return parts

    def _own_number(self) -> int:
        """How often this process has gathered, this time included: the turns of each gathering are its own."""
        assert self.store is not None
        with self._contact(0):
            return self.store.add(_GATHERED.format(rank=self.rank), 1)

    def _await_turn(self, turn: str, least: int) -> None:
        """Waits until process 0 has come to ``least`` in the gathering of this ``turn``."""
        assert self.store is not None
        while True:
            self.check()
            with self._contact(0):
                if self.store.check([turn]) and int(self.store.get(turn)) >= least:
                    return
            time.sleep(POLL)

    @contextlib.contextmanager
    def _contact(self, rank: int) -> Iterator[None]:
        """Says what a broken connection means."""
        try:
            yield
        except RuntimeError:
            self.check()
            raise DataError(
                f"process {rank} of {self.world} ended before all results were collected (killed, perhaps for want of "
                "memory); start again, with fewer processes if memory is short"
            ) from None


def run_together(work: Callable[[Processes], T]) -> T | None:
    """Runs ``work`` in every process that the launcher started.

    Args:
        work: Gets this process's place among the others; ends with what it gathers, or looks at nothing shared later.

    Returns:
        What ``work`` returned, at process 0 (or the only one); ``None`` at the others.

    Raises:
        RecipeError: The environment names processes that cannot be found.
        KeyboardInterrupt: What ``work`` raised, in all processes.
        StoppedElsewhere: Another process failed first.
        Exception: What ``work`` raised, in the process that failed first.
    """
    adopt_slurm()
    if _number("WORLD_SIZE", 1) == 1:
        return work(Processes())
    processes = _join()
    try:
        with processes.together():
            value = work(processes)
    except BaseException as error:
        # launchers signal the rest when one is gone, which must not change how they end and what they say
        _ignore_signals()
        stopped = _tell_others(processes, error)
        _let_go(error)
        _leave(processes)
        if stopped is not None:
            raise stopped from None
        raise
    _leave(processes)
    return value if processes.is_first else None


def process_device(name: str, processes: Processes) -> str:
    """The device of this process: each has a GPU of its own where the recipe leaves the choice.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        processes: This process among the others.

    Raises:
        RecipeError: There are more processes on this machine than GPUs.
    """
    if processes.world == 1 or name not in ("auto", "cuda") or not torch.cuda.is_available():
        return name
    count = torch.cuda.device_count()
    if processes.local_rank >= count:
        raise RecipeError(
            f"device: {name} gives every process a GPU of its own, here are {count}; start at most {count} processes, "
            "or name the device (--device cuda:0, --device cpu)"
        )
    # what names no device, such as memory for copies, would go to the first one
    torch.cuda.set_device(processes.local_rank)
    return f"cuda:{processes.local_rank}"


def _number(name: str, default: int | None = None) -> int:
    """An environment variable of the launcher."""
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise RecipeError(
            f"{name}: {'not set' if text is None else repr(text)}; several processes need RANK, WORLD_SIZE, "
            "MASTER_ADDR and MASTER_PORT, which torchrun sets"
        )
    return int(text)


def _join() -> Processes:
    """Finds the other processes and connects with each."""
    # not in every build of torch
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    world, rank = _number("WORLD_SIZE"), _number("RANK")
    try:
        store, rank, world = next(iter(rendezvous("env://", timeout=START_TIMEOUT)))
        number = new_round(store, rank, world, patience=START_TIMEOUT.total_seconds())
        store = PrefixStore(f"lt/round-{number}", store)
        dist.init_process_group(_backend(), store=store, rank=rank, world_size=world, timeout=WORK_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"process {rank} of {world} cannot find the others ({reason}); start all of them with torchrun"
        ) from None
    return Processes(rank, world, _number("LOCAL_RANK", rank), store)


def _backend() -> str:
    """What carries tensors: gloo those in ordinary memory, NCCL those on GPUs."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"


def _is_of_connection(error: RuntimeError) -> bool:
    """Whether an error comes from the exchange with other processes."""
    return isinstance(error, dist.DistError) or "gloo/" in str(error) or "ProcessGroup" in str(error)


def _tell_others(processes: Processes, error: BaseException) -> StoppedElsewhere | None:
    """Tells the others to stop, and why.

    Returns:
        What this process is to raise instead if another one said so before.
    """
    assert processes.store is not None
    try:
        if isinstance(error, KeyboardInterrupt):
            # all processes end so, each with what it means for the work
            processes.store.set(_INTERRUPTED, "1")
            return None
        if isinstance(error, StoppedElsewhere):
            return error
        own = f"process {processes.rank}: {error}"[:MOST_TOLD]
        first = processes.store.compare_set(_FAILED, "", own).decode(errors="replace")
        return None if first == own else StoppedElsewhere(first)
    # process 0 is gone and the store with it
    except RuntimeError:
        return None


def _ignore_signals() -> None:
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)


def _let_go(error: BaseException) -> None:
    """Frees what the frames of an error hold: while a model holds connections they stay open, and others wait there."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    gc.collect()


def _leave(processes: Processes) -> None:
    """Process 0 leaves last: the store is its own, unless torchrun keeps it."""
    assert processes.store is not None
    dist.destroy_process_group()
    with contextlib.suppress(RuntimeError):
        if not processes.is_first:
            processes.store.add(_LEFT, 1)
        elif os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
            end = time.monotonic() + FAREWELL
            while processes.store.add(_LEFT, 0) < processes.world - 1 and time.monotonic() < end:
                time.sleep(POLL)
