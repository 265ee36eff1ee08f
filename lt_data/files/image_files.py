"""Where the images of an annotation file lie on disk, without ever leaving the image folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from lt_data.errors import DataError, OutputError

# LVIS v1 names an image by its URL only; its images lie in both folders of COCO 2017
SUBFOLDERS = ("", "train2017", "val2017")
# with so many names in one folder it is faster to list the folder once than to ask for every name
MANY = 100
# longer names are cut in messages
LONGEST_SHOWN = 200


def find_images(folder: Path, file_names: Iterable[str], *, most: int = 5) -> list[Path]:
    """Paths of images in a folder, or in its ``train2017`` and ``val2017``.

    Args:
        folder: The image folder.
        file_names: Names relative to it.
        most: How many missing files to name in the error.

    Raises:
        DataError: The folder is missing, a name would leave it, or files are missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that the image file names are relative to")
    names = list(file_names)
    listed = _listed(folder) if len(names) >= MANY else {}
    found = [listed.get(name) or _find(folder, name) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        raise DataError(
            [f"{folder / _shown(name)}: image is missing" for name in missing[:most]]
            + [f"{folder}: {len(missing)} of {len(names)} images are missing; check the image folder"]
        )
    return [path for path in found if path is not None]


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
    # names that other systems read as paths are looked at one by one
    return {name: path for name, path in found.items() if not {"\\", ":"} & set(name)}


def _find(folder: Path, name: str) -> Path | None:
    # Windows rules see drive letters and both kinds of slash, so they refuse on every system what one would follow
    pure = PureWindowsPath(name)
    if not name or pure.anchor or ".." in pure.parts:
        raise DataError(f"file_name {_shown(repr(name))} is not a name inside the image folder {folder}; it is refused")
    candidates = (folder / part / name for part in SUBFOLDERS)
    return next((path for path in candidates if _is_file(path)), None)


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
