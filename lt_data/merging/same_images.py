"""Images that several files list.

Shapes: N images of a file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lt_data.annotations.file import AnnotationFile
from lt_data.errors import DataError
from lt_data.files.image_files import normal_name
from lt_data.files.writing import sha256_of


class Twin(NamedTuple):
    """An image that an earlier file has too: file and row of both."""

    file: int
    row: int
    first_file: int
    first_row: int


def same_images(files: Sequence[AnnotationFile], folders: Sequence[Path] = ()) -> list[Twin]:
    """Images of later files that are images of earlier ones.

    By their names and sizes, where one that is not known equals all; with image folders by their bytes instead, under
    whatever names.

    Args:
        files: What is merged.
        folders: One image folder for all files, or one for each.

    Raises:
        DataError: An image file is missing, or there are neither one nor as many folders as files.
    """
    keys = _by_bytes(files, folders) if folders else [[normal_name(name) for name in f.file_names] for f in files]
    first: dict[str, list[tuple[int, int]]] = defaultdict(list)
    twins = []
    for number, (file, of_file) in enumerate(zip(files, keys, strict=True)):
        for row, key in enumerate(of_file):
            earlier = [place for place in first[key] if place[0] < number] if key else []
            found = [place for place in earlier if folders or _may_be_one(files[place[0]], place[1], file, row)]
            if found:
                twins.append(Twin(number, row, *found[0]))
            else:
                first[key].append((number, row))
    return twins


def _may_be_one(one: AnnotationFile, row: int, other: AnnotationFile, other_row: int) -> bool:
    sizes = one.image_sizes[row], other.image_sizes[other_row]
    return bool((sizes[0] == sizes[1]).all()) or not (sizes[0].all() and sizes[1].all())


def _by_bytes(files: Sequence[AnnotationFile], folders: Sequence[Path]) -> list[list[str]]:
    """A key for each image that is equal where the bytes of its file are; only files of one length are read."""
    if len(folders) not in (1, len(files)):
        raise DataError(f"images: got {len(folders)} folders for {len(files)} files; give one for all, or one for each")
    each = list(folders) * len(files) if len(folders) == 1 else list(folders)
    paths = [file.find_images(folder).paths for file, folder in zip(files, each, strict=True)]
    lengths: dict[int, int] = defaultdict(int)
    for path in (path for of_file in paths for path in of_file):
        lengths[path.stat().st_size] += 1
    return [[_key(path, lengths) for path in of_file] for of_file in paths]


def _key(path: Path, lengths: dict[int, int]) -> str:
    size = path.stat().st_size
    return sha256_of(path) if lengths[size] > 1 else f"alone with {size} bytes"
