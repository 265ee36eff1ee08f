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
from lt_data.counts.grouping import frequency_groups, group_categories
from lt_data.dataset.directory import read_groups
from lt_data.dataset.names import annotations_path, is_dataset_dir
from lt_data.errors import DataError
from lt_data.groups import BAGS_EDGES, FREQUENCY_NAMES, MOST_COMMON, MOST_RARE, Group, empty_groups_sentence
from lt_data.progress import Progress

By = Literal["instances", "images", "frequency"]
BYS: Final[tuple[By, ...]] = get_args(By)


@dataclass(frozen=True)
class GroupCounts:
    """One group: categories in it, distinct images that hold one of them, and their instances."""

    name: str
    lower: int
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


def group_stats(
    path: Path, edges: Sequence[int] | None = None, *, by: str = "instances", progress: Progress | None = None
) -> GroupStats:
    """Statistics of a dataset directory or of any COCO or LVIS annotation file.

    Args:
        path: A directory written by ``lt-data build-coco-lt``, or an annotation file.
        edges: Ascending bounds between the groups; a dataset directory's own edges, else 10, 100, 1000.
        by: What the bounds count, ``instances`` or ``images`` of a category; ``frequency``: rare, common and frequent,
            as LVIS has them, without edges.
        progress: Called with the bytes read and the bytes in all.

    Raises:
        DataError: The path cannot be read, the edges are not ascending or do not go with ``by``.
    """
    path = Path(path)
    check_by(by)
    if by == "frequency" and edges is not None:
        raise DataError("--edges: rare, common and frequent have bounds of their own; leave it out, or use --by images")
    if edges is None:
        edges = read_groups(path)[0] if is_dataset_dir(path) else BAGS_EDGES
    return stats_of(read_annotations(annotations_path(path), only_matched=True, progress=progress), edges, by)


def check_by(by: str) -> None:
    """Raises DataError unless groups can be made by this."""
    if by not in BYS:
        raise DataError(f"--by: got '{by}'; allowed are {', '.join(BYS)}")


def stats_of(file: AnnotationFile, edges: Sequence[int], by: str = "instances") -> GroupStats:
    """Statistics of an annotation file that has been read; with ``frequency`` the edges are not used.

    Raises:
        DataError: There is no such ``by``.
    """
    check_by(by)
    counts = count_categories(file)
    groups = _groups(counts, edges, by)
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
    )


def _groups(counts: CategoryCounts, edges: Sequence[int], by: str) -> tuple[Group, ...]:
    if by == "frequency":
        return frequency_groups(counts)
    return group_categories(counts, edges, by="images" if by == "images" else "instances")


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
    content: dict[str, Any] = asdict(stats)
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_csv(stats: GroupStats) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["name", "lower", "upper", "categories", "images", "instances", "share"])
    for g in stats.groups:
        upper = "" if g.upper is None else g.upper
        writer.writerow(
            [g.name, g.lower, upper, g.categories, g.images, g.instances, share(g.instances, stats.instances)]
        )
    return out.getvalue().rstrip("\n")


def _as_table(stats: GroupStats) -> str:
    row = "{:<14}{:>12}{:>10}{:>12}{:>9}".format
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
    empty_groups = [Group(g.name, g.lower, g.upper, ()) for g in stats.groups if not g.categories]
    lines += [empty_groups_sentence(empty_groups)] if empty_groups else []
    lines.append("")
    counted = f"images <= {MOST_RARE}, <= {MOST_COMMON}, more"
    source = "the file's frequency field" if stats.frequency_source == "field" else counted
    by_name = ", ".join(f"{stats.frequency[key]:,} {name}" for key, name in FREQUENCY_NAMES.items())
    lines.append(f"categories by image count: {by_name} (by {source})")
    return "\n".join(lines)
