"""Repeat factors out of a file, made sure to fit an annotation file: one for each of its images.

Shapes: N images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from lt_data.arrays import FloatArray, IntArray, all_distinct, examples, positions_of
from lt_data.counts.repeat_factors import LARGEST_FACTOR
from lt_data.errors import DataError
from lt_data.files.csv_tables import LARGEST, Row, other_columns, read_csv, shown

COLUMNS: Final = ("image_id", "repeat_factor")
# more than any threshold gives
# images that a line names
NAMED: Final = 5
_WRITE_ANEW: Final = "write the file anew with lt-data repeat-factors PATH --out FILE"


def load_factors(path: Path, image_ids: IntArray) -> FloatArray:
    """The repeat factor of every image of an annotation file.

    Args:
        path: A ``repeat_factors.csv`` of a dataset directory, edited or not, or what ``lt-data repeat-factors --out``
            wrote; a row for each image, in any order.
        image_ids: The images of the annotation file, shape [N].

    Returns:
        Shape [N], in the order of ``image_ids``.

    Raises:
        DataError: The file cannot be read, lists an image that there is not, or one twice, lacks an image, or a factor
            is no number from 1 to 1,000,000: one line for each kind of mistake.
    """
    found, rows = read_csv(path)
    if not set(COLUMNS) <= set(found):
        raise other_columns(path, found, " and ".join(map(repr, COLUMNS)))
    ids = np.array([_image_id(row) for row in rows], np.int64)
    problems = [*_id_problems(ids, image_ids), *_factor_problems(rows)]
    if problems:
        raise DataError(f"{path}: {problem}" for problem in problems)
    factors = np.ones(len(image_ids))
    factors[positions_of(ids, image_ids)] = [_factor(row) for row in rows]
    return factors


def _image_id(row: Row) -> int:
    """A whole number; tables that went through other programs have 5.0 for 5."""
    text = row.text("image_id").strip()
    whole = text.removesuffix(".0")
    try:
        value = int(whole)
    except ValueError:
        value = LARGEST + 1
    if not -LARGEST <= value <= LARGEST:
        raise DataError(
            f"{row.path}: line {row.line}, image_id: got {shown(text)}; allowed is a whole number, the id of an image"
        )
    return value


def _id_problems(ids: IntArray, image_ids: IntArray) -> list[str]:
    """What is wrong with the images of the table."""
    problems = []
    unknown, missing = np.setdiff1d(ids, image_ids), np.setdiff1d(image_ids, ids)
    if len(unknown):
        problems.append(f"lists {_images(unknown)} that the annotations do not have; remove them, or {_WRITE_ANEW}")
    if len(ids) and not all_distinct(ids):
        values, times = np.unique(ids, return_counts=True)
        problems.append(f"lists {_images(values[times > 1])} more than once; keep one row for each image")
    if len(missing):
        problems.append(f"has no factor for {_images(missing)}; add a row for each, or {_WRITE_ANEW}")
    return problems


def _factor_problems(rows: Iterable[Row]) -> list[str]:
    wrong = [row for row in rows if not 1 <= _factor(row) <= LARGEST_FACTOR]
    if not wrong:
        return []
    cells = ", ".join(f"line {row.line} {shown(row.text('repeat_factor'))}" for row in wrong[:NAMED])
    more = f" and {len(wrong) - NAMED:,} more" if len(wrong) > NAMED else ""
    return [f"repeat_factor: got {cells}{more}; allowed are numbers from 1 to {LARGEST_FACTOR:,}, 1 repeats nothing"]


def _factor(row: Row) -> float:
    """The number in a cell, NaN where there is none."""
    try:
        return float(row.text("repeat_factor"))
    except ValueError:
        return math.nan


def _images(ids: IntArray) -> str:
    return f"{len(ids):,} image{'s' * (len(ids) != 1)} (ids {examples(ids, NAMED)})"
