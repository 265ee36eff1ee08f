"""The run directory: what a fit writes, and refusing to overwrite it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import torch

from lt_data.errors import DataError, OutputError
from lt_data.files.leftovers import belongs_to, beside, remove_abandoned
from lt_data.files.writing import refuse_unnamable, write_whole
from lt_data.machine import processor
from lt_data.versions import PACKAGE, version_of
from lt_train.recipe.load import read_recipe_file, resolved_recipe
from lt_train.recipe.origins import format_yaml
from lt_train.recipe.paths import changed_paths, check_root, locate, paths_record, relative_paths
from lt_train.recipe.sections import Recipe, WrittenPath
from lt_train.runs.lock import LOCK, refuse_written, writing_run

ENVIRONMENT_SCHEMA = 1
OWN_FILES = frozenset(
    (
        *("recipe.yaml", "environment.json", "data.json", "train.log", "metrics.jsonl"),
        *("tensorboard", "wandb", "checkpoints", "eval", "report", "debug"),
    )
)


@dataclass(frozen=True)
class RunDir:
    """Names inside a run directory.

    Attributes:
        path: The directory.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def environment(self) -> Path:
        """Versions, device, date and command."""
        return self.path / "environment.json"

    @property
    def data(self) -> Path:
        """Fingerprints and counts of the data."""
        return self.path / "data.json"

    @property
    def log(self) -> Path:
        """The lines of the run for people."""
        return self.path / "train.log"

    @property
    def metrics(self) -> Path:
        """One JSON object a line for programs."""
        return self.path / "metrics.jsonl"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoint("last")

    @property
    def previous(self) -> Path:
        """The checkpoint before ``last``."""
        return self.checkpoint("previous")

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation AP."""
        return self.checkpoint("best")

    @property
    def is_resumable(self) -> bool:
        """Whether there is any checkpoint."""
        return any(path.is_file() for path in (self.last, self.previous, self.best))

    @property
    def evaluation(self) -> Path:
        """Metrics, per-class table and predictions."""
        return self.path / "eval"

    @property
    def report(self) -> Path:
        """Loss curves and AP per group as pictures."""
        return self.path / "report"

    @property
    def debug(self) -> Path:
        """Steps whose loss or gradient was not finite."""
        return self.path / "debug"

    def checkpoint(self, which: str) -> Path:
        """Path of the checkpoint ``last``, ``previous`` or ``best``."""
        return self.path / "checkpoints" / f"{which}.pt"

    def load_recipe(self, root: Path | None = None) -> Recipe:
        """The recipe of the run.

        Args:
            root: What the relative paths that it was started with are relative to now; unless given, the files are
                where they were. Runs of older versions have no other note of them, and are read as they were.

        Raises:
            DataError: The directory is not a run directory.
            RecipeError: Its recipe cannot be read by this version.
        """
        if not self.recipe.is_file():
            raise DataError(f"{self.path}: not a run directory (no recipe.yaml); give one that lt-train fit wrote")
        recipe = resolved_recipe(read_recipe_file(self.recipe), where=str(self.recipe))
        written = _written_paths(self.data)
        if root is None:
            base = f"where {self.path} was started"
            noted = {key: WrittenPath(text, base) for key, text in written.items()}
            return recipe.with_written({**relative_paths(recipe), **noted})
        as_written = changed_paths(recipe.to_plain(), lambda key, path: written.get(key, path))
        located = locate(as_written, check_root(root), f"--root {root}", strict=True)
        return resolved_recipe(located.content, where=str(self.recipe)).with_written(located.written)


class _Paths(msgspec.Struct):
    paths: dict[str, dict[str, str]] = {}


def _written_paths(record: Path) -> dict[str, str]:
    """The relative paths that a run was started with, by key; none where its ``data.json`` does not say."""
    try:
        paths = msgspec.json.decode(record.read_bytes(), type=_Paths).paths
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return {key: each["written"] for key, each in paths.items() if not os.path.isabs(each.get("written", "/"))}


@contextmanager
def new_run(path: Path, *, force: bool) -> Iterator[tuple[str, ...]]:
    """Keeps a place for a new run to this process, which need not write anything there.

    Args:
        path: Where.
        force: Whether the user asked to replace a run that is there.

    Yields:
        Notes for people.

    Raises:
        OutputError: See :func:`check_run_dir`, or another process writes there.
    """
    refuse_written(path)
    # before anything is written: it may be a directory of others
    check_run_dir(path, force=force)
    with writing_run(path) as notes:
        yield notes


@contextmanager
def resumed_run(path: Path) -> Iterator[tuple[str, ...]]:
    """Keeps a run to this process, which goes on with it; what a killed process left half written is removed.

    Yields:
        Notes for people.

    Raises:
        DataError: There is no checkpoint.
        OutputError: Another process writes the run.
    """
    run = RunDir(path)
    if not run.is_resumable:
        raise DataError(f"{run.last}: no such checkpoint; the run may have stopped before it wrote one")
    with writing_run(path) as notes:
        remove_parts(run)
        yield notes


def check_run_dir(path: Path, *, force: bool) -> None:
    """Refuses a place for a new run before anything is read.

    Args:
        path: Where.
        force: Whether the user asked to replace a run that is there; only files that runs write are ever removed. A
            run that stopped before its first line of numbers is replaced unasked.

    Raises:
        OutputError: Something is there that must not be lost, or the path is not UTF-8.
    """
    run = RunDir(path)
    refuse_unnamable([path], run.environment.name)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file; choose another --out")
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    foreign = [name for name in names if not _is_own(name)]
    # a run that was killed before its record was whole leaves the file that it was locked by
    is_run = (run.recipe.is_file() and run.data.is_file()) or LOCK in names
    if names and (foreign or not is_run):
        raise OutputError(
            f"{path}: holds files that no run wrote ({', '.join((foreign or names)[:3])}), so it is never replaced; "
            "choose another --out"
        )
    if not force and (run.is_resumable or _has_steps(run)):
        raise OutputError(f"{path}: holds a run; {_ways(run)}, or choose another --out")


def _ways(run: RunDir) -> str:
    """What can be done about a run that is in the way; one that can be resumed is not to be replaced."""
    if not run.is_resumable:
        return "it has no checkpoint to resume from; replace it with --force"
    if run.metrics.is_file() and not _has_steps(run):
        return "a calibration, which takes no steps to resume; replace it with --force"
    return "continue it with --resume"


def _is_own(name: str) -> bool:
    """Whether a run has a file of this name, or was killed while it wrote one."""
    name = belongs_to(name) or name
    return name in OWN_FILES or name == LOCK or name.startswith("eval-")


def _has_steps(run: RunDir) -> bool:
    """Whether a run came as far as a line of numbers; before that, and without a checkpoint, nothing is lost."""
    return run.metrics.is_file() and run.metrics.stat().st_size > 0


def create_run_dir(path: Path, recipe: Recipe, data: dict[str, Any], *, force: bool) -> RunDir:
    """A new run directory that holds the record of what is going to be done, or what was there before.

    Args:
        path: Where; locked by this process.
        recipe: What to do.
        data: The content of ``data.json``, but for the paths of the recipe.
        force: Whether the user asked to replace a run that is there.

    Raises:
        OutputError: See :func:`check_run_dir`, or the directory cannot be written.
    """
    check_run_dir(path, force=force)
    run = RunDir(path)
    record = {**data, "paths": paths_record(recipe)}
    texts = {run.recipe: format_yaml(recipe), run.data: json.dumps(record, indent=2, ensure_ascii=False) + "\n"}
    # hidden names, until what was there before may go
    works = {final: beside(final) for final in texts}
    try:
        for final, text in texts.items():
            _write_beside(works[final], text, final)
        _empty(path, keep=works.values())
        run.last.parent.mkdir()
        for final, work in works.items():
            os.replace(work, final)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
    finally:
        for work in works.values():
            with suppress(OSError):
                work.unlink(missing_ok=True)
    return run


def _write_beside(work: Path, text: str, final: Path) -> None:
    try:
        work.write_bytes(text.encode("utf-8"))
    except OSError as error:
        raise OutputError(
            f"{final}: cannot be written ({error.strerror or error}); make room, or choose another --out"
        ) from None


def _empty(path: Path, *, keep: Collection[Path]) -> None:
    """Removes all but some files and the lock of whoever does it.

    Checkpoints go first: a kill in the middle leaves none without the recipe that they belong to.
    """
    entries = [entry for entry in path.iterdir() if entry.name != LOCK and entry not in keep]
    for entry in sorted(entries, key=lambda entry: (entry.name != "checkpoints", entry.name)):
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def remove_parts(run: RunDir) -> None:
    """Removes what a killed process left of the files of a run that this process has locked."""
    for folder in (run.path, run.last.parent):
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            if belongs_to(entry.name) is not None:
                remove_abandoned(entry)


def next_free_directory(path: Path) -> Path:
    """``path`` if nothing is there, else ``path-2``, ``path-3``, ..."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def write_text(path: Path, text: str) -> None:
    """Writes a file of a run; a reader never sees half of it.

    Raises:
        OutputError: It cannot be written.
    """
    write_whole(path, text.encode("utf-8"), advice="make room, or choose another --out")


def write_recipe(run: RunDir, recipe: Recipe) -> None:
    """Writes the resolved recipe; on its own it reproduces the run."""
    write_text(run.recipe, format_yaml(recipe))


def write_environment(run: RunDir, device: torch.device, processes: int = 1) -> None:
    """Writes versions, device, processor, date, command and the number of processes."""
    packages = (PACKAGE, "torch", "torchvision", "numpy", "pycocotools", "hotcoco", "pydantic")
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    content: dict[str, Any] = {
        "schema": ENVIRONMENT_SCHEMA,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device),
        "gpu": gpu,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "packages": {name: version_of(name) for name in packages},
        "command": sys.argv,
        "working_directory": str(Path.cwd()),
    }
    write_text(run.environment, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
