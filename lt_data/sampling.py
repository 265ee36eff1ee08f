"""Choosing images and instances that meet a target per category.

Categories are served from the rarest rank to the most frequent one. All of them visit the images in one order, which
depends on the seed and the image ids alone, so the same inputs choose the same images on every machine.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from lt_data.annotation_records import sorted_unique
from lt_data.annotations import AnnotationFile, BoolArray, IntArray


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    Attributes:
        images: Images taken, shape [N].
        annotations: Annotations kept, shape [A].
        instances: Instances kept of each category, in the rows of the targets, shape [C].
    """

    images: BoolArray
    annotations: BoolArray
    instances: IntArray


def image_order(image_ids: IntArray, seed: int) -> IntArray:
    """Visiting order: positions of the images by ascending sha256 of ``"{seed}:{image_id}"``, shape [N]."""
    digests = [hashlib.sha256(f"{seed}:{image_id}".encode()).digest() for image_id in image_ids.tolist()]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


def select(
    file: AnnotationFile, category_ids: IntArray, targets: IntArray, *, serving_order: IntArray, seed: int
) -> Selection:
    """Takes images until every category has its target, or the pool has no more of it.

    A taken image keeps, in file order, every non-crowd instance whose category is still below its target; the rest of
    its annotations (surplus and crowds) are dropped.

    Args:
        file: The pool.
        category_ids: Dataset ids, ascending, shape [C].
        targets: Instances wanted, shape [C].
        serving_order: Rows of ``category_ids`` in the order in which they are served, shape [C].
        seed: Seed of the visiting order.

    Source: BAGS supplement, section 4.1 (steps c and d); the visiting order is ours, as it is not published.
    """
    pool = _PoolIndex(file, category_ids, seed)
    wanted = targets.tolist()
    have = [0] * len(wanted)
    images = np.zeros(len(file.image_ids), bool)
    annotations = np.zeros(len(file.annotation_ids), bool)
    for row in serving_order.tolist():
        for image in pool.images_with(row):
            if have[row] >= wanted[row]:
                break
            if images[image]:
                continue
            images[image] = True
            for annotation, category in pool.instances_of(image):
                if have[category] < wanted[category]:
                    have[category] += 1
                    annotations[annotation] = True
    return Selection(images, annotations, np.array(have, np.int64))


class _PoolIndex:
    """Non-crowd annotations by image (file order) and images by category (visiting order)."""

    def __init__(self, file: AnnotationFile, category_ids: IntArray, seed: int) -> None:
        kept = np.flatnonzero(~file.crowd)
        image = file.image_index()[kept]
        by_image = np.argsort(image, kind="stable")
        self._annotations = kept[by_image]
        self._rows = np.searchsorted(category_ids, file.annotation_category_ids[self._annotations])
        self._image_start = np.searchsorted(image[by_image], np.arange(len(file.image_ids) + 1))
        order = image_order(file.image_ids, seed)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        keys = sorted_unique(self._rows * max(len(order), 1) + place[image[by_image]])
        self._visits = order[keys % max(len(order), 1)]
        self._visit_start = np.searchsorted(keys // max(len(order), 1), np.arange(len(category_ids) + 1))

    def images_with(self, row: int) -> list[int]:
        """Images that hold an instance of the category, in visiting order."""
        visits: list[int] = self._visits[self._visit_start[row] : self._visit_start[row + 1]].tolist()
        return visits

    def instances_of(self, image: int) -> list[tuple[int, int]]:
        """(annotation, category row) of the image's non-crowd instances, in file order."""
        part = slice(self._image_start[image], self._image_start[image + 1])
        return list(zip(self._annotations[part].tolist(), self._rows[part].tolist(), strict=True))
