"""Annotations that count for more, or for something else, than their author meant.

Shapes: A annotations.
"""

from __future__ import annotations

import numpy as np

from lt_data.annotations.findings import FindingList
from lt_data.annotations.lists import FileColumns
from lt_data.arrays import BoolArray, FloatArray, IntArray, repeats


def repeated_objects(image_ids: IntArray, category_ids: IntArray, boxes: FloatArray, crowd: BoolArray) -> BoolArray:
    """Annotations that repeat an earlier one of the same image, category and box, [A].

    Crowds and annotations without a box are left out.

    Args:
        image_ids: [A].
        category_ids: [A].
        boxes: [A, 4].
        crowd: [A].
    """
    rows = np.flatnonzero(~crowd & np.isfinite(boxes).all(1))
    repeated = np.zeros(len(crowd), bool)
    repeated[rows] = repeats([image_ids[rows], category_ids[rows], *boxes[rows].T])
    return repeated


def mostly_crowds(crowd: BoolArray) -> bool:
    """Whether more annotations are crowds than objects; of COCO's own one in a hundred is.

    Args:
        crowd: [A].
    """
    return int(crowd.sum()) * 2 > len(crowd)


def check_objects(file: FileColumns, log: FindingList) -> None:
    """Objects that are listed twice or say ``ignore``, and a file without any or with more crowds than objects."""
    columns = file.annotations
    twice = repeated_objects(columns.image_ids, columns.category_ids, columns.boxes, columns.crowd)

    def describe(row: int) -> str:
        box = ", ".join(f"{v:g}" for v in columns.boxes[row])
        ids = f"image {columns.image_ids[row]}, category {columns.category_ids[row]}"
        return f"{file.annotation(row)}: {ids}, bbox [{box}]"

    log.add_many("LT109", np.flatnonzero(twice), describe)
    log.add_many("LT219", np.flatnonzero(columns.ignored & ~columns.crowd), file.annotation)
    count = len(columns.crowd)
    if "annotations" not in file.missing and columns.crowd.all():
        crowds = f"all {count:,} are crowds (CVAT writes brush masks so); if they are objects, set iscrowd: 0"
        log.add("LT220", f"annotations: {crowds if count else '[]'}")
    elif mostly_crowds(columns.crowd):
        log.add("LT221", f"annotations: {int(columns.crowd.sum()):,} of {count:,} are crowds")
