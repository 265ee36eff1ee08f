"""A build of a long-tailed dataset as data: its options, and what was chosen.

Shapes: A pool annotations, C categories.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import BoolArray, IntArray
from lt_data.build.alignment import Alignment
from lt_data.build.lvis_fields import NOTHING_REWRITTEN, Rewritten
from lt_data.build.references import Targets
from lt_data.build.sampling import Selection
from lt_data.counts.categories import CategoryCounts, Reference, category_image_pairs
from lt_data.dataset.options import BuildOptions
from lt_data.groups import Group

# what build.json says in words
ALIGNED = "floor(i * (n_ref - 1) / (n_pool - 1))"
EXPLICIT = "explicit targets"
IMAGE_ORDER = "sha256 of '{seed}:{image_id}', ascending"
WHY_DROPPED = "an instance is dropped when its category has its target already; crowds are always dropped"
WHY_IGNORED = "an instance beyond its category's target, or a crowd, is kept as a region that training ignores"
NOTHING_DROPPED = "nothing is dropped from a taken image"


@dataclass(frozen=True)
class Extras:
    """What comes into the dataset directory beside the annotations.

    Attributes:
        val: Validation annotations to check and copy, or ``None``.
        images: Image folder of the pool to link or copy the taken images from, or ``None``.
        copy_images: Copy instead of symbolic links.
    """

    val: Path | None = None
    images: Path | None = None
    copy_images: bool = False


@dataclass(frozen=True)
class Build:
    """A finished choice of images and instances, written or (dry run) not.

    Attributes:
        pool: The file that was sampled.
        pool_counts: Its counts; non-crowd unless ``targets`` counts crowds.
        reference: The distribution imitated, or ``None`` with explicit targets.
        targets: Explicit targets, or ``None``.
        options: How it was built.
        alignment: Targets by rank.
        selection: Images and annotations taken.
        images_rarest_first: Images that ``order="rarest-first"`` takes.
        groups: Groups by the instances that were realised.
        val: The validation file, or ``None``.
        image_paths: Where the taken images lie, in file order; empty unless they are to be materialised.
        warnings: What is odd about the reference, one line each; a part of the record.
        notes: What is odd about what was taken and about the validation file, one line each, for whoever builds.
        image_notes: Lines about where the images were found; no part of the record.
        rewritten: LVIS fields that are no longer the pool's.
    """

    pool: AnnotationFile
    pool_counts: CategoryCounts
    reference: Reference | None
    targets: Targets | None
    options: BuildOptions
    alignment: Alignment
    selection: Selection
    images_rarest_first: int
    groups: tuple[Group, ...]
    val: AnnotationFile | None = None
    image_paths: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    image_notes: tuple[str, ...] = field(default=())
    rewritten: Rewritten = NOTHING_REWRITTEN

    @property
    def count_crowds(self) -> bool:
        """Whether crowd annotations count as instances."""
        return self.targets is not None and self.targets.count_crowds

    @property
    def left_over(self) -> BoolArray:
        """Annotations of taken images that are not kept as instances, shape [A]."""
        return self.selection.images[self.pool.image_index()] & ~self.selection.annotations


def shortages(counts: CategoryCounts, alignment: Alignment) -> IntArray:
    """Ranks whose target is beyond what the pool holds, ascending."""
    return np.flatnonzero(counts.instances[alignment.order] < alignment.targets)


def left_over_counts(build: Build) -> tuple[int, int]:
    """Surplus instances and crowds of taken images that are not kept as instances."""
    instances = ~build.pool.crowd | build.count_crowds
    return int((build.left_over & instances).sum()), int((build.left_over & ~instances).sum())


def totals(build: Build) -> dict[str, int]:
    """Images, instances and categories of the result."""
    return {
        "images": int(build.selection.images.sum()),
        "instances": int(build.selection.annotations.sum()),
        "categories": len(build.pool_counts.category_ids),
    }


def kept_counts(build: Build) -> CategoryCounts:
    """Counts of the result: instances and images per category, in the rows of the pool's counts."""
    counts = build.pool_counts
    row, _ = category_image_pairs(build.pool, counts.category_ids, build.selection.annotations)
    images = np.bincount(row, minlength=len(counts.category_ids)).astype(np.int64)
    return replace(counts, instances=build.selection.instances, images=images)


def source_name(build: Build) -> str:
    """Where the targets come from, for people."""
    if build.targets is not None:
        return f"targets {build.targets.name}"
    assert build.reference is not None
    return f"reference {build.reference.name}"
