"""The only place that maps dataset category ids to labels and back.

Labels are 1..C in ascending order of the dataset ids of all categories of a file; 0 is the background.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from lt_data.arrays import IntArray
from lt_data.errors import DataError


class CategoryIds:
    """A two-way map between dataset ids (any distinct whole numbers) and labels 1..C.

    Args:
        dataset_ids: The ids of all categories of a file, in any order.

    Raises:
        DataError: An id occurs twice.
    """

    def __init__(self, dataset_ids: Iterable[int]) -> None:
        self.dataset_ids: IntArray = np.array(sorted(dataset_ids), np.int64)
        if len(np.unique(self.dataset_ids)) != len(self.dataset_ids):
            raise DataError("categories: an id occurs twice; ids must be unique")

    def __len__(self) -> int:
        """C, the number of categories."""
        return len(self.dataset_ids)

    def to_labels(self, dataset_ids: npt.ArrayLike) -> IntArray:
        """Labels 1..C of dataset ids, same shape.

        Raises:
            DataError: An id is not one of the categories.
        """
        ids = np.asarray(dataset_ids, np.int64)
        position = np.searchsorted(self.dataset_ids, ids)
        known = position < len(self)
        known[known] = self.dataset_ids[position[known]] == ids[known]
        if not known.all():
            raise DataError(f"category id {int(ids[~known].flat[0])} is not one of the {len(self)} categories")
        return (position + 1).astype(np.int64)

    def to_dataset(self, labels: npt.ArrayLike) -> IntArray:
        """Dataset ids of labels 1..C, same shape.

        Raises:
            DataError: A label is outside 1..C; the background has no dataset id.
        """
        labels = np.asarray(labels, np.int64)
        wrong = (labels < 1) | (labels > len(self))
        if wrong.any():
            raise DataError(f"label {int(labels[wrong].flat[0])} is outside 1..{len(self)}")
        ids: IntArray = self.dataset_ids[labels - 1]
        return ids
