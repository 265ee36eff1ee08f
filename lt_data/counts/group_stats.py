"""What a long-tailed file holds: categories, images and instances per group, as a table, CSV or JSON.

Shapes: A annotations.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.arrays import BoolArray
from lt_data.counts.categories import CategoryCounts, count_categories
from lt_data.counts.group_file import load_groups
from lt_data.counts.grouping import frequency_groups, group_categories
from lt_data.dataset.names import GROUPS, annotations_path, is_dataset_dir
from lt_data.errors import DataError
from lt_data.files.writing import check_output_file, write_whole
from lt_data.groups import (
    BAGS_EDGES,
    FREQUENCY_NAMES,
    MOST_COMMON,
    MOST_RARE,
    Group,
    GroupedFile,
    check_edges,
    empty_groups_sentence,
    groups_to_json,
    names_sentence,
)
from lt_data.progress import Progress

By = Literal["instances", "images", "frequency"]
BYS: Final[tuple[By, ...]] = get_args(By)
# what is printed, in the order of the contract
_FIGURES: Final = (
    *(
        "by",
        "categories",
        "images",
        "images_with_annotations",
        "images_with_crowds_only",
        "instances",
        "groups",
        "frequency",
        "frequency_source",
    ),
)


@dataclass(frozen=True)
class GroupCounts:
    """One group: categories in it, distinct images that hold one of them, and their instances."""

    name: str
    lower: int | None
    upper: int | None
    categories: int
    images: int
    instances: int


@dataclass(frozen=True)
class GroupStats:
    """Counts of the non-crowd annotations of a file.

    Attributes:
        by: What the groups are made by: ``instances``, ``images`` or ``frequency``.
        categories: Categories listed, with or without instances.
        images: Images listed.
        images_with_annotations: Images with at least one non-crowd annotation.
        images_with_crowds_only: Images whose annotations are all crowds.
        instances: Non-crowd annotations.
        groups: One row a group; by instances and by images, a category without any lies in the first.
        frequency: Categories that are rare (r), common (c) and frequent (f) by image count.
        frequency_source: ``field`` or ``counted``.
        members: The groups with their categories; not part of the figures.
        edges: The bounds that made the groups; ``None`` where no bounds on instances did.
        annotations: The file that was counted.
        without_instances: Categories of each group that have no instance.
    """

    by: str
    categories: int
    images: int
    images_with_annotations: int
    images_with_crowds_only: int
    instances: int
    groups: tuple[GroupCounts, ...]
    frequency: dict[str, int]
    frequency_source: str
    members: tuple[Group, ...]
    edges: tuple[int, ...] | None
    annotations: GroupedFile
    without_instances: tuple[int, ...]


def group_stats(
    path: Path | str, edges: Sequence[int] | None = None, *, by: str = "instances", progress: Progress | None = None
) -> GroupStats:
    """Statistics of a dataset directory or of any COCO or LVIS annotation file.

    Args:
        path: A directory written by ``lt-data build-coco-lt``, or an annotation file.
        edges: Ascending bounds between the groups; those of a dataset directory's ``groups.json``, else 10, 100, 1000.
        by: What the bounds count, ``instances`` or ``images`` of a category; ``frequency``: rare, common and frequent,
            as LVIS has them, without edges.
        progress: Called with the bytes read and the bytes in all.

    Raises:
        DataError: The path cannot be read, the edges are not ascending or do not go with ``by``, or the groups of the
            directory do not fit its annotations.
    """
    path = Path(path)
    check_by(by)
    if by == "frequency" and edges is not None:
        raise DataError(
            "--groups: rare, common and frequent have bounds of their own; leave it out, or use --by images"
        )
    own = path / GROUPS if edges is None and is_dataset_dir(path) else None
    file = read_annotations(annotations_path(path), only_matched=True, progress=progress)
    return stats_of(file, edges, by, own=own)


def check_by(by: str) -> None:
    """Raises DataError unless groups can be made by this."""
    if by not in BYS:
        raise DataError(f"--by: got '{by}'; allowed are {', '.join(BYS)}")


def stats_of(
    file: AnnotationFile, edges: Sequence[int] | None = None, by: str = "instances", *, own: Path | None = None
) -> GroupStats:
    """Statistics of an annotation file that has been read; with ``frequency`` the edges are not used.

    Args:
        file: The annotations.
        edges: Ascending bounds between the groups; those of ``own``, else 10, 100, 1000.
        by: As in :func:`group_stats`.
        own: A file of groups for these annotations.

    Raises:
        DataError: There is no such ``by``, or the groups of ``own`` do not fit.
    """
    check_by(by)
    counts = count_categories(file)
    found = load_groups(own, counts, sha256=file.sha256) if own is not None and by != "frequency" else None
    if edges is None:
        edges = (found.edges if found is not None else None) or BAGS_EDGES
    if found is not None and by == "instances":
        groups, made_by = found.groups, found.edges
    else:
        groups, made_by = _groups(counts, edges, by), check_edges(edges) if by == "instances" else None
    return GroupStats(
        by=by,
        categories=len(counts.category_ids),
        images=len(file.image_ids),
        images_with_annotations=_held(file, ~file.crowd),
        images_with_crowds_only=_held(file, np.ones(len(file.crowd), bool)) - _held(file, ~file.crowd),
        instances=int(counts.instances.sum()),
        groups=tuple(_group_counts(file, group) for group in groups),
        frequency={key: counts.frequencies.count(key) for key in FREQUENCY_NAMES},
        frequency_source=counts.frequency_source,
        members=groups,
        edges=made_by,
        annotations=GroupedFile(file.path.name, file.sha256),
        without_instances=tuple(_without_instances(counts, group) for group in groups),
    )


def _groups(counts: CategoryCounts, edges: Sequence[int], by: str) -> tuple[Group, ...]:
    if by == "frequency":
        return frequency_groups(counts)
    return group_categories(counts, edges, by="images" if by == "images" else "instances")


def _without_instances(counts: CategoryCounts, group: Group) -> int:
    """Categories of a group that no annotation has."""
    return int((np.isin(counts.category_ids, group.category_ids) & (counts.instances == 0)).sum())


def write_groups(path: Path, stats: GroupStats, *, force: bool = False) -> None:
    """Writes the groups as a file that ``data.groups`` takes; it appears whole or not at all.

    It has the layout of a dataset directory's ``groups.json``, and names the annotation file that it is made for.
    Groups by images or frequency have no bounds there: bounds in such a file count instances.

    Raises:
        OutputError: The file exists and ``force`` is not set, or it cannot be written.
    """
    path = Path(path)
    check_output_file(path, force=force)
    groups = stats.members
    if stats.by != "instances":
        groups = tuple(Group(group.name, None, None, group.category_ids) for group in groups)
    content = groups_to_json(groups, stats.edges, stats.annotations)
    write_whole(path, f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode())


def _group_counts(file: AnnotationFile, group: Group) -> GroupCounts:
    of_group = np.isin(file.categories.ids, group.category_ids)[file.category_index()] & ~file.crowd
    images, instances = _held(file, of_group), int(of_group.sum())
    return GroupCounts(group.name, group.lower, group.upper, len(group.category_ids), images, instances)


def _held(file: AnnotationFile, annotations: BoolArray) -> int:
    """Distinct images of some annotations, shape [A]."""
    images = np.zeros(len(file.image_ids), bool)
    images[file.image_index()[annotations]] = True
    return int(images.sum())


def share(part: int, whole: int) -> float:
    """``part / whole``, 0.0 of nothing."""
    return part / whole if whole else 0.0


def format_stats(stats: GroupStats, style: str = "table") -> str:
    """Statistics as text: ``table``, ``csv`` or ``json``."""
    return {"table": _as_table, "csv": _as_csv, "json": _as_json}[style](stats)


def _as_json(stats: GroupStats) -> str:
    content: dict[str, Any] = {key: getattr(stats, key) for key in _FIGURES}
    content["groups"] = [asdict(group) for group in stats.groups]
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_csv(stats: GroupStats) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["name", "lower", "upper", "categories", "images", "instances", "share"])
    for g in stats.groups:
        # None is an empty cell
        writer.writerow(
            [g.name, g.lower, g.upper, g.categories, g.images, g.instances, share(g.instances, stats.instances)]
        )
    return out.getvalue().rstrip("\n")


def _as_table(stats: GroupStats) -> str:
    width = max(14, *(len(g.name) + 2 for g in stats.groups))
    row = f"{{:<{width}}}{{:>12}}{{:>10}}{{:>12}}{{:>9}}".format
    lines = [row(f"by {stats.by}", "categories", "images", "instances", "share")]
    for g in stats.groups:
        percent = f"{share(g.instances, stats.instances):.1%}"
        lines.append(row(g.name, f"{g.categories:,}", f"{g.images:,}", f"{g.instances:,}", percent))
    percent = f"{share(stats.instances, stats.instances):.1%}"
    lines.append(
        row(
            "all",
            f"{stats.categories:,}",
            f"{stats.images_with_annotations:,}",
            f"{stats.instances:,}",
            percent,
        )
    )
    crowds = stats.images_with_crowds_only
    empty = stats.images - stats.images_with_annotations - crowds
    line = f"{stats.images:,} images in the file, {empty:,} of them without annotations"
    lines.append(f"{line}, {crowds:,} with crowds only" if crowds else line)
    if explained := names_sentence([g.name for g in stats.groups], "images" if stats.by == "images" else "instances"):
        lines.append(explained)
    empty_groups = [Group(g.name, g.lower, g.upper, ()) for g in stats.groups if not g.categories]
    lines += [empty_groups_sentence(empty_groups)] if empty_groups else []
    lines += _without_instances_lines(stats)
    lines.append("")
    counted = f"images <= {MOST_RARE}, <= {MOST_COMMON}, more"
    source = "the file's frequency field" if stats.frequency_source == "field" else counted
    by_name = ", ".join(f"{stats.frequency[key]:,} {name}" for key, name in FREQUENCY_NAMES.items())
    lines.append(f"categories by image count: {by_name} (by {source})")
    return "\n".join(lines)


def _without_instances_lines(stats: GroupStats) -> list[str]:
    """One line about categories that nothing can be learnt of, if there are any."""
    places = [f"{n:,} in {g.name}" for n, g in zip(stats.without_instances, stats.groups, strict=True) if n]
    return [f"{sum(stats.without_instances):,} without training instances: {', '.join(places)}"] if places else []
