"""Groups of an evaluation by name: bounds on training counts, a file, or fixed lists from the literature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from lt_data.counts.categories import CategoryCounts
from lt_data.counts.group_file import load_groups
from lt_data.counts.grouping import group_categories
from lt_data.errors import DataError
from lt_data.groups import Group, parse_edges

# COCO category ids as listed in the released code of BAGS (CVPR 2020), mmdet/core/evaluation/coco_utils.py
_COCO_LT_PAPER: Final = (
    Group("(0, 20)", 0, 20, (11, 14, 34, 90)),
    Group(
        "[20, 400)",
        20,
        400,
        (
            *(6, 13, 17, 18, 22, 23, 25, 36, 39, 40, 58, 59),
            *(65, 70, 73, 74, 76, 78, 79, 80, 81, 82, 87, 89),
        ),
    ),
    Group(
        "[400, 8000)",
        400,
        8000,
        (
            *(2, 5, 7, 19, 21, 24, 32, 33, 35, 37, 41, 42, 43, 46, 48, 49),
            *(50, 53, 54, 55, 56, 57, 60, 61, 63, 64, 72, 75, 77, 85, 86, 88),
        ),
    ),
    Group("[8000, ~)", 8000, None, (1, 3, 4, 8, 9, 10, 15, 16, 20, 27, 28, 31, 38, 44, 47, 51, 52, 62, 67, 84)),
)
GROUP_SETS: Final[Mapping[str, tuple[Group, ...]]] = {"coco-lt-paper": _COCO_LT_PAPER}


def needs_counts(name: str) -> bool:
    """Whether groups of this name are made of counts; the others are lists of categories."""
    return name.strip() not in GROUP_SETS and not Path(name.strip()).is_file()


def evaluation_groups(name_or_edges: str | Sequence[int], train_counts: CategoryCounts) -> tuple[Group, ...]:
    """The groups to average over; every category of the training set is in one of them.

    ``coco-lt-paper`` reproduces the AP1-AP4 columns published for COCO-LT (BAGS, CVPR 2020, supplement Table 2). Their
    AP is the mean of these four lists weighted by 4, 24, 32 and 20 classes, in all rows to 0.03 points; by the bounds
    10, 100, 1000 the data set that the supplement describes has 19, 29, 20 and 12 classes, which gives other means by
    2 to 6 points. The lists are the bins 20, 400, 8000 of another COCO-LT (SimCal, ECCV 2020, 666,493 instances), so
    they hold whatever the counts of the training file are: compare with those columns only by them.

    Args:
        name_or_edges: ``bags``, ``bags-2``, ``bags-8``, ``simcal`` (bounds on the instances of ``train_counts``),
            bounds such as ``10,100,1000``, ``coco-lt-paper``, or a groups file as ``data.groups`` takes it.
        train_counts: Counts of the training set.

    Raises:
        DataError: A name or bounds that do not exist, or lists for other categories than the training set's.
    """
    if not isinstance(name_or_edges, str):
        return group_categories(train_counts, name_or_edges)
    name = name_or_edges.strip()
    if name not in GROUP_SETS and Path(name).is_file():
        return load_groups(Path(name), train_counts).groups
    if name not in GROUP_SETS:
        try:
            return group_categories(train_counts, parse_edges(name))
        except DataError as error:
            others = f"{', '.join(GROUP_SETS)}, or a groups file"
            raise DataError([f"{line}; or {others}" for line in error.problems]) from None
    groups = GROUP_SETS[name]
    listed = [category for group in groups for category in group.category_ids]
    if not np.array_equal(np.sort(listed), np.sort(train_counts.category_ids)):
        raise DataError(
            f"groups {name}: made for the {len(listed)} categories of COCO, got {len(train_counts.category_ids)} "
            "(or other ids); give bounds such as 10,100,1000"
        )
    return groups
