"""What benchmarks share: the machine's name, the memory of a process, and writing the table of figures."""

from __future__ import annotations

import csv
import functools
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from lt_data.machine import processor


def machine(device: str = "cpu") -> str:
    """The processor's name, or the card's with its driver.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    if device == "cuda":
        import torch

        return f"{torch.cuda.get_device_name()}, driver {driver()}"
    return processor()


@functools.cache
def driver() -> str:
    """The version of NVIDIA's driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        lines = []
    return lines[0].strip() if lines else "unknown"


def anonymous(pid: int) -> int:
    """Anonymous memory in KiB: without pages of mapped files, which the system can drop."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def read_rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """The rows of a table, none if there is no file.

    Raises:
        SystemExit: It has other columns.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        header, *rows = list(csv.reader(handle)) or [[]]
    if header != list(columns):
        raise SystemExit(f"{path} has other columns than this script writes; name another file by --out")
    return rows


def record(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes the figures as CSV, replacing older ones, and says so."""
    write_rows(path, columns, rows)
    sys.stdout.write(f"written: {path}\n")


class Table:
    """Figures that are on the disk as soon as they are known, replacing those of an earlier call.

    Args:
        path: The CSV file.
        columns: Their names, after date, machine and version of PyTorch.
        device: ``cpu`` or ``cuda``.
        shown: Whether rows are printed too.
        kept: Whole rows that come first.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        device: str,
        *,
        shown: bool = True,
        kept: Iterable[Sequence[object]] = (),
    ) -> None:
        import torch

        self.path, self.columns = path, ("date", "machine", "torch", *columns)
        self._start = (datetime.now(UTC).date(), machine(device), torch.__version__)
        self._shown = shown
        self._rows = [tuple(row) for row in kept]
        write_rows(path, self.columns, self._rows)

    def add(self, *values: object) -> None:
        """A row; ``None`` is an empty cell, and numbers have four digits."""
        cells = (f"{v:.4g}" if isinstance(v, float) else "" if v is None else v for v in values)
        self._rows.append((*self._start, *cells))
        write_rows(self.path, self.columns, self._rows)
        if self._shown:
            sys.stdout.write(f"{', '.join(map(str, self._rows[-1][3:]))}\n")
            sys.stdout.flush()


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes beside the file first, so that no table is ever half there."""
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    with beside.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    os.replace(beside, path)
