"""What benchmarks share: the machine's name, the memory of a process, and writing the table of figures."""

from __future__ import annotations

import csv
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


def machine() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def anonymous(pid: int) -> int:
    """Anonymous memory in KiB: without pages of mapped files, which the system can drop."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def record(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes the figures as CSV, replacing older ones; beside them first, so that no table is ever half there."""
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    with beside.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    os.replace(beside, path)
    sys.stdout.write(f"written: {path}\n")
