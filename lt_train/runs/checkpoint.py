"""Checkpoints: tensors, numbers, text, lists and dicts only, written atomically, read without unpickling code."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from lt_data.errors import DataError
from lt_data.files.archives import check_archive
from lt_data.files.leftovers import part_of
from lt_data.files.writing import write_whole
from lt_train.runs.content import check_content

FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any], *, keep: Path | None = None) -> None:
    """Writes a checkpoint beside its place, then renames it.

    Args:
        path: Where.
        content: Tensors, numbers, text, lists and dicts.
        keep: What the checkpoint that it replaces is called from then on; it is lost unless given.

    Raises:
        OutputError: It cannot be written; what was there is still there.
    """

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            _save({"format": FORMAT, **content}, handle)
            handle.flush()
            os.fsync(handle.fileno())
        if keep is not None:
            _rename_kept(path, keep)

    # checkpoints are large: after hard stops at most one half of each is left over
    write_whole(path, write, work=part_of(path), advice="make room, or choose another --out")


def _rename_kept(path: Path, keep: Path) -> None:
    """Gives a checkpoint its second name; it has one of the two at every instant."""
    if not path.exists():
        return
    link = part_of(keep)
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    # not every file system has hard links
    except OSError:
        os.replace(path, keep)
    else:
        os.replace(link, keep)
        # nothing is renamed where both are the same file already
        link.unlink(missing_ok=True)


class _Watched:
    """A file that remembers why a write failed: PyTorch closes its archive then, and complains of that instead."""

    def __init__(self, handle: IO[bytes]) -> None:
        self.handle = handle
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.handle.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.handle.flush()


def _save(content: dict[str, Any], handle: IO[bytes]) -> None:
    watched = _Watched(handle)
    try:
        torch.save(content, watched)  # type: ignore[arg-type]
    except RuntimeError:
        if watched.error is not None:
            raise watched.error from None
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU and checks all that it holds.

    Raises:
        DataError: The file is missing, cannot be read, is damaged or no checkpoint, holds code, is of another format,
            or lacks something.
    """
    try:
        check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DataError:
        raise
    except FileNotFoundError:
        if path.suffix != ".pt":
            raise DataError(f"{path}: no such run or checkpoint; check the path") from None
        raise DataError(f"{path}: no such checkpoint; the run may have stopped before it wrote one") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path and its disk") from None
    # damaged files raise nearly anything; torch's own text advises to load them unsafely
    except Exception:
        raise DataError(
            f"{path}: not a checkpoint that can be read safely (it is damaged or cut short, or holds objects that only "
            "code could rebuild); give a checkpoint that this project wrote"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: checkpoint format is {found!r:.40}; this version reads format {FORMAT}")
    check_content(content, path)
    return content


def load_result(path: Path) -> dict[str, Any]:
    """Reads a checkpoint for whoever uses its weights.

    Raises:
        DataError: As :func:`load_checkpoint`; of ``last``, it says how a run gets a whole one again.
    """
    try:
        return load_checkpoint(path)
    except DataError as error:
        *others, line = error.problems
        if path.name != "last.pt" or not path.with_name("previous.pt").is_file():
            raise
        raise DataError(
            [*others, f"{line}; the run has previous.pt, the checkpoint before: lt-train fit with --resume mends it"]
        ) from None


def load_newest(last: Path, others: Sequence[Path]) -> tuple[dict[str, Any], Path, list[str]]:
    """The newest checkpoint of a run that is whole.

    Args:
        last: Read first, and taken if it is whole.
        others: Older ones, or none newer.

    Returns:
        Content, path, and why it is not ``last``, if so.

    Raises:
        DataError: None is whole.
    """
    try:
        return load_checkpoint(last), last, []
    except DataError as error:
        problems = list(error.problems)
    whole, more = load_older(others)
    if not whole:
        raise DataError(problems + more)
    content, path = whole[0]
    return content, path, [gone_back_note(problems[0], content, path)]


def load_older(paths: Iterable[Path]) -> tuple[list[tuple[dict[str, Any], Path]], list[str]]:
    """The whole checkpoints of a training among some.

    Args:
        paths: Where they may be; a missing one is no problem.

    Returns:
        Content and path of each, the newest first; and what is wrong with the others.
    """
    whole, problems = [], []
    for path in (path for path in paths if path.is_file()):
        try:
            content = load_checkpoint(path)
        except DataError as error:
            problems += error.problems
        else:
            whole.append((content, path))
    whole = [(content, path) for content, path in whole if "done" in content]
    whole.sort(key=lambda pair: (pair[0]["done"], pair[0].get("evaluated", 0)), reverse=True)
    return whole, problems


def gone_back_note(reason: str, content: Mapping[str, Any], path: Path) -> str:
    """Says that a run goes on from an older checkpoint, and why."""
    return f"warning: {reason}; the run goes on from {path.name}, the checkpoint of step {content['done']}"
