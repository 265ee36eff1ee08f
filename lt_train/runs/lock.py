"""One process at a time writes a run."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from lt_data.errors import OutputError
from lt_data.files.locks import drop_lock, take_lock

LOCK = ".lock"


@contextmanager
def writing_run(run: Path) -> Iterator[tuple[str, ...]]:
    """Keeps other processes from writing the same run; its directory is made, and removed again if it stays empty.

    The lock is the operating system's and ends with the process, however it ends. The file that it is on names its
    holder; a killed process leaves the file behind, which holds nobody up.

    Args:
        run: The run directory.

    Yields:
        A note for people where the file system has no locks.

    Raises:
        OutputError: Another process writes the run, or the directory cannot be made.
    """
    path, made = run / LOCK, _make_folders(run)
    try:
        lock = _take(path)
        try:
            _write_holder(path)
            yield () if lock is not None else (f"note: {run}: there are no file locks here; start no second run in it",)
        finally:
            # before the lock is given back: the file may be the next one's by then
            with suppress(OSError):
                path.unlink()
            drop_lock(lock)
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def refuse_written(run: Path) -> None:
    """Refuses a run that another process writes; looks only, and changes nothing.

    Raises:
        OutputError: It is being written.
    """
    path = run / LOCK
    if path.is_file():
        drop_lock(_take(path))


def _make_folders(run: Path) -> list[Path]:
    """Makes the directory and those above it; which were made, the innermost first."""
    missing = [folder for folder in (run, *run.absolute().parents) if not folder.exists()]
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{run}: cannot be written ({error.strerror}); choose another --out") from None
    return missing


def _take(path: Path) -> int | None:
    """Locks the file that has this name when it is locked: one that its holder removed meanwhile locks nobody out."""
    while True:
        try:
            lock = take_lock(path, os.O_RDWR | os.O_CREAT)
        except BlockingIOError:
            raise OutputError(
                f"{path.parent}: is being written by {_holder(path)}; wait until it ends, or choose another --out"
            ) from None
        except OSError as error:
            raise OutputError(
                f"{path.parent}: cannot be written ({error.strerror or error}); make room, or choose another --out"
            ) from None
        if lock is None or _is_still(path, lock):
            return lock
        drop_lock(lock)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Who holds the lock, by its file; the holder may be about to write it."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except (OSError, ValueError):
        return "another process"


def _write_holder(path: Path) -> None:
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    # a full disk is said by the first file that matters
    with suppress(OSError):
        path.write_text(f"process {os.getpid()} on {platform.node()} since {now}\n", encoding="utf-8")
