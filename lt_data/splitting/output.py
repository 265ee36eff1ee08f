"""The folder of a split: its names, and when it may be replaced."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from lt_data.annotations.records import UNREADABLE
from lt_data.errors import OutputError
from lt_data.files.writing import sha256_of

SPLIT: Final = "split.json"
TRAIN: Final = "train.json"
VAL: Final = "val.json"
_MOST_SHOWN: Final = 3


class _Digests(msgspec.Struct):
    files: dict[str, str]


def fold_name(number: int) -> str:
    """The folder of a fold, from 0."""
    return f"fold_{number}"


def check_split_output(out: Path, *, force: bool) -> None:
    """Refuses an output folder that would be overwritten.

    Args:
        out: The folder to write.
        force: Whether the user asked to replace what is there; only what a split wrote, and nobody changed, is ever
            replaced.

    Raises:
        OutputError: Something is there that must not be lost, or the folder cannot be written.
    """
    if out.is_symlink():
        raise OutputError(f"{out}: is a link; give the folder itself as --out")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; choose another --out")
    try:
        _check_content(out, _files_below(out) if out.is_dir() else [], force=force)
    except OSError as error:
        raise OutputError(f"{error.filename or out}: cannot be read ({error.strerror}); choose another --out") from None
    parent = next(path for path in out.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f"{out}: cannot be written into {parent}; choose another --out")


def _files_below(out: Path) -> list[Path]:
    """Files, links and empty folders."""
    return sorted(path for path in out.rglob("*") if path.is_symlink() or not path.is_dir() or not any(path.iterdir()))


def _check_content(out: Path, present: Sequence[Path], *, force: bool) -> None:
    if not present:
        return
    digests = _digests(out / SPLIT)
    names = {path.relative_to(out).as_posix(): path for path in present}
    foreign = [
        name
        for name, path in names.items()
        if not (name == SPLIT or name in digests) or path.is_symlink() or not path.is_file()
    ]
    if foreign or SPLIT not in names:
        shown = "; ".join((foreign or list(names))[:_MOST_SHOWN])
        raise OutputError(
            f"{out}: holds files that no split wrote ({shown}), so it is never replaced; choose another --out"
        )
    if not force:
        raise OutputError(f"{out}: exists; choose another --out, or replace it with --force")
    edited = [name for name, path in names.items() if name != SPLIT and sha256_of(path) != digests[name]]
    if edited:
        raise OutputError(
            f"{out}: {', '.join(edited[:_MOST_SHOWN])} changed since the split, so it is not replaced; move {out} "
            "away, or choose another --out"
        )


def _digests(path: Path) -> dict[str, str]:
    """What a split says that it wrote; nothing if there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Digests).files
    except (OSError, *UNREADABLE):
        return {}
