"""Starting several processes on this machine, and finding the others where SLURM started them.

Free of torch until processes are started: commands ask here before they load anything.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lt_data.errors import RecipeError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

# file in which process 0 leaves its exit code for the process that started it
ENDED: Final = "LT_TRAIN_ENDED"
# number of that process
STARTER: Final = "LT_TRAIN_STARTER"
# of the system call prctl: the signal that a process gets when its parent is gone
_PR_SET_PDEATHSIG: Final = 1
FAILED: Final = 1
# seconds between two looks at what others wrote
_POLL: Final = 0.02
_FIRST_PORT, _PORTS = 15_000, 20_000


def start_processes(number: int, arguments: Sequence[str]) -> int:
    """Runs ``lt-train`` in several processes on this machine and waits for them, as ``torchrun --standalone`` does.

    Args:
        number: How many.
        arguments: Of each ``lt-train``.

    Returns:
        The exit code of process 0, or 1 where another one failed.

    Raises:
        RecipeError: This process is itself one of several.
    """
    if several_started():
        raise RecipeError("--processes: this process was started by torchrun or srun as one of several; leave it out")
    # imported here: it loads torch
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # the processes speak for themselves
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    # each would take all cores otherwise
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // number)))
    with tempfile.TemporaryDirectory() as folder:
        ended = Path(folder, "ended")
        os.environ.update({ENDED: str(ended), STARTER: str(os.getpid())})
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=number,
            run_id=uuid.uuid4().hex,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            monitor_interval=0.1,
        )
        try:
            elastic_launch(config, sys.executable)("-P", "-m", "lt_cli.train", *arguments)
            return 0
        except (ChildFailedError, SignalException):
            return _left_code(ended)
        finally:
            del os.environ[ENDED], os.environ[STARTER]


def _left_code(ended: Path) -> int:
    """What process 0 left; 1 if it was killed."""
    text = ended.read_text() if ended.is_file() else ""
    # another one may have failed while process 0 ended well
    return int(text) or FAILED if text else FAILED


def started_here() -> bool:
    """Whether :func:`start_processes` started this process."""
    return ENDED in os.environ and "WORLD_SIZE" in os.environ


def end_with_starter() -> None:
    """Has the system send SIGTERM when the process that :func:`start_processes` runs in is gone, however it went.

    A second Ctrl-C or ``kill -9`` leaves that one no time to end the others. Only Linux tells a process that its parent
    ended.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    try:
        os.kill(int(os.environ[STARTER]), 0)
    except ProcessLookupError:
        # it went before the system knew
        os.kill(os.getpid(), signal.SIGTERM)
    except PermissionError:
        # it is there, and another user's
        return


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leave_code(code: int) -> None:
    """Leaves an exit code for the process that started this one, if one asked for it."""
    path = os.environ.get(ENDED)
    if path and os.environ.get("RANK", "0") == "0":
        # the folder goes with a starter that does not wait
        with contextlib.suppress(FileNotFoundError):
            Path(path).write_text(str(code))


def several_started() -> bool:
    """Whether a launcher started this process as one of several."""
    adopt_slurm()
    return os.environ.get("WORLD_SIZE", "1") != "1"


def speaks() -> bool:
    """Whether this is the process that speaks: the only one, or process 0 of several."""
    return not several_started() or os.environ.get("RANK") == "0"


def refuse_several(what: str) -> None:
    """Stops what several processes would only do over each other.

    Args:
        what: Its name.

    Raises:
        RecipeError: A launcher started more than one.
    """
    if several_started():
        raise RecipeError(f"WORLD_SIZE is {os.environ['WORLD_SIZE']}: {what} runs in one process; start it alone")


def adopt_slurm() -> None:
    """Takes rank and number of processes from SLURM where ``srun`` started several and nothing else says.

    In the script of ``sbatch`` itself SLURM names the tasks of the whole job: only a step of ``srun`` has several.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if "WORLD_SIZE" in os.environ or not tasks.isdecimal() or int(tasks) < 2:
        return
    job = re.sub(r"\D", "", os.environ.get("SLURM_JOB_ID", "0")) or "0"
    found = {
        "WORLD_SIZE": tasks,
        "RANK": os.environ.get("SLURM_PROCID", ""),
        "LOCAL_RANK": os.environ.get("SLURM_LOCALID", ""),
        "MASTER_ADDR": first_host(os.environ.get("SLURM_STEP_NODELIST", "")),
        "MASTER_PORT": str(_FIRST_PORT + int(job) % _PORTS),
    }
    for name, value in found.items():
        os.environ.setdefault(name, value)


def first_host(nodes: str) -> str:
    """The first machine of a SLURM list: ``gpu[07-09,12],cpu1`` is ``gpu07``.

    Raises:
        RecipeError: It is no such list.
    """
    match = re.match(r"^([\w.-]+)(?:\[(\w+)[^\]]*\])?([\w.-]*)", nodes)
    if match is None:
        raise RecipeError(
            f"SLURM_STEP_NODELIST: got {nodes!r}, which names no machine; set MASTER_ADDR to that of the first process"
        )
    return "".join(part or "" for part in match.groups())


def new_round(store: Store, rank: int, world: int, *, patience: float) -> int:
    """A number that the processes that are here now have in common, and none before them had.

    torchrun keeps one store for all its restarts: what processes wrote that are gone would be taken for what those of
    today write. So each process leaves a word that no other ever wrote, and process 0 answers every word that it sees
    with the number of the round until all of them are in.

    Args:
        store: Seen by all.
        rank: Of this process.
        world: How many there are.
        patience: Seconds to wait for the others.

    Raises:
        RuntimeError: They do not come.
    """
    end = time.monotonic() + patience
    if rank == 0:
        number = store.add("lt/rounds", 1)
        others = [f"lt/word/{other}" for other in range(1, world)]
        while store.add(f"lt/in/{number}", 0) < world - 1:
            for key in others:
                if store.check([key]):
                    store.set(f"lt/answer/{store.get(key).decode()}", str(number))
            _wait_until(end)
        return number
    word = f"{socket.gethostname()}-{os.getpid()}-{rank}-{time.time_ns()}"
    store.set(f"lt/word/{rank}", word)
    while not store.check([f"lt/answer/{word}"]):
        _wait_until(end)
    number = int(store.get(f"lt/answer/{word}"))
    store.add(f"lt/in/{number}", 1)
    return number


def _wait_until(end: float) -> None:
    if time.monotonic() > end:
        raise RuntimeError("not all processes came")
    time.sleep(_POLL)
