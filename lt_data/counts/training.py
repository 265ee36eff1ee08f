"""What a model was trained on, counted: from a dataset directory, an annotation file, or a CSV of counts.

Shapes: C categories.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from lt_data.annotations.file import read_annotations
from lt_data.counts.categories import CategoryCounts, count_categories
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError
from lt_data.files.csv_tables import LARGEST, other_columns, read_csv
from lt_data.groups import FREQUENCY_NAMES, frequency_of
from lt_data.progress import Progress

UNKNOWN: Final = -1


def load_train_counts(path: Path, *, progress: Progress | None = None) -> CategoryCounts:
    """Instances and images of each category of a training set.

    Args:
        path: A dataset directory, a COCO or LVIS annotation file, or a CSV with the columns ``category_id`` and
            ``instances``, if known also ``name``, ``images`` and ``frequency`` (a ``categories.csv`` of a dataset
            directory is one).
        progress: Called with the bytes read and the bytes in all.

    Returns:
        The counts, ascending by id. From a CSV without ``images``, images are :data:`UNKNOWN`; without ``images`` and
        ``frequency``, frequencies are empty texts.

    Raises:
        DataError: The path cannot be read, a column is missing, a cell is wrong or a category occurs twice.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return _from_csv(path)
    return count_categories(read_annotations(annotations_path(path), only_matched=True, progress=progress))


def _from_csv(path: Path) -> CategoryCounts:
    found, rows = read_csv(path)
    if not {"category_id", "instances"} <= set(found):
        raise other_columns(path, found, "'category_id' and 'instances'")
    if not rows:
        raise DataError(f"{path}: has no rows; list every category of the training set")
    ids = [row.whole("category_id", least=-LARGEST) for row in rows]
    if len(set(ids)) < len(ids):
        raise DataError(f"{path}: a category occurs twice; give every category one row")
    order = np.argsort(ids)
    rows, ids = [rows[i] for i in order], [ids[i] for i in order]
    instances = [row.whole("instances") for row in rows]
    images = [row.whole("images") if "images" in found else UNKNOWN for row in rows]
    stated = [row.cells.get("frequency") or "" for row in rows]
    from_field = all(letter in FREQUENCY_NAMES for letter in stated)
    counted = [frequency_of(n) if n != UNKNOWN else "" for n in images]
    return CategoryCounts(
        category_ids=np.array(ids, np.int64),
        names=tuple(row.cells.get("name") or str(key) for key, row in zip(ids, rows, strict=True)),
        instances=np.array(instances, np.int64),
        images=np.array(images, np.int64),
        frequencies=tuple(stated if from_field else counted),
        frequency_source="field" if from_field else "counted",
    )
