"""What a long-tailed file holds: categories, images and instances per group, as a table, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lt_data.annotations import AnnotationFile, read_annotations
from lt_data.counts import category_image_pairs, count_categories
from lt_data.dataset_dir import ANNOTATIONS, is_dataset_dir, read_groups
from lt_data.errors import DataError
from lt_data.groups import BAGS_EDGES, FREQUENCY_NAMES, group_bounds, group_index


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
        categories: Categories listed, with or without instances.
        images: Images listed.
        images_with_annotations: Images with at least one non-crowd annotation.
        instances: Non-crowd annotations.
        groups: One row a group; a category without instances lies in the first.
        frequency: Categories that are rare (r), common (c) and frequent (f) by image count.
        frequency_source: ``field`` or ``counted``.
    """

    categories: int
    images: int
    images_with_annotations: int
    instances: int
    groups: tuple[GroupCounts, ...]
    frequency: dict[str, int]
    frequency_source: str


def group_stats(path: Path, edges: Sequence[int] | None = None) -> GroupStats:
    """Statistics of a dataset directory or of any COCO or LVIS annotation file.

    Args:
        path: A directory written by ``lt-data build-coco-lt``, or an annotation file.
        edges: Ascending bounds between the groups; a dataset directory's own edges, else 10, 100, 1000.

    Raises:
        DataError: The path cannot be read, or the edges are not ascending.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / ANNOTATIONS).is_file():
            raise DataError(f"{path}: no {ANNOTATIONS} in it; give a dataset directory or an annotation file")
        if edges is None and is_dataset_dir(path):
            edges = read_groups(path)[0]
        path = path / ANNOTATIONS
    return stats_of(read_annotations(path), edges or BAGS_EDGES)


def stats_of(file: AnnotationFile, edges: Sequence[int]) -> GroupStats:
    """Statistics of an annotation file that has been read."""
    counts = count_categories(file)
    index = group_index(counts.instances, edges)
    row, image = category_image_pairs(file, counts.category_ids)
    groups = tuple(
        GroupCounts(
            name=name,
            lower=lower,
            upper=upper,
            categories=int((index == g).sum()),
            images=len(np.unique(image[index[row] == g])),
            instances=int(counts.instances[index == g].sum()),
        )
        for g, (name, lower, upper) in enumerate(group_bounds(edges))
    )
    return GroupStats(
        categories=len(counts.category_ids),
        images=len(file.image_ids),
        images_with_annotations=len(np.unique(image)),
        instances=int(counts.instances.sum()),
        groups=groups,
        frequency={key: counts.frequencies.count(key) for key in FREQUENCY_NAMES},
        frequency_source=counts.frequency_source,
    )


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
    lines = [row("group", "categories", "images", "instances", "share")]
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
    empty = stats.images - stats.images_with_annotations
    lines.append(f"{stats.images:,} images in the file, {empty:,} of them without annotations")
    lines.append("")
    source = "the file's frequency field" if stats.frequency_source == "field" else "images <= 10, <= 100, more"
    by_name = ", ".join(f"{stats.frequency[key]:,} {name}" for key, name in FREQUENCY_NAMES.items())
    lines.append(f"categories by image count: {by_name} (by {source})")
    return "\n".join(lines)
