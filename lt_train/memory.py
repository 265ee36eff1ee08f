"""Memory that runs out: one line that says what to lower; how much is free; a limit below that of the machine."""

from __future__ import annotations

import errno
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lt_data.errors import OutOfMemory
from lt_train.recipe.sections import Recipe

# what PyTorch says where its error has no type of its own
NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory|Cannot allocate memory", re.IGNORECASE)
SHOWN = 160
MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
# the most a container may have, and what it has: cgroup 2, then 1
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


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
        said = " ".join(str(error).split())[:SHOWN] or "no memory is left"
        raise OutOfMemory(f"{doing}: out of memory ({said}); {advice}") from None


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))


def training_advice(recipe: Recipe) -> str:
    """What to lower when a training step is too large."""
    batch, accumulate = recipe.optim.batch, recipe.optim.accumulate
    parts = [f"optim.batch (now {batch})" + _same_step(batch, accumulate)]
    parts += [f"model.max_size (now {recipe.model.max_size})"]
    parts += [f"data.workers (now {recipe.data.workers})"] if recipe.data.workers else []
    last = "" if recipe.compute.precision != "fp32" else "; on a GPU compute.precision=bf16 halves most of it"
    return f"lower {', '.join(parts[:-1])} or {parts[-1]}{last}"


def _same_step(batch: int, accumulate: int) -> str:
    if batch % 2:
        return ""
    return f": optim.batch={batch // 2} optim.accumulate={2 * accumulate} takes the same steps"


def inference_advice(recipe: Recipe) -> str:
    """What to lower when detecting needs too much."""
    parts = [f"eval.batch (now {recipe.eval.batch})"] if recipe.eval.batch > 1 else []
    parts += [f"data.workers (now {recipe.data.workers})"] if recipe.data.workers else []
    parts += [f"model.num_detections (now {recipe.model.num_detections})"]
    return f"lower {' or '.join(parts)}, or use a machine with more"


def available_memory() -> int | None:
    """Bytes that this process may still take: of the machine, and of its container; ``None`` where neither is known."""
    known = [free for free in (_free_of_machine(), *map(_free_of_container, CGROUPS)) if free is not None]
    return min(known, default=None)


def _free_of_machine() -> int | None:
    return _kibibytes(MEMINFO, "MemAvailable")


def _free_of_container(files: tuple[Path, Path]) -> int | None:
    try:
        most, used = (int(file.read_text()) for file in files)
    except (OSError, ValueError):
        # no such version of cgroups, or "max": no limit
        return None
    return max(0, most - used)


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
