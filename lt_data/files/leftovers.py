"""What is written beside its place before it is renamed, and what stays there when a process is killed meanwhile.

A process holds a lock on what it writes. What nobody holds any more was left by one that was killed, and is removed by
the next that writes to the same place. Where there are no locks, nothing is removed: it might still be written.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from lt_data.files.locks import drop_lock, take_lock

_HIDDEN: Final = re.compile(r"\.(?:(?:old-)?[0-9a-f]{8}-(?P<random>.+)|(?P<fixed>.+)\.part)", re.DOTALL)
_OLD: Final = ".old-"


def beside(path: Path, *, old: bool = False) -> Path:
    """A hidden name in the same folder that nothing has, with the same ending.

    It is there before what it names, so that an interrupt at any moment finds what to remove.

    Args:
        path: What it stands for.
        old: For what was there before; it is kept until something whole has taken its place.
    """
    return path.with_name(f"{_OLD if old else '.'}{secrets.token_hex(4)}-{path.name}")


def part_of(path: Path) -> Path:
    """A hidden name that is always the same: for what one process alone writes, however often it is killed."""
    return path.with_name(f".{path.name}.part")


def belongs_to(name: str) -> str | None:
    """The name that a hidden file or folder of these was going to have; ``None`` for any other."""
    found = _HIDDEN.fullmatch(name)
    return None if found is None else found["random"] or found["fixed"]


@contextmanager
def claimed(work: Path) -> Iterator[None]:
    """Holds what is being written, a file or folder that is there, so that no other process takes it for a leftover."""
    try:
        lock = take_lock(work)
    # whoever writes there says what is wrong with it
    except OSError:
        lock = None
    try:
        yield
    finally:
        drop_lock(lock)


def remove_leftovers(path: Path, *, old: bool = False) -> None:
    """Removes what killed processes left beside a file or folder that they were writing.

    Args:
        path: The file or folder.
        old: Also what was there before and was not put back; only once ``path`` is whole.
    """
    with suppress(OSError):
        for entry in sorted(path.parent.iterdir()):
            hidden = _HIDDEN.fullmatch(entry.name)
            if hidden and hidden["random"] == path.name and (old or not entry.name.startswith(_OLD)):
                remove_abandoned(entry)


def remove_abandoned(entry: Path) -> None:
    """Removes a file or folder that no process holds; a link is left alone."""
    with suppress(OSError):
        lock = None if entry.is_symlink() else take_lock(entry)
        if lock is not None:
            try:
                remove_folder(entry) if entry.is_dir() else entry.unlink()
            finally:
                drop_lock(lock)


def remove_folder(folder: Path) -> None:
    """Removes a folder and all in it, also where folders were made read-only; a second interrupt does not stop it."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            _make_writable(folder)
            shutil.rmtree(folder, ignore_errors=True)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _make_writable(folder: Path) -> None:
    """Lets the owner change the folder and those in it."""
    with suppress(OSError):
        folder.chmod(0o700)
        # top down: a folder is opened before it is listed
        for root, inside, _ in os.walk(folder):
            for path in (Path(root) / name for name in inside):
                if not path.is_symlink():
                    path.chmod(0o700)
