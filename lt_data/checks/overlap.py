"""Images that are in the training and in the validation data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import BoolArray, IntArray
from lt_data.files.image_files import normal_name

# bytes at each end in which two pictures of one length differ
_LOOKED_AT: Final = 2**16


def shared_files(first: Sequence[Path], second: Sequence[Path]) -> list[int]:
    """Rows of ``second`` whose image is one of ``first``: the same file, or a copy or link of the same name.

    Copies are told by their length and by the bytes at both ends.

    Args:
        first: Image files that exist.
        second: Image files that exist.
    """
    places = {str(path) for path in first}
    by_name = {path.name: path for path in first}
    rows = []
    for row, path in enumerate(second):
        namesake = by_name.get(path.name)
        if str(path) in places or (namesake is not None and _are_copies(namesake, path)):
            rows.append(row)
    return rows


def _are_copies(one: Path, other: Path) -> bool:
    try:
        size = one.stat().st_size
        return size == other.stat().st_size and _ends(one, size) == _ends(other, size)
    # who reads the image says so
    except OSError:
        return False


def _ends(path: Path, size: int) -> bytes:
    with path.open("rb") as handle:
        start = handle.read(_LOOKED_AT)
        handle.seek(max(size - _LOOKED_AT, 0))
        return start + handle.read()


def overlap_notes(first: Sequence[Path], second: Sequence[Path], source: str) -> list[str]:
    """A line if images are trained on and measured on.

    Args:
        first: Image files of the training data.
        second: Image files of the validation data.
        source: What to call the validation data.
    """
    rows = shared_files(first, second)
    if not rows:
        return []
    return [
        f"{source}: {len(rows):,} of {len(second):,} validation images are training images "
        f"({second[rows[0]].name}, ...): figures of them say nothing about new images"
    ]


def namesakes(names: Sequence[str], others: Sequence[str]) -> list[tuple[int, int]]:
    """Rows of two lists of file names that are one but for folders in front: ``a.jpg`` and ``train/a.jpg``.

    Two different folders make two names: ``train/a.jpg`` and ``val/a.jpg`` usually are two pictures.

    Args:
        names: File names; empty ones have no namesake.
        others: The same of the other list.
    """
    by_name: dict[str, list[int]] = defaultdict(list)
    by_tail: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(map(normal_name, others)):
        by_name[name].append(row)
        for tail in _tails(name):
            by_tail[tail].append(row)
    pairs = []
    for row, name in enumerate(map(normal_name, names)):
        if name:
            found = [other for key in (name, *_tails(name)) for other in by_name.get(key, [])]
            pairs += [(row, other) for other in (*found, *by_tail.get(name, []))]
    return pairs


def _tails(name: str) -> list[str]:
    """``b/c.jpg`` and ``c.jpg`` of ``a/b/c.jpg``."""
    parts = name.split("/")
    return ["/".join(parts[first:]) for first in range(1, len(parts))]


def namesake_notes(pool: AnnotationFile, taken: BoolArray, val: AnnotationFile) -> list[str]:
    """A line if images that are taken have name and size of validation images, folders in front aside.

    Args:
        pool: What is sampled from.
        taken: Its images that are taken, [N].
        val: The validation annotations.
    """
    rows = np.flatnonzero(taken)
    pairs = namesakes(val.file_names, [pool.file_names[row] for row in rows.tolist()])
    shared = sorted({row for row, other in pairs if _may_be_one(val.image_sizes[row], pool.image_sizes[rows[other]])})
    if not shared:
        return []
    return [
        f"{val.path.name}: {len(shared):,} of {len(val.file_names):,} validation images have file name and size of "
        f"images that are taken ({val.file_names[shared[0]]!r}, ...); if they are the same pictures, figures of them "
        "say nothing about new images"
    ]


def _may_be_one(size: IntArray, other: IntArray) -> bool:
    return bool((size == other).all()) or not (size.all() and other.all())
