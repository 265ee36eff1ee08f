"""Groups: categories whose training instance count lies in one [lower, upper) bin, or any partition that a file has.

Shapes: C categories, G groups, E = G - 1 edges.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from lt_data.errors import DataError, shown

Frequency = Literal["r", "c", "f"]

BAGS_EDGES = (10, 100, 1000)
FREQUENCY_NAMES: dict[Frequency, str] = {"r": "rare", "c": "common", "f": "frequent"}
# training images that a rare and a common category of LVIS has at most
MOST_RARE, MOST_COMMON = 10, 100
# [lower, upper) bounds of the images, as groups have them
FREQUENCY_BOUNDS: Final[Mapping[Frequency, tuple[int, int | None]]] = {
    "r": (0, MOST_RARE + 1),
    "c": (MOST_RARE + 1, MOST_COMMON + 1),
    "f": (MOST_COMMON + 1, None),
}
GROUPS_SCHEMA = 1
# bounds in a message
_MOST_LISTED: Final = 10
_WRITE_ANEW: Final = "mend it, or write it anew with lt-data group-stats PATH --write FILE"


@dataclass(frozen=True)
class Group:
    """Categories with ``lower <= instances < upper``, or those that somebody put together.

    Attributes:
        name: As written in the literature: ``(0, 10)``, ``[10, 100)``, ..., ``[1000, ~)``; or any other.
        lower: Smallest instance count of the group, or ``None`` where no count says who is in it.
        upper: First count beyond the group; ``None`` in the last group, and where no count says who is in it.
        category_ids: Dataset ids, ascending.
    """

    name: str
    lower: int | None
    upper: int | None
    category_ids: tuple[int, ...]

    def holds(self, instances: int) -> bool:
        """Whether a category with so many instances lies within the bounds; a group without bounds holds any."""
        return (self.lower is None or self.lower <= instances) and (self.upper is None or instances < self.upper)


def check_edges(edges: Sequence[int], where: str = "edges") -> tuple[int, ...]:
    """Edges as a tuple, once they are known to be positive and ascending.

    Args:
        edges: Bounds between groups.
        where: What the message calls them.

    Raises:
        DataError: The edges are empty, not positive, or not strictly ascending.
    """
    edges = tuple(int(edge) for edge in edges)
    ascending = all(a < b for a, b in pairwise(edges))
    if not edges or edges[0] <= 0 or not ascending:
        sorted_ones = sorted({edge for edge in edges if edge > 0}) or BAGS_EDGES
        raise DataError(
            f"{where}: got {_listed(edges) or 'none'}; "
            f"allowed are positive whole numbers in ascending order, for example {_listed(sorted_ones)}"
        )
    return edges


def _listed(edges: Sequence[int]) -> str:
    """Bounds as they are typed; the first ones of many."""
    return ",".join(map(str, edges[:_MOST_LISTED])) + ",..." * (len(edges) > _MOST_LISTED)


def group_bounds(edges: Sequence[int]) -> list[tuple[str, int, int | None]]:
    """Name, lower and upper bound of each of the ``len(edges) + 1`` groups."""
    edges = check_edges(edges)
    bounds: list[tuple[str, int, int | None]] = [(f"(0, {edges[0]})", 0, edges[0])]
    bounds += [(f"[{a}, {b})", a, b) for a, b in pairwise(edges)]
    return [*bounds, (f"[{edges[-1]}, ~)", edges[-1], None)]


def group_index(instances: npt.ArrayLike, edges: Sequence[int]) -> npt.NDArray[np.int64]:
    """Group number (0-based) of each instance count; a count on an edge belongs to the upper group.

    Args:
        instances: Instance counts, shape [C].
        edges: Ascending bounds between the groups.

    Source: BAGS (CVPR 2020), section 4.1 and the released code's ``get_split``.
    """
    return np.searchsorted(np.asarray(check_edges(edges)), np.asarray(instances), side="right").astype(np.int64)


def make_groups(
    category_ids: npt.ArrayLike, instances: npt.ArrayLike, edges: Sequence[int] = BAGS_EDGES
) -> tuple[Group, ...]:
    """Every category in exactly one group, by its instance count; empty groups stay in the list.

    Args:
        category_ids: Dataset ids, shape [C].
        instances: Instance counts in the training file, shape [C].
        edges: Ascending bounds between the groups.

    Raises:
        DataError: The edges are not positive and ascending.
    """
    ids = np.asarray(category_ids, dtype=np.int64)
    index = group_index(instances, edges)
    return tuple(
        Group(name, lower, upper, tuple(sorted(ids[index == g].tolist())))
        for g, (name, lower, upper) in enumerate(group_bounds(edges))
    )


def group_name_of(groups: Sequence[Group]) -> dict[int, str]:
    """Dataset category id -> name of its group."""
    return {category_id: group.name for group in groups for category_id in group.category_ids}


def frequency_of(images: int) -> Frequency:
    """LVIS frequency of a category with ``images`` training images: r <= 10, c <= 100, f above.

    Source: the ``frequency`` field of LVIS v0.5 and v1, which follows this rule for every category.
    """
    if images <= MOST_RARE:
        return "r"
    return "c" if images <= MOST_COMMON else "f"


def groups_to_json(
    groups: Sequence[Group], edges: Sequence[int] | None, annotations: GroupedFile | None = None
) -> dict[str, Any]:
    """The content of ``groups.json``.

    Args:
        groups: The groups.
        edges: The bounds between them, or ``None`` if no bounds say who is in them.
        annotations: The file that they are made for, to be named in the content; a build has it in its record.
    """
    rows = [{"name": g.name, "lower": g.lower, "upper": g.upper, "category_ids": list(g.category_ids)} for g in groups]
    source = {} if annotations is None else {"annotations": msgspec.to_builtins(annotations)}
    return {"schema": GROUPS_SCHEMA, **source, "edges": None if edges is None else list(edges), "groups": rows}


class GroupedFile(msgspec.Struct, frozen=True):
    """The annotation file that a groups file was made for: its base name and the sha256 of its content."""

    name: str
    sha256: str


class _GroupRow(msgspec.Struct):
    name: str
    category_ids: list[Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]]
    lower: int | None = None
    upper: int | None = None


class _GroupsContent(msgspec.Struct):
    groups: Annotated[list[_GroupRow], msgspec.Meta(min_length=1)]
    edges: list[int] | None = None
    annotations: GroupedFile | None = None


@dataclass(frozen=True)
class GroupsFile:
    """The content of ``groups.json``, typed.

    Attributes:
        groups: In the order of the file; their categories are in its order too.
        edges: The bounds between the groups; ``None`` where there are none, or where they are not the groups' own.
        annotations: The annotation file that it was made for, where it says so.
    """

    groups: tuple[Group, ...]
    edges: tuple[int, ...] | None
    annotations: GroupedFile | None


def parse_groups(content: object, where: str) -> GroupsFile:
    """The content of ``groups.json``, typed; whether it fits an annotation file is not asked here.

    Args:
        content: The parsed JSON.
        where: File name for the error message.

    Raises:
        DataError: The content is no object, the schema is unknown, or a value is missing or of another type.
    """
    if not isinstance(content, Mapping):
        raise DataError(f"{where}: not a JSON object; {_WRITE_ANEW}")
    if content.get("schema") != GROUPS_SCHEMA:
        raise DataError(f"{where}: schema is {content.get('schema')!r}; this version reads schema {GROUPS_SCHEMA}")
    try:
        # ids as text and 5.0 for 5 are read, 5.5 is not
        found = msgspec.convert(content, _GroupsContent, strict=False)
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: not a groups file ({error}); {_WRITE_ANEW}") from None
    groups = tuple(Group(row.name, row.lower, row.upper, tuple(row.category_ids)) for row in found.groups)
    return GroupsFile(groups, _own_edges(found.edges, groups, where), found.annotations)


def _own_edges(edges: Sequence[int] | None, groups: Sequence[Group], where: str) -> tuple[int, ...] | None:
    """The edges that a file states, if the bounds of its groups are theirs."""
    if edges is None:
        return None
    try:
        bounds = [(lower, upper) for _, lower, upper in group_bounds(edges)]
    except DataError as error:
        raise DataError(
            f"{where}: {line}, or null where no bounds make the groups" for line in error.problems
        ) from None
    return tuple(edges) if bounds == [(g.lower, g.upper) for g in groups] else None


def groups_from_json(content: Mapping[str, Any], where: str) -> tuple[tuple[int, ...] | None, tuple[Group, ...]]:
    """Edges and groups out of the content of ``groups.json``; edges are ``None`` where no bounds make the groups.

    Args:
        content: The parsed file.
        where: File name for the error message.

    Raises:
        DataError: The content is no object, the schema is unknown, or a value is missing or of another type.
    """
    found = parse_groups(content, where)
    return found.edges, found.groups


# bags, bags-2, bags-8: the groupings of the released code of BAGS (CVPR 2020); simcal: powers of 20, as in the released
# evaluation of SimCal (ECCV 2020)
PRESETS: Final[Mapping[str, tuple[int, ...]]] = {
    "bags": BAGS_EDGES,
    "bags-2": (100,),
    "bags-8": (5, 10, 50, 100, 500, 1000, 5000),
    "simcal": (20, 400, 8000),
}


_NUMBERS = re.compile(r"\s*\d{1,15}\s*(,\s*\d{1,15}\s*)*", re.ASCII)
_LOWER_BOUND = re.compile(r"\[(\d{1,15}), ", re.ASCII)


def are_edges(text: str) -> bool:
    """Whether a text is meant as bounds: a preset's name, or whole numbers with commas, in whatever order."""
    return text.strip() in PRESETS or _NUMBERS.fullmatch(text) is not None


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
            f"--groups: got {shown(text)}; allowed are the presets {presets}, "
            "or positive whole numbers in ascending order, for example 10,100,1000"
        )
    return check_edges([int(part) for part in text.split(",")], "--groups")


def empty_groups_sentence(groups: Sequence[Group]) -> str:
    """One sentence that names the groups without a category, or an empty text if there is none."""
    empty = [group.name for group in groups if not group.category_ids]
    if not empty:
        return ""
    if len(empty) == 1:
        return f"group {empty[0]} is empty: no category lies in it"
    return f"groups {', '.join(empty[:-1])} and {empty[-1]} are empty: no category lies in them"


def names_sentence(names: Sequence[str], what: str = "instances") -> str:
    """One sentence that explains the names of groups as they are in the literature; empty for other names.

    Args:
        names: Of all groups, the one with the fewest first.
        what: What their bounds count.
    """
    if not names_are_bounds(names):
        return ""
    edges = _edges_of(names)
    return f"{names[0]} holds categories of 0 to {edges[0] - 1} {what}, {names[-1]} of {edges[-1]} and more"


def names_are_bounds(names: Sequence[str]) -> bool:
    """Whether groups of these names, in this order, are those that some edges make."""
    edges = _edges_of(names)
    ascending = bool(edges) and edges[0] > 0 and all(a < b for a, b in pairwise(edges))
    return ascending and [name for name, _, _ in group_bounds(edges)] == list(names)


def _edges_of(names: Sequence[str]) -> list[int]:
    return [int(match[1]) for name in names if (match := _LOWER_BOUND.match(name))]
