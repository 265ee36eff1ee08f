"""Recording a benchmark: what it was measured on, and the table of its figures."""

from __future__ import annotations

import csv
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


def machine() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def record(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes the figures as CSV, replacing older ones."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    sys.stdout.write(f"written: {path}\n")
