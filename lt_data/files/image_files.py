"""Where the images of an annotation file lie on disk, without ever leaving the image folder.

One lookup for every command: the name as given; then the path in ``coco_url``, with and without its split folder; then,
for ``COCO_val2014_000000266409.jpg`` and its like, what follows the last underscore, as COCO 2017 names the same image.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from lt_data.errors import DataError, OutputError
from lt_data.files.near_names import NearName, NearNames

# LVIS v1 names an image by its URL only; its images lie in both folders of COCO 2017
SUBFOLDERS = ("", "train2017", "val2017", "train2014", "val2014")
# with so many names in one folder it is faster to list the folder once than to ask for every name
MANY = 100
# longer names are cut in messages
LONGEST_SHOWN = 200
# COCO 2014 puts the split in front of the image's number; COCO 2017 calls the same image by the number alone
_COCO_2014 = re.compile(r"COCO_[a-z]+\d{4}_(\d{12}\.[A-Za-z]+)")
_BY_URL, _BY_NUMBER = "by the path in their coco_url", "by what follows the last underscore of their file_name"


class FoundImage(NamedTuple):
    """The file of one image, and whether it is there under its name as given."""

    path: Path
    as_given: bool


class FoundImages(NamedTuple):
    """Files of images.

    Attributes:
        paths: One of each name.
        notes: A line for each way other than the name as given that files were found by; as a rule none.
    """

    paths: list[Path]
    notes: tuple[str, ...]


def find_images(
    folder: Path, file_names: Iterable[str], *, url_of: Callable[[int], str] | None = None, most: int = 5
) -> FoundImages:
    """Paths of images in a folder, or in the folders that COCO has below it (``train2017`` and its like).

    Args:
        folder: The image folder.
        file_names: Names relative to it.
        url_of: The ``coco_url`` of the name at a position, empty where there is none; asked only for names that are
            not found as they are.
        most: How many missing files to name in the error.

    Raises:
        DataError: The folder is missing, a name would leave it, or files are missing; near misses of their names that
            lie in the folder are shown.
    """
    folder = Path(folder)
    check_folder(folder)
    names = list(file_names)
    listed = _listed(folder) if len(names) >= MANY else {}
    found = [listed.get(name) or _find(folder, name) for name in names]
    by: dict[str, list[int]] = {_BY_URL: [], _BY_NUMBER: []}
    for row in [row for row, path in enumerate(found) if path is None]:
        for way, name in _other_names(names[row], url_of(row) if url_of else ""):
            found[row] = listed.get(name) or _first_file(folder, name)
            if found[row] is not None:
                by[way].append(row)
                break
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        raise DataError(_missing_lines(folder, missing, len(names), most))
    paths = [path for path in found if path is not None]
    return FoundImages(paths, tuple(_note(folder, way, rows, names, paths) for way, rows in by.items() if rows))


def find_image(folder: Path, name: str, url: str = "") -> FoundImage | None:
    """The file of one image by the lookup of :func:`find_images`; ``None`` if it is missing.

    Args:
        folder: The image folder.
        name: Relative to it.
        url: Its ``coco_url``, empty where there is none.

    Raises:
        DataError: The name would leave the folder.
    """
    path = _find(folder, name)
    if path is not None:
        return FoundImage(path, as_given=True)
    others = (_first_file(folder, other) for _, other in _other_names(name, url))
    other = next((path for path in others if path is not None), None)
    return None if other is None else FoundImage(other, as_given=False)


def check_folder(folder: Path) -> None:
    """Refuses an image folder that is none.

    Raises:
        DataError: There is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that the image file names are relative to")


def _missing_lines(folder: Path, missing: Sequence[str], count: int, most: int) -> list[str]:
    """What to say of missing images: how many and what to do first, then examples."""
    near = NearNames(folder)
    found = [(name, near.find(name)) for name in missing]
    close = sum(other is not None for _, other in found)
    what, advice = f"{folder}: {len(missing)} of {count} images are missing", "check the image folder"
    if close:
        what += f", {close} of them are there under nearly their name"
        advice = "write file_name as the folder has it, or give the folder that it is relative to"
    # those that show what to do first
    shown = sorted(found, key=lambda pair: pair[1] is None)[:most]
    return [f"{what}; {advice}"] + [
        f"{folder / _shown(name)}: image is missing{_hint(name, other)}" for name, other in shown
    ]


def normal_name(name: str) -> str:
    """A file name without what does not change which file it is: ``./a//b.jpg`` is ``a/b.jpg``; empty stays empty."""
    return str(PurePosixPath(name)) if name else ""


def refuse_images_inside(out: Path, images: Sequence[Path]) -> None:
    """Refuses to replace a directory that holds images which the build reads, by whatever links they lead there.

    Raises:
        OutputError: Such an image lies in ``out``.
    """
    place = out.resolve()
    inside = [path for path in images if path.resolve().is_relative_to(place)] if out.exists() else []
    if inside:
        raise OutputError(
            f"{out}: holds {len(inside)} of the images of --images ({_shown(str(inside[0]))} leads there), which would "
            "be replaced; choose another --out"
        )


def refuse_links_out(folder: Path, images: Sequence[Path]) -> None:
    """Refuses images that are links out of the image folder, or lie beyond one: a copy would hold any file of the disk.

    Args:
        folder: The image folder; it may be a link itself.
        images: Files in it.

    Raises:
        DataError: An image lies elsewhere.
    """
    place = folder.resolve()
    parents = {parent: parent.resolve().is_relative_to(place) for parent in {path.parent for path in images}}
    out = [
        path
        for path in images
        if not parents[path.parent] or (path.is_symlink() and not path.resolve().is_relative_to(place))
    ]
    if out:
        raise DataError(
            f"{folder}: {len(out):,} of {len(images):,} images lead out of the folder by a link ({_shown(str(out[0]))} "
            f"to {_shown(str(out[0].resolve()))}), which is not followed; give the folder that holds the files, or put "
            "the files in this one"
        )


def _listed(folder: Path) -> dict[str, Path]:
    """Every file that lies in the folder or its subfolders itself, by the name that finds it."""
    found: dict[str, Path] = {}
    for part in SUBFOLDERS:
        place = folder / part
        try:
            with os.scandir(place) as entries:
                names = [entry.name for entry in entries if entry.is_file()]
        except OSError:
            continue
        for name in names:
            found.setdefault(name, place / name)
            if part:
                found[f"{part}/{name}"] = place / name
    # names that other systems read as paths are looked at one by one
    return {name: path for name, path in found.items() if not {"\\", ":"} & set(name)}


def _find(folder: Path, name: str) -> Path | None:
    if not _stays_inside(name):
        raise DataError(
            f"file_name {_shown(repr(name))} is not a name inside the image folder {folder} without '..'; it is "
            "refused: name files relative to the folder"
        )
    return _first_file(folder, name)


def _first_file(folder: Path, name: str) -> Path | None:
    candidates = (folder / part / name for part in SUBFOLDERS)
    return next((path for path in candidates if _is_file(path)), None)


def _stays_inside(name: str) -> bool:
    # Windows rules see drive letters and both kinds of slash, so they refuse on every system what one would follow
    pure = PureWindowsPath(name)
    return bool(name) and not pure.anchor and ".." not in pure.parts


def _other_names(name: str, url: str) -> Iterator[tuple[str, str]]:
    """Ways and names by which a file that is not there under its own name may be found, the surest first."""
    path = url_path(url)
    for candidate in (path, path.rpartition("/")[2]):
        if candidate != name and _stays_inside(candidate):
            yield _BY_URL, candidate
    number = _COCO_2014.fullmatch(PurePosixPath(name).name)
    if number:
        yield _BY_NUMBER, number[1]


def url_path(url: str) -> str:
    """Split folder and file of an image in its URL: ``val2017/000000266409.jpg``; the file alone where no folder is."""
    place = url.partition("://")[2] or url
    path = place.partition("?")[0].partition("#")[0].partition("/")[2]
    return "/".join(path.split("/")[-2:])


def _note(folder: Path, way: str, rows: Sequence[int], names: Sequence[str], paths: Sequence[Path]) -> str:
    first = rows[0]
    return (
        f"{folder}: {len(rows):,} of {len(names):,} images are not there under their file_name and were found {way} "
        f"({_shown(names[first])} is {paths[first].relative_to(folder).as_posix()})"
    )


def _hint(name: str, near: NearName | None) -> str:
    if near is not None:
        return f"; there is '{_shown(near.name)}' ({near.difference})"
    return "; its file_name has a backslash, folders are separated by '/'" if "\\" in name else ""


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    # a name that is too long for the file system
    except OSError:
        return False


def _shown(name: str) -> str:
    """A name for a message: one line, cut if it is long."""
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({len(name):,} characters)"
