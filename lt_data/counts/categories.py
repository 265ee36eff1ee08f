"""Instances and images per category, of files and of the named reference distributions.

Shapes: C categories, A annotations.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import BoolArray, IntArray, positions_of, sorted_unique
from lt_data.errors import DataError
from lt_data.groups import frequency_of


@dataclass(frozen=True)
class CategoryCounts:
    """Non-crowd instances and images of each category, ascending by dataset id.

    Attributes:
        category_ids: Dataset ids, shape [C].
        names: C names.
        instances: Non-crowd annotations, shape [C].
        images: Distinct images with at least one of them, shape [C].
        frequencies: r, c or f for each category.
        frequency_source: ``field`` if the file's own ``frequency`` fields were used, ``counted`` if image counts were.
        total_images: Images of the file, with objects or without; 0 where that is not known.
    """

    category_ids: IntArray
    names: tuple[str, ...]
    instances: IntArray
    images: IntArray
    frequencies: tuple[str, ...]
    frequency_source: str
    total_images: int = 0


def count_categories(file: AnnotationFile, *, count_crowds: bool = False) -> CategoryCounts:
    """Counts the annotations of a file, crowds only where asked for."""
    order = np.argsort(file.categories.ids, kind="stable")
    ids = file.categories.ids[order]
    kept = np.ones(len(file.crowd), bool) if count_crowds else ~file.crowd
    row, _ = category_image_pairs(file, ids, kept)
    instances = np.bincount(file.category_index()[kept], minlength=len(ids))[order]
    images = np.bincount(row, minlength=len(ids))
    field = file.categories.frequencies
    frequencies = tuple(field[i] for i in order) if field else tuple(frequency_of(int(n)) for n in images)
    return CategoryCounts(
        category_ids=ids,
        names=tuple(file.categories.names[i] for i in order),
        instances=instances.astype(np.int64),
        images=images.astype(np.int64),
        frequencies=frequencies,
        frequency_source="field" if field else "counted",
        total_images=len(file.image_ids),
    )


def category_image_pairs(
    file: AnnotationFile, category_ids: IntArray, kept: BoolArray | None = None
) -> tuple[IntArray, IntArray]:
    """Distinct (category, image) pairs that hold a non-crowd annotation.

    Args:
        file: The annotation file.
        category_ids: Its dataset category ids, ascending, shape [C].
        kept: Annotations that count instead of the non-crowd ones, shape [A].

    Returns:
        Row in ``category_ids`` and position in ``file.image_ids`` of each pair, shape [P] each, sorted.
    """
    kept = ~file.crowd if kept is None else kept
    row = positions_of(file.categories.ids, category_ids)[file.category_index()[kept]]
    images = max(len(file.image_ids), 1)
    pairs = sorted_unique(row * images + file.image_index()[kept])
    return pairs // images, pairs % images


def header_mismatches(file: AnnotationFile) -> list[str]:
    """Warnings where a file's ``instance_count`` fields differ from its annotations."""
    counts = count_categories(file)
    order = np.argsort(file.categories.ids, kind="stable")
    header = file.categories.header_instances[order]
    wrong = np.flatnonzero((header >= 0) & (header != counts.instances))
    if not len(wrong):
        return []
    first = int(wrong[0])
    return [
        f"{file.path.name}: {len(wrong)} categories have an instance_count field that differs from their annotations "
        f"(first: {counts.names[first]!r}, field {header[first]}, counted {counts.instances[first]}); the counted "
        "figures are used"
    ]


@dataclass(frozen=True)
class Reference:
    """A distribution to imitate.

    Attributes:
        name: ``lvis-v0.5``, ``lvis-v1`` or a file's base name.
        instances: Instance counts of the categories that have any, descending, shape [n_ref].
        sha256: Digest of the file it was counted from, or ``None`` for an embedded one.
    """

    name: str
    instances: IntArray
    sha256: str | None = None


EMBEDDED: Final[Mapping[str, str]] = {"lvis-v0.5": "lvis-v0.5.csv", "lvis-v1": "lvis-v1.csv"}


def embedded_reference(name: str) -> Reference:
    """A reference distribution that comes with the package.

    Raises:
        DataError: There is none of that name.
    """
    if name not in EMBEDDED:
        raise DataError(f"--reference: got '{name}'; allowed are {', '.join(EMBEDDED)}")
    return Reference(name, _column(EMBEDDED[name], "instances"))


def reference_from_file(file: AnnotationFile) -> Reference:
    """The distribution of an annotation file; categories without instances are left out.

    Raises:
        DataError: No category has an instance.
    """
    instances = count_categories(file).instances
    instances = np.sort(instances[instances > 0])[::-1].copy()
    if not len(instances):
        raise DataError(f"{file.path}: no category has a non-crowd annotation; a reference needs at least one")
    return Reference(file.path.name, instances, file.sha256)


def coco_2017_counts() -> CategoryCounts:
    """Real counts of COCO train2017 without crowds: 80 categories, 849,949 instances.

    ``images`` are images with any annotation of the category, crowds included, as published.
    """
    rows = read_table("coco-2017.csv")
    images = np.array([int(row["images"]) for row in rows], np.int64)
    return CategoryCounts(
        category_ids=np.array([int(row["category_id"]) for row in rows], np.int64),
        names=tuple(row["name"] for row in rows),
        instances=np.array([int(row["instances"]) for row in rows], np.int64),
        images=images,
        frequencies=tuple(frequency_of(int(n)) for n in images),
        frequency_source="counted",
    )


def _column(table: str, column: str) -> IntArray:
    return np.array([int(row[column]) for row in read_table(table)], np.int64)


def read_table(table: str) -> list[dict[str, str]]:
    """The rows of a table that comes with the package."""
    text = resources.files("lt_data.reference").joinpath(table).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def counts_to_plain(counts: CategoryCounts) -> dict[str, Any]:
    """Counts as numbers, text and lists, for checkpoints and JSON."""
    return {
        "ids": counts.category_ids.tolist(),
        "names": list(counts.names),
        "instances": counts.instances.tolist(),
        "images": counts.images.tolist(),
        "frequencies": list(counts.frequencies),
        "frequency_source": counts.frequency_source,
        "total_images": counts.total_images,
    }


def counts_from_plain(content: Mapping[str, Any]) -> CategoryCounts:
    """The counts that :func:`counts_to_plain` wrote."""
    return CategoryCounts(
        category_ids=np.array(content["ids"], np.int64),
        names=tuple(content["names"]),
        instances=np.array(content["instances"], np.int64),
        images=np.array(content["images"], np.int64),
        frequencies=tuple(content["frequencies"]),
        frequency_source=content["frequency_source"],
        # runs of older versions do not have it
        total_images=content.get("total_images", 0),
    )
