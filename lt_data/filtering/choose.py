"""Choosing images, categories and annotations of a file.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import BoolArray
from lt_data.errors import DataError
from lt_data.filtering.options import FilterOptions
from lt_data.pictures.show import find_category

_MOST_NAMED: Final = 3


class Choice(NamedTuple):
    """What is kept: images [N], annotations [A] and categories [C]; and why annotations are not, by reason."""

    images: BoolArray
    annotations: BoolArray
    categories: BoolArray
    dropped: dict[str, int]


def choose(file: AnnotationFile, options: FilterOptions) -> Choice:
    """What of a file the options keep.

    Raises:
        DataError: An option is out of range, names what the file does not have, or nothing would be left.
    """
    _check(file, options)
    images = _images(file, options.images)
    categories = _categories(file, options)
    of_images, of_categories = images[file.image_index()], categories[file.category_index()]
    large = _large_enough(file, options.min_size)
    kept = of_images & of_categories & large
    left = np.bincount(file.category_index()[kept & ~file.crowd], minlength=len(categories))
    frequent = left >= options.min_instances
    kept_at_last = kept & frequent[file.category_index()]
    if options.drop_empty:
        used = np.zeros(len(images), bool)
        used[file.image_index()[kept_at_last]] = True
        images = images & used
    dropped = {
        "of images that were dropped": int((~of_images).sum()),
        "of categories that were dropped": int((of_images & ~of_categories).sum()),
        "too small": int((of_images & of_categories & ~large).sum()),
        "of categories with too few instances": int((kept & ~kept_at_last).sum()),
    }
    choice = Choice(images, kept_at_last, categories & frequent, dropped)
    _refuse_nothing(file, choice)
    return choice


def _check(file: AnnotationFile, options: FilterOptions) -> None:
    if options.categories and options.drop_categories:
        raise DataError(f"{file.path}: categories to keep and to drop are both given; give one of them")
    if not (math.isfinite(options.min_size) and options.min_size >= 0):
        raise DataError(f"min-size: got {options.min_size}; allowed is a number of pixels from 0 on")
    if options.min_instances < 0:
        raise DataError(f"min-instances: got {options.min_instances}; allowed is a whole number from 0 on")


def _categories(file: AnnotationFile, options: FilterOptions) -> BoolArray:
    given = options.categories or options.drop_categories
    option = "--categories" if options.categories else "--drop-categories"
    rows = [find_category(file.categories, name, str(file.path), option) for name in given]
    found = np.zeros(len(file.categories.ids), bool)
    found[rows] = True
    return found if options.categories else ~found


def _images(file: AnnotationFile, wanted: str | Path | None) -> BoolArray:
    if wanted is None:
        return np.ones(len(file.image_ids), bool)
    if Path(wanted).is_file():
        return _listed(file, Path(wanted))
    kept = np.array([fnmatchcase(name, str(wanted)) for name in file.file_names], bool)
    if not kept.any():
        example = f", for example {file.file_names[0]!r}" if file.file_names else ""
        raise DataError(
            f"{file.path}: --images: no file_name is like {str(wanted)!r}{example}; give a pattern, or a text file "
            "of names"
        )
    return kept


def _listed(file: AnnotationFile, path: Path) -> BoolArray:
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a text file in UTF-8, one file_name a line") from None
    missing = sorted(set(names) - set(file.file_names))
    if missing or not names:
        shown = ", ".join(map(repr, missing[:_MOST_NAMED])) + (", ..." if len(missing) > _MOST_NAMED else "")
        got = f"{len(missing):,} of {len(names):,} names are no file_name of {file.path} ({shown})"
        raise DataError(f"{path}: {got if names else 'holds no names'}; write one file_name a line, as the file has it")
    wanted = set(names)
    return np.array([name in wanted for name in file.file_names], bool)


def _large_enough(file: AnnotationFile, least: float) -> BoolArray:
    """Crowds, and objects whose box has no side below so many pixels; of an unknown size nobody knows that."""
    if not least:
        return np.ones(len(file.crowd), bool)
    sides = file.boxes[:, 2:]
    return np.asarray(file.crowd | ~(sides < least).any(1), bool)


def _refuse_nothing(file: AnnotationFile, choice: Choice) -> None:
    for what, kept in (("image", choice.images), ("category", choice.categories)):
        if not kept.any():
            raise DataError(f"{file.path}: no {what} would be left; ask for less")


def names_in(text: str) -> tuple[str, ...]:
    """Names or ids from ``"cat,dog"``; a comma in a name has a backslash before it."""
    parts = text.replace("\\,", "\0").split(",")
    return tuple(part.replace("\0", ",").strip() for part in parts if part.strip())


def dropped_names(names: Sequence[str], kept: BoolArray) -> list[str]:
    """The names that are not kept, in file order."""
    return [name for name, is_kept in zip(names, kept.tolist(), strict=True) if not is_kept]
