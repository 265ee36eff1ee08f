"""Memory that runs out: one line that says what to lower; how much is free; a limit below that of the machine."""

from __future__ import annotations

import errno
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

from lt_data.errors import OutOfMemory
from lt_train.recipe.sections import Recipe

# what PyTorch says where its error has no type of its own
NO_MEMORY = re.compile(
    "|".join(
        ("can(?:'|no)t allocate memory", "not enough memory", "out of memory", "could not create a (primitive|memory)")
    ),
    re.IGNORECASE,
)
# where in PyTorch's source an error was raised
ENFORCED = re.compile(r"^\[enforce fail at [^\]]*\]\s*\S*\s*")
SHOWN = 120
# what a training imports, and room for the smallest one
TRIAL = f"import tensorboard, torchvision, lt_train.engine.fit; bytearray({2**28})"
MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


@contextmanager
def named_memory(doing: str, advice: str) -> Iterator[None]:
    """Around work that may need more memory than there is.

    Args:
        doing: What is done.
        advice: What to lower.

    Raises:
        OutOfMemory: The memory of the machine, or of its GPU, ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemory(f"{doing}: out of memory ({_said(error)}); {advice}") from None


def _said(error: Exception) -> str:
    words = ENFORCED.sub("", " ".join(str(error).split()))
    return shorten(words, SHOWN, placeholder=" ...") or "no memory is left"


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))


def check_torch_starts() -> None:
    """Refuses a process that may not take what PyTorch needs to be loaded.

    Without room for its libraries PyTorch ends the process by a signal, and no line says why. So where memory is
    limited (``ulimit -v`` or ``-d``) it is loaded by another process first.

    Raises:
        OutOfMemory: It cannot be loaded within the limit.
    """
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    known = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    if not known:
        return
    # -P: as in the command itself, no file of the working directory is a module
    trial = subprocess.run([sys.executable, "-P", "-c", TRIAL], capture_output=True, text=True, check=False)
    if trial.returncode:
        said = [line for line in trial.stderr.splitlines() if line.strip()][-1:] or [f"code {trial.returncode}"]
        raise OutOfMemory(
            f"PyTorch cannot be loaded in the {min(known) / 2**30:.1f} GiB that ulimit leaves this process "
            f"({shorten(said[0], SHOWN, placeholder=' ...')}); raise the limit, or use a machine with more memory"
        )


def training_advice(recipe: Recipe) -> str:
    """What to lower when a training step is too large."""
    batch, accumulate = recipe.optim.batch, recipe.optim.accumulate
    parts = [f"optim.batch (now {batch or 'auto'})" + _same_step(batch, accumulate)]
    parts += [f"model.max_size (now {recipe.model.max_size})"]
    parts += [f"data.workers (now {recipe.data.workers})"] if recipe.data.workers else []
    last = "" if recipe.compute.precision != "fp32" else "; on a GPU compute.precision=bf16 halves most of it"
    return f"lower {', '.join(parts[:-1])} or {parts[-1]}{last}"


def _same_step(batch: int, accumulate: int) -> str:
    if not batch or batch % 2:
        return ""
    return f" (optim.batch={batch // 2} optim.accumulate={2 * accumulate} takes the same steps)"


def inference_advice(recipe: Recipe) -> str:
    """What to lower when detecting needs too much."""
    parts = [f"eval.batch (now {recipe.eval.batch})"] if recipe.eval.batch > 1 else []
    parts += [f"data.workers (now {recipe.data.workers})"] if recipe.data.workers else []
    parts += [f"model.num_detections (now {recipe.model.num_detections})"]
    return f"lower {' or '.join(parts)}, or use a machine with more"


def available_memory() -> int | None:
    """Bytes that this process may still take: of the machine, and of its container; ``None`` where neither is known."""
    known = [_kibibytes(MEMINFO, "MemAvailable"), *map(_free_of_container, _containers())]
    return min((free for free in known if free is not None), default=None)


def machine_memory() -> int | None:
    """Bytes that the machine has, or its container may have; ``None`` where neither is known."""
    known = [_kibibytes(MEMINFO, "MemTotal"), *(_limit_of(group.most) for group in _containers())]
    return min((size for size in known if size is not None), default=None)


def _limit_of(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        # no such version, or "max": no limit
        return None


class _Container(NamedTuple):
    """Files that say what a control group may have, what it has, and the line with what of that are files it read."""

    most: Path
    used: Path
    stat: Path
    cache: str


def _containers() -> list[_Container]:
    """The control groups that this process is in: of version 2 with those around them, of version 1 the one it sees."""
    try:
        own = re.search(r"^0::/(.*)$", OWN_CGROUP.read_text(), re.MULTILINE)
    except OSError:
        own = None
    inner = CGROUPS / own[1] if own else CGROUPS
    folders = [inner, *(folder for folder in inner.parents if folder.is_relative_to(CGROUPS))]
    found = [_Container(f / "memory.max", f / "memory.current", f / "memory.stat", "inactive_file") for f in folders]
    old = CGROUPS / "memory"
    limit, usage = old / "memory.limit_in_bytes", old / "memory.usage_in_bytes"
    return [*found, _Container(limit, usage, old / "memory.stat", "total_inactive_file")]


def _free_of_container(group: _Container) -> int | None:
    try:
        most, used = (int(file.read_text()) for file in (group.most, group.used))
        cache = re.search(rf"^{group.cache} (\d+)$", group.stat.read_text(), re.MULTILINE)
    except (OSError, ValueError):
        # no such version, or "max": no limit
        return None
    # the system gives up what it keeps of files that were read when somebody needs the memory
    return max(0, most - used + (int(cache[1]) if cache else 0))


def _kibibytes(path: Path, field: str) -> int | None:
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


@contextmanager
def limited_memory(more: int | None) -> Iterator[None]:
    """Lets this process take so many bytes more and no others: it gets an error where the system would kill it.

    Args:
        more: Bytes; ``None``, or a system that does not say what a process has, sets no limit.
    """
    used = _kibibytes(STATUS, "VmData")
    if more is None or used is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in (soft, hard, used + more) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
