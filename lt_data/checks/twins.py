"""Names that stand for one thing and are written in two ways: categories, and image files."""

from __future__ import annotations

import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from lt_data.annotations.findings import FindingList, shown
from lt_data.annotations.lists import FileColumns, leaves_folder
from lt_data.files.image_files import find_image


def name_key(name: str) -> str:
    """A category name without its case and superfluous spaces, each letter with its accents as one character.

    ``_`` and ``-`` are spaces.
    """
    plain = unicodedata.normalize("NFC", name).casefold().replace("_", " ").replace("-", " ")
    return " ".join(plain.split())


def category_twins(names: Sequence[str]) -> list[list[int]]:
    """Rows of categories that have one name but for case, spaces, ``_`` and ``-``, a list for each such name."""
    by_key: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        by_key[name_key(name)].append(row)
    return [rows for key, rows in by_key.items() if key and len(rows) > 1]


def file_twins(names: Sequence[str]) -> list[list[int]]:
    """Rows of images that name one file, a list for each: ``b/a.jpg``, ``./b/a.jpg``, ``c/../b/a.jpg``, backslashes."""
    by_key: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        # most names are as they should be, and there may be a hundred thousand
        odd = "\\" in name or "//" in name or "./" in name
        by_key[posixpath.normpath(name.replace("\\", "/")) if odd else name].append(row)
    return [rows for key, rows in by_key.items() if key and len(rows) > 1]


def _differing(twins: Sequence[list[int]], names: Sequence[str]) -> list[list[int]]:
    """Those that are not written alike."""
    return [rows for rows in twins if len({names[row] for row in rows}) > 1]


def check_twins(file: FileColumns, images: Path | None, log: FindingList) -> None:
    """Categories and image files that are there twice under names that differ; equal ones have their own findings.

    Args:
        file: The annotation file's columns.
        images: The image folder, if files may be looked at: links then count as the file that they lead to.
        log: Takes what is found.
    """
    names, files = file.categories.names, file.images.names
    log.add_many(
        "LT213",
        _differing(category_twins(names), names),
        lambda rows: ", ".join(file.category(row) for row in rows[:3]),
    )
    found = _differing(file_twins(files), files)
    if images is not None:
        known = {row for rows in found for row in rows}
        found += [rows for rows in _linked(files, images) if not known & set(rows)]
    log.add_many("LT214", found, lambda rows: ", ".join(f"{file.image(row)}: {shown(files[row])}" for row in rows[:3]))


def _linked(names: Sequence[str], folder: Path) -> list[list[int]]:
    """Rows of images whose different names lead to one file on the disk."""
    by_file: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        if name and not leaves_folder(name):
            file = find_image(folder, name)
            # a missing file has its own finding
            if file is not None:
                status = file.path.stat()
                by_file[status.st_dev, status.st_ino].append(row)
    return _differing(list(by_file.values()), names)
