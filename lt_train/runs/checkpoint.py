"""Checkpoints: tensors, numbers, text, lists and dicts only, written atomically, read without unpickling code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import torch

from lt_data.errors import DataError
from lt_data.files.writing import write_whole

FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint beside its place, then renames it.

    Args:
        path: Where.
        content: Tensors, numbers, text, lists and dicts.

    Raises:
        OutputError: It cannot be written.
    """

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            _save({"format": FORMAT, **content}, handle)
            handle.flush()
            os.fsync(handle.fileno())

    # checkpoints are large: after hard stops at most one half of each is left over
    part = path.with_name(f".{path.name}.part")
    write_whole(path, write, work=part, advice="make room, or choose another --out")


def _save(content: dict[str, Any], handle: IO[bytes]) -> None:
    try:
        torch.save(content, handle)
    except RuntimeError as error:
        # torch closes its archive after a failed write and complains of that instead
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU.

    Raises:
        DataError: The file is missing, cannot be read, is no checkpoint, holds code, or is of another format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such checkpoint; the run may have stopped before it wrote one") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    # damaged files raise nearly anything; torch's own text advises to load them unsafely
    except Exception:
        raise DataError(
            f"{path}: not a checkpoint that can be read safely (it is damaged or cut short, or holds objects that only "
            "code could rebuild); give a checkpoint that this project wrote"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: checkpoint format is {found!r}; this version reads format {FORMAT}")
    return content
