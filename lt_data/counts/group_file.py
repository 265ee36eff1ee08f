"""Groups out of a file, made sure to fit an annotation file: any partition of its categories into named groups.

Shapes: C categories, G groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lt_data.arrays import IntArray
from lt_data.counts.categories import CategoryCounts
from lt_data.dataset.directory import read_groups_file
from lt_data.errors import DataError, one_line
from lt_data.groups import Group

# categories that a line names
NAMED: Final = 5


@dataclass(frozen=True)
class FittedGroups:
    """Groups of a file that fits.

    Attributes:
        groups: In the order of the file, categories ascending by id.
        edges: The bounds between them; ``None`` where no bounds make them.
        moved: A line about categories whose count is no longer within the bounds of their group; empty without any.
    """

    groups: tuple[Group, ...]
    edges: tuple[int, ...] | None
    moved: str


def load_groups(path: Path, counts: CategoryCounts, *, sha256: str | None = None) -> FittedGroups:
    """The groups of a file, for an annotation file with these counts.

    Args:
        path: A ``groups.json`` of a dataset directory, edited or not, or what ``lt-data group-stats --write`` wrote.
        counts: Counts of the training file, C categories.
        sha256: Digest of the training file; compared where the groups file names another, left alone if ``None``.

    Raises:
        DataError: The file cannot be read, is made for another annotation file, or its groups are no partition of
            the categories: one line for each kind of mistake.
    """
    found = read_groups_file(path)
    stated = found.annotations
    if stated is not None and sha256 is not None and stated.sha256 != sha256:
        raise DataError(
            f"{path}: made for {stated.name} with sha256 {stated.sha256[:12]}, but the annotations have {sha256[:12]}; "
            "write it anew with lt-data group-stats PATH --write FILE, or remove 'annotations' from it to use it as "
            "it is"
        )
    groups = tuple(Group(g.name, g.lower, g.upper, tuple(sorted(g.category_ids))) for g in found.groups)
    problems = partition_problems(groups, counts.category_ids, counts.names)
    if problems:
        raise DataError(f"{path}: {problem}" for problem in problems)
    moved = _moved(groups, counts)
    return FittedGroups(groups, found.edges, f"{path}: {moved}" if moved else "")


def partition_problems(groups: Sequence[Group], category_ids: IntArray, names: Sequence[str]) -> list[str]:
    """Why groups do not part the categories, one line for each kind of mistake.

    Args:
        groups: G groups.
        category_ids: Dataset ids, shape [C].
        names: C names.
    """
    name_of = dict(zip(category_ids.tolist(), names, strict=True))
    listed = Counter(category_id for group in groups for category_id in group.category_ids)
    unknown = sorted(category_id for category_id in listed if category_id not in name_of)
    doubled = [category_id for category_id, times in listed.items() if times > 1]
    missing = [category_id for category_id in name_of if category_id not in listed]
    problems = _name_problems([group.name for group in groups])
    if unknown:
        problems.append(
            f"lists {_of(len(unknown), 'category', 'categories')} that the annotations do not have (ids "
            f"{_some(unknown)}); remove them, or use the file that was made for these annotations"
        )
    if doubled:
        places = (f"{i} in {', '.join(g.name for g in groups if i in g.category_ids)}" for i in sorted(doubled))
        problems.append(
            f"lists {_of(len(doubled), 'category', 'categories')} more than once ({_some(places)}); every category "
            "belongs to one group, keep it in one place"
        )
    if missing:
        problems.append(
            f"{_of(len(missing), 'category is', 'categories are')} in no group "
            f"({_some(f'{i} {name_of[i]!r}' for i in sorted(missing))}); add each to one group"
        )
    return problems


def _name_problems(names: Sequence[str]) -> list[str]:
    problems = []
    # a name is a key of metrics.json, a column of tables and a word of lines
    strange = [name for name in names if not name.strip() or one_line(name) != name]
    if strange:
        problems.append(f"a group is called {strange[0]!r}; allowed is a text of one line, name the group")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        problems.append(f"more than one group is called {twice[0]!r}; give every group a name of its own")
    return problems


def _moved(groups: Sequence[Group], counts: CategoryCounts) -> str:
    """Which categories lie in a group whose bounds do not hold their count."""
    ids = counts.category_ids.tolist()
    name_of = dict(zip(ids, counts.names, strict=True))
    instances_of = dict(zip(ids, counts.instances.tolist(), strict=True))
    outside = [
        f"{category_id} {name_of[category_id]!r} has {instances_of[category_id]} in {group.name}"
        for group in groups
        for category_id in group.category_ids
        if not group.holds(instances_of[category_id])
    ]
    if not outside:
        return ""
    return (
        f"{_of(len(outside), 'category has', 'categories have')} an instance count outside the bounds of the group in "
        f"the file ({_some(outside)}); the groups are used as they are in the file"
    )


def _of(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _some(things: Iterable[object]) -> str:
    shown = list(map(str, things))
    return ", ".join(shown[:NAMED]) + (f" and {len(shown) - NAMED:,} more" if len(shown) > NAMED else "")
