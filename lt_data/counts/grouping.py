"""Named group bounds, and grouping by instances, by images or by LVIS frequency.

Shapes: C categories, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lt_data.counts.categories import CategoryCounts
from lt_data.errors import DataError
from lt_data.groups import BAGS_EDGES, FREQUENCY_BOUNDS, FREQUENCY_NAMES, Group, make_groups

By = Literal["instances", "images"]


def group_categories(
    counts: CategoryCounts, edges: Sequence[int] = BAGS_EDGES, *, by: By = "instances"
) -> tuple[Group, ...]:
    """Every category in exactly one group; empty groups stay in the list.

    Args:
        counts: Counts of a training file.
        edges: Ascending bounds between the groups.
        by: What a bound is compared with: non-crowd ``instances``, as BAGS does, or distinct ``images``.

    Raises:
        DataError: The edges are not positive and ascending, or ``by`` is neither of the two.
    """
    if by not in ("instances", "images"):
        raise DataError(f"--by: got '{by}'; allowed are instances, images")
    return make_groups(counts.category_ids, counts.instances if by == "instances" else counts.images, edges)


def frequency_groups(counts: CategoryCounts) -> tuple[Group, ...]:
    """The categories that are ``rare``, ``common`` and ``frequent``, as three groups whose bounds count images.

    A category keeps the frequency of its file where the file states one for every category, whatever its images are.
    """
    ids = counts.category_ids.tolist()
    return tuple(
        Group(
            FREQUENCY_NAMES[key],
            *FREQUENCY_BOUNDS[key],
            tuple(i for i, frequency in zip(ids, counts.frequencies, strict=True) if frequency == key),
        )
        for key in FREQUENCY_NAMES
    )
