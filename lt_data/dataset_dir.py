"""The dataset directory on disk: file names, schema, atomic writing and reading."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lt_data.errors import DataError, OutputError
from lt_data.groups import Group, groups_from_json

ANNOTATIONS = "annotations.json"
CATEGORIES = "categories.csv"
GROUPS = "groups.json"
REPEAT_FACTORS = "repeat_factors.csv"
BUILD = "build.json"
ENVIRONMENT = "environment.json"
ALIGNMENT_PLOT = "alignment.png"
VALIDATION = "val.json"
IMAGES = "images"
CARD = "README.md"
OWN_FILES = frozenset(
    (ANNOTATIONS, CATEGORIES, GROUPS, REPEAT_FACTORS, BUILD, ENVIRONMENT, ALIGNMENT_PLOT, VALIDATION, IMAGES, CARD)
)


def is_dataset_dir(path: Path) -> bool:
    """Whether a path is a directory that holds the annotations and groups of a build."""
    return (path / ANNOTATIONS).is_file() and (path / GROUPS).is_file()


def annotations_path(path: Path) -> Path:
    """The annotation file of a dataset directory, or the path itself if it is no directory.

    Raises:
        DataError: There is none in the directory.
    """
    if not path.is_dir():
        return path
    if not (path / ANNOTATIONS).is_file():
        raise DataError(f"{path}: no {ANNOTATIONS} in it; give a dataset directory or an annotation file")
    return path / ANNOTATIONS


def read_groups(directory: Path) -> tuple[tuple[int, ...], tuple[Group, ...]]:
    """Edges and groups of a dataset directory.

    Raises:
        DataError: ``groups.json`` is missing or of another schema.
    """
    path = directory / GROUPS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); write it anew with lt-data build-coco-lt") from None
    return groups_from_json(content, str(path))


def check_output(out: Path, *, force: bool) -> None:
    """Refuses an output directory that would be overwritten.

    Args:
        out: The directory to write.
        force: Whether the user asked to replace what is there; only a dataset directory is ever replaced.

    Raises:
        OutputError: Something is there that must not be lost, or the parent is not a directory.
    """
    if out.is_symlink():
        raise OutputError(f"{out}: is a link; give the directory itself as --out")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; choose another --out")
    present = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    foreign = [name for name in present if name not in OWN_FILES]
    if present and (foreign or not is_dataset_dir(out)):
        raise OutputError(
            f"{out}: holds files that no build wrote ({', '.join((foreign or present)[:3])}), so it is never replaced; "
            "choose another --out"
        )
    if present and not force:
        raise OutputError(f"{out}: exists; choose another --out, or replace it with --force")
    parent = next(path for path in out.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f"{out}: cannot be written into {parent}; choose another --out")


def refuse_inputs_inside(out: Path, inputs: Iterable[Path]) -> None:
    """Refuses to replace a directory that holds what the build reads.

    Raises:
        OutputError: An input lies in ``out``.
    """
    for path in inputs:
        if path.resolve().is_relative_to(out.resolve()):
            raise OutputError(f"{out}: holds the input {path}, which would be replaced; choose another --out")


def check_output_file(path: Path, *, force: bool, inputs: Iterable[Path] = (), suffixes: Sequence[str] = ()) -> None:
    """Refuses an output file that must not be replaced.

    Args:
        path: The file to write.
        force: Whether the user asked to replace it; only a plain file that is no input is ever replaced.
        inputs: Files that are read.
        suffixes: How its name may end; in any way unless given.

    Raises:
        OutputError: Its name ends otherwise, it is an input, a link, a folder or a device, or it exists and ``force``
            is not set.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"{path}: is written as {' or '.join(suffixes)}; choose a name that ends so")
    if any(path.exists() and path.resolve() == source.resolve() for source in inputs):
        raise OutputError(f"{path}: is read by this command; choose another file")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputError(f"{path}: is not a plain file; choose another file")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists; choose another file, or replace it with --force")


@contextmanager
def replacing_directory(out: Path) -> Iterator[Path]:
    """A new directory beside ``out`` that takes its place once everything in it is written.

    An exception leaves ``out`` as it was and removes the new directory.
    """
    out = out.absolute()
    work = beside(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir()
        yield work
        _swap(work, out)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{out}: cannot be written ({reason}); nothing was changed; choose another --out") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def beside(path: Path) -> Path:
    """A hidden name in the same folder that nothing has, with the same ending.

    It is there before what it names, so that an interrupt at any moment finds what to remove.
    """
    return path.with_name(f".{secrets.token_hex(4)}-{path.name}")


def _swap(work: Path, out: Path) -> None:
    if not out.exists():
        os.replace(work, out)
        return
    old = beside(out)
    try:
        os.replace(out, old)
        os.replace(work, out)
    finally:
        # whatever came between, an interrupt too
        if old.exists() and not out.exists():
            os.replace(old, out)
        shutil.rmtree(old, ignore_errors=True)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    r"""Writes a CSV in UTF-8 with ``\n`` line ends; floats as Python's repr."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_json(path: Path, content: Any) -> None:
    r"""Writes indented JSON in UTF-8 with ``\n`` line ends, keys in the order given."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.write_bytes(text.encode("utf-8"))


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
