"""The dataset directory on disk: file names, schema, atomic writing and reading."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from lt_data.annotation_records import UNREADABLE, ImageRecord
from lt_data.errors import DataError, OutputError
from lt_data.file_bytes import map_file
from lt_data.groups import Group, groups_from_json
from lt_data.image_files import normal_name

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
# files whose digest build.json holds
RECORDED: Final = (ANNOTATIONS, CATEGORIES, GROUPS, REPEAT_FACTORS, VALIDATION)
# files named in a message
MOST_SHOWN: Final = 3


class _Images(msgspec.Struct):
    images: list[ImageRecord]


class _Digests(msgspec.Struct):
    files: dict[str, str]


def is_dataset_dir(path: Path) -> bool:
    """Whether a path is a directory that holds the annotations and groups of a build."""
    path = Path(path)
    return (path / ANNOTATIONS).is_file() and (path / GROUPS).is_file()


def annotations_path(path: Path) -> Path:
    """The annotation file of a dataset directory, or the path itself if it is no directory.

    Raises:
        DataError: There is none in the directory.
    """
    path = Path(path)
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
    path = Path(directory) / GROUPS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); write it anew with lt-data build-coco-lt") from None
    return groups_from_json(content, str(path))


def check_output(out: Path, *, force: bool) -> None:
    """Refuses an output directory that would be overwritten.

    Args:
        out: The directory to write.
        force: Whether the user asked to replace what is there; only what a build wrote, and nobody changed, is ever
            replaced.

    Raises:
        OutputError: Something is there that must not be lost, or the parent is not a directory.
    """
    out = Path(out)
    if out.is_symlink():
        raise OutputError(f"{out}: is a link; give the directory itself as --out")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; choose another --out")
    try:
        present = sorted(out.iterdir()) if out.is_dir() else []
        foreign = [_shown(path) for path in present if not _is_as_built(path)]
        if present and (foreign or not is_dataset_dir(out)):
            _refuse_foreign(out, foreign or [_shown(path) for path in present])
        if present and not force:
            raise OutputError(f"{out}: exists; choose another --out, or replace it with --force")
        if present:
            _refuse_edited(out)
            if strays := list(islice(_strays(out), MOST_SHOWN)):
                _refuse_foreign(out, strays)
    except OSError as error:
        raise OutputError(f"{error.filename or out}: cannot be read ({error.strerror}); choose another --out") from None
    parent = next(path for path in out.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f"{out}: cannot be written into {parent}; choose another --out")


def _is_as_built(path: Path) -> bool:
    """Whether a build writes this name, as a folder or as a file."""
    mode = path.lstat().st_mode
    return stat.S_ISDIR(mode) if path.name == IMAGES else path.name in OWN_FILES and stat.S_ISREG(mode)


def _shown(path: Path) -> str:
    """The name, and what it is where that is no plain file."""
    if path.is_symlink():
        return f"{path.name}, a link"
    return f"{path.name}, a folder" if path.is_dir() else path.name


def _refuse_foreign(out: Path, names: Sequence[str]) -> None:
    raise OutputError(
        f"{out}: holds files that no build wrote ({'; '.join(names[:MOST_SHOWN])}), so it is never replaced; "
        "choose another --out"
    )


def _refuse_edited(out: Path) -> None:
    """Refuses a directory whose data files are not those of its build."""
    try:
        digests = msgspec.json.decode((out / BUILD).read_bytes(), type=_Digests).files
    except (OSError, *UNREADABLE):
        raise OutputError(
            f"{out}: {BUILD}, which says what the build wrote, cannot be read, so it is not replaced; move {out} away, "
            "or choose another --out"
        ) from None
    edited = [name for name in RECORDED if (out / name).exists() and sha256_of(out / name) != digests.get(name)]
    if edited:
        raise OutputError(
            f"{out}: {', '.join(edited)} changed since the build, so it is not replaced; move {out} away, or choose "
            "another --out"
        )


def _strays(out: Path) -> Iterator[str]:
    """What lies in the image folder, by its place in ``out``, and is no image of the annotations."""
    if not (out / IMAGES).is_dir():
        return
    names = _image_names(out / ANNOTATIONS)
    parts = {name.rpartition("/")[0] for name in names}
    folders = {str(folder) for part in parts for folder in (PurePosixPath(part), *PurePosixPath(part).parents)}

    def stop(error: OSError) -> None:
        raise error

    for root, inside, files in os.walk(out / IMAGES, onerror=stop):
        here = Path(root).relative_to(out / IMAGES)
        links = [name for name in inside if (Path(root) / name).is_symlink()]
        inside.sort()
        for name in sorted([*files, *links]):
            if (here / name).as_posix() not in names:
                yield (IMAGES / here / name).as_posix()
        yield from (
            f"{(IMAGES / here / name).as_posix()}, a folder"
            for name in inside
            if name not in links and (here / name).as_posix() not in folders
        )


def _image_names(path: Path) -> set[str]:
    """File names of the images of an annotation file; none of a file that cannot be read."""
    try:
        return {normal_name(image.name()) for image in msgspec.json.decode(map_file(path), type=_Images).images}
    except (DataError, *UNREADABLE):
        return set()


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
def replacing_directory(out: Path, *, force: bool = True, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """A new directory beside ``out`` that takes its place once everything in it is written.

    An exception leaves ``out`` as it was and removes the new directory.

    Args:
        out: The directory to write.
        force: Replace a directory with content too; else only an empty one, however late the content came.
        check: Called just before the directories change places; raises if what is there by then must stay.

    Raises:
        OutputError: The directory cannot be written, or what was there before cannot be removed.
    """
    out = Path(out).absolute()
    work = beside(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir()
        yield work
        check()
        if force and out.exists():
            _swap(work, out)
        else:
            _put(work, out)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{out}: cannot be written ({reason}); nothing was changed; choose another --out") from None
    finally:
        _remove(work)


def beside(path: Path) -> Path:
    """A hidden name in the same folder that nothing has, with the same ending.

    It is there before what it names, so that an interrupt at any moment finds what to remove.
    """
    return path.with_name(f".{secrets.token_hex(4)}-{path.name}")


def _put(work: Path, out: Path) -> None:
    """Moves a directory to a place where nothing is, or an empty folder: the system refuses any other."""
    with suppress(FileNotFoundError):
        out.rmdir()
    os.replace(work, out)


def _swap(work: Path, out: Path) -> None:
    old = beside(out)
    try:
        os.replace(out, old)
        os.replace(work, out)
    finally:
        # whatever came between, an interrupt too
        if old.exists() and work.exists():
            _put_back(old, out)
        _remove(old)
        if old.exists():
            raise OutputError(f"{out}: is written, but what it replaces cannot be removed; remove {old} yourself")


def _put_back(old: Path, out: Path) -> None:
    try:
        os.replace(old, out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be put back ({error.strerror}); what it held is now in {old}") from None


def _remove(folder: Path) -> None:
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
