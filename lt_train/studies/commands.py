"""Commands of lt-train and lt-data as processes that can be asked to end, several beside each other.

Where several run at once, each has its share of the cores, and of the GPUs as long as there are enough of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from lt_data.errors import RecipeError
from lt_train.launch import usable_cores

COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    name: (sys.executable, "-m", f"lt_cli.{name.removeprefix('lt-')}") for name in ("lt-data", "lt-train")
}
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
THREADS: Final = "OMP_NUM_THREADS"


class Running(Protocol):
    """A command that was started."""

    @property
    def processor_seconds(self) -> float:
        """Of its processes, as soon as it has ended."""

    def poll(self) -> int | None:
        """Its exit code; nothing as long as it runs."""

    def end(self) -> None:
        """Asks it to save and to end."""

    def kill(self) -> None:
        """Ends it and whatever it started at once."""


# starts the words of a command with a file for what it prints, as one of those that run beside each other: 0, 1, ...
Start = Callable[[Sequence[str], Path, int], Running]


class Command:
    """A command that runs as a process of its own.

    Args:
        words: ``lt-data`` or ``lt-train`` first.
        log: Gets what it prints, instead of what an earlier call printed.
        place: Its number among those that run beside each other.
        commands: What the first word stands for.
        processes: Among how many a command of lt-train shares its work; one unless given.
        environments: Of the process in each place, beside this one's environment.
    """

    def __init__(
        self,
        words: Sequence[str],
        log: Path,
        place: int = 0,
        *,
        commands: Mapping[str, Sequence[str]] = COMMANDS,
        processes: int | None = None,
        environments: Sequence[Mapping[str, str]] = (),
    ) -> None:
        shared = ("--processes", str(processes)) if processes and words[0] == "lt-train" else ()
        own = environments[place] if environments else {}
        with log.open("wb") as printed:
            self._process = subprocess.Popen(
                [*commands[words[0]], *words[1:], *shared],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                env={**os.environ, **own},
                # it is told of an end once, by this process
                start_new_session=True,
            )
        self.processor_seconds = 0.0

    def poll(self) -> int | None:
        """See :class:`Running`."""
        return self._look(os.WNOHANG)

    def end(self) -> None:
        """See :class:`Running`."""
        if self.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """See :class:`Running`."""
        if self.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._look(0)

    def _look(self, options: int) -> int | None:
        """Asks the system itself, which says for each process what it and its children used."""
        if self._process.returncode is None:
            ended, status, used = os.wait4(self._process.pid, options)
            if ended:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self.processor_seconds = used.ru_utime + used.ru_stime
        return self._process.returncode


def shares(jobs: int, processes: int | None = None, *, gpus: int | None = None) -> list[dict[str, str]]:
    """What the environment of each of several commands says that run beside each other.

    Args:
        jobs: How many run at once; one has the whole machine.
        processes: Of each command, one a GPU.
        gpus: Of this machine; counted unless given.

    Raises:
        RecipeError: There are too few GPUs for so many commands of several processes.
    """
    if jobs == 1:
        return [{}]
    visible, each = _gpus(gpus), processes or 1
    # of each process: lt-train --processes leaves a number alone that is there
    threads = {} if THREADS in os.environ else {THREADS: str(max(1, usable_cores() // (jobs * each)))}
    if not visible:
        return [dict(threads) for _ in range(jobs)]
    if each > 1 and jobs * each > len(visible):
        raise RecipeError(
            f"--jobs {jobs} --processes {each}: needs {jobs * each} GPUs, {len(visible)} are here; lower one of them"
        )
    # where there are too few, several commands use one
    own = [[visible[(place * each + i) % len(visible)] for i in range(each)] for place in range(jobs)]
    return [{**threads, VISIBLE: ",".join(devices)} for devices in own]


def _gpus(number: int | None) -> list[str]:
    """Names of the GPUs that this process may use."""
    if VISIBLE in os.environ:
        names = [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
        # no GPU is visible from there on
        return names[: names.index("-1")] if "-1" in names else names
    if number is None:
        # imported here: it loads torch
        import torch

        number = torch.cuda.device_count()
    return [str(i) for i in range(number)]
