"""The dataset directory on disk: file names, schema, atomic writing and reading."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from lt_data.annotations.records import UNREADABLE, ImageRecord
from lt_data.dataset.names import ANNOTATIONS, BUILD, GROUPS, IMAGES, OWN_FILES, RECORDED, is_dataset_dir
from lt_data.errors import DataError, OutputError
from lt_data.files.image_files import normal_name
from lt_data.files.reading import map_file
from lt_data.files.writing import sha256_of
from lt_data.groups import Group, GroupsFile, parse_groups

# files named in a message
MOST_SHOWN: Final = 3


class _Images(msgspec.Struct):
    images: list[ImageRecord]


class _Digests(msgspec.Struct):
    files: dict[str, str]


def read_groups(directory: Path | str) -> tuple[tuple[int, ...] | None, tuple[Group, ...]]:
    """Edges and groups of a dataset directory; edges are ``None`` where no bounds make the groups.

    Raises:
        DataError: ``groups.json`` is missing or of another schema.
    """
    found = read_groups_file(Path(directory) / GROUPS)
    return found.edges, found.groups


def read_groups_file(path: Path) -> GroupsFile:
    """A file of groups, of a dataset directory or any other; whether it fits an annotation file is not asked here.

    Raises:
        DataError: It cannot be read, or is of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{path}: cannot be read ({reason}); write it anew with lt-data group-stats PATH --write FILE"
        ) from None
    return parse_groups(content, str(path))


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
