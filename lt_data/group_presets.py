"""Named group bounds, and grouping by instances, by images or by LVIS frequency.

Shapes: C categories, G groups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from lt_data.counts import CategoryCounts
from lt_data.errors import DataError
from lt_data.groups import BAGS_EDGES, FREQUENCY_NAMES, Group, check_edges, make_groups

By = Literal["instances", "images"]

# bags, bags-2, bags-8: the groupings of the released code of BAGS (CVPR 2020); simcal: powers of 20, as in the released
# evaluation of SimCal (ECCV 2020)
PRESETS: Final[Mapping[str, tuple[int, ...]]] = {
    "bags": BAGS_EDGES,
    "bags-2": (100,),
    "bags-8": (5, 10, 50, 100, 500, 1000, 5000),
    "simcal": (20, 400, 8000),
}

# LVIS counts images inclusively: rare is 1-10, common 11-100
_FREQUENCY_BOUNDS: Final[Mapping[str, tuple[int, int | None]]] = {"r": (0, 11), "c": (11, 101), "f": (101, None)}
_NUMBERS = re.compile(r"\s*\d{1,15}\s*(,\s*\d{1,15}\s*)*", re.ASCII)


def parse_edges(text: str) -> tuple[int, ...]:
    """Ascending bounds between groups from a preset's name or from numbers.

    Args:
        text: ``bags``, ``bags-2``, ``bags-8``, ``simcal``, or whole numbers such as ``10,100,1000``.

    Raises:
        DataError: Neither a preset nor positive whole numbers in ascending order; the presets are listed.
    """
    if text.strip() in PRESETS:
        return PRESETS[text.strip()]
    if not _NUMBERS.fullmatch(text):
        presets = ", ".join(f"{name} ({','.join(map(str, edges))})" for name, edges in PRESETS.items())
        raise DataError(
            f"edges: got '{text}'; allowed are the presets {presets}, "
            "or positive whole numbers in ascending order, for example 10,100,1000"
        )
    return check_edges([int(part) for part in text.split(",")])


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
            *_FREQUENCY_BOUNDS[key],
            tuple(i for i, frequency in zip(ids, counts.frequencies, strict=True) if frequency == key),
        )
        for key in FREQUENCY_NAMES
    )


def empty_groups_sentence(groups: Sequence[Group]) -> str:
    """One sentence that names the groups without a category, or an empty text if there is none."""
    empty = [group.name for group in groups if not group.category_ids]
    if not empty:
        return ""
    if len(empty) == 1:
        return f"group {empty[0]} is empty: no category lies in it"
    return f"groups {', '.join(empty[:-1])} and {empty[-1]} are empty: no category lies in them"
