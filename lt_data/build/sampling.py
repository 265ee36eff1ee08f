"""Choosing images and instances that meet a target per category.

All orders visit the images by a hash of the seed and their ids, so the same inputs choose the same images on every
machine.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from dataclasses import dataclass

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import BoolArray, IntArray, all_distinct, positions_of, sorted_unique, stable_argsort
from lt_data.dataset.options import Order


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
    first = np.frombuffer(b"".join(digests), ">u8")[::4].astype(np.uint64)
    if all_distinct(first):
        # the first eight bytes tell all digests apart, as good as always
        return np.argsort(first)
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


def select(
    file: AnnotationFile,
    category_ids: IntArray,
    targets: IntArray,
    *,
    serving_order: IntArray,
    seed: int,
    order: Order = "rarest-first",
    count_crowds: bool = False,
) -> Selection:
    """Takes images until every category has its target, or the pool has no more of it.

    A taken image keeps, in file order, every instance whose category is still below its target. In ``rarest-first``
    the categories are served one after the other, each visiting the images that hold it; ``random`` visits all images
    once and takes those that hold anything still wanted; ``fewest-images`` always takes the image that adds most.

    Args:
        file: The pool.
        category_ids: Dataset ids, ascending, shape [C].
        targets: Instances wanted, shape [C].
        serving_order: Rows of ``category_ids`` in the order in which ``rarest-first`` serves them, shape [C].
        seed: Seed of the visiting order.
        order: Which images to try first.
        count_crowds: Whether crowd annotations are instances too.

    Source: BAGS supplement, section 4.1 (steps c and d); the visiting order is ours, as it is not published.
    """
    instances = np.ones(len(file.crowd), bool) if count_crowds else ~file.crowd
    pool = _PoolIndex(file, category_ids, instances, seed)
    taken = _Taken(pool, targets.tolist(), len(file.image_ids), len(file.annotation_ids))
    if order == "rarest-first":
        _serve(pool, taken, serving_order.tolist())
    elif order == "random":
        _visit(pool, taken)
    else:
        _take_the_richest(pool, taken)
    return Selection(taken.images, taken.annotations, np.array(taken.have, np.int64))


class _PoolIndex:
    """Instances by image (file order) and images by category (visiting order)."""

    def __init__(self, file: AnnotationFile, category_ids: IntArray, instances: BoolArray, seed: int) -> None:
        kept = np.flatnonzero(instances)
        image = file.image_index()[kept]
        by_image = stable_argsort(image)
        self._annotations = kept[by_image]
        self._rows = positions_of(file.categories.ids, category_ids)[file.category_index()[self._annotations]]
        self._image_start = np.searchsorted(image[by_image], np.arange(len(file.image_ids) + 1))
        self.order = image_order(file.image_ids, seed)
        place = np.empty_like(self.order)
        place[self.order] = np.arange(len(self.order))
        keys = sorted_unique(self._rows * max(len(self.order), 1) + place[image[by_image]])
        self._visits = self.order[keys % max(len(self.order), 1)]
        self._visit_start = np.searchsorted(keys // max(len(self.order), 1), np.arange(len(category_ids) + 1))

    def images_with(self, row: int) -> list[int]:
        """Images that hold an instance of the category, in visiting order."""
        visits: list[int] = self._visits[self._visit_start[row] : self._visit_start[row + 1]].tolist()
        return visits

    def instances_of(self, image: int) -> list[tuple[int, int]]:
        """(annotation, category row) of the image's instances, in file order."""
        part = slice(self._image_start[image], self._image_start[image + 1])
        return list(zip(self._annotations[part].tolist(), self._rows[part].tolist(), strict=True))


class _Taken:
    """What has been taken so far."""

    def __init__(self, pool: _PoolIndex, wanted: list[int], images: int, annotations: int) -> None:
        self.pool = pool
        self.wanted = wanted
        self.have = [0] * len(wanted)
        self.images = np.zeros(images, bool)
        self.annotations = np.zeros(annotations, bool)

    def is_full(self, row: int) -> bool:
        """Whether a category has its target."""
        return self.have[row] >= self.wanted[row]

    def gain(self, image: int) -> int:
        """Instances that taking the image would keep."""
        held = Counter(row for _, row in self.pool.instances_of(image))
        return sum(min(count, self.wanted[row] - self.have[row]) for row, count in held.items())

    def take(self, image: int) -> None:
        """Takes an image and keeps what is still wanted of it."""
        self.images[image] = True
        for annotation, row in self.pool.instances_of(image):
            if not self.is_full(row):
                self.have[row] += 1
                self.annotations[annotation] = True


def _serve(pool: _PoolIndex, taken: _Taken, rows: list[int]) -> None:
    for row in rows:
        for image in pool.images_with(row):
            if taken.is_full(row):
                break
            if not taken.images[image]:
                taken.take(image)


def _visit(pool: _PoolIndex, taken: _Taken) -> None:
    for image in pool.order.tolist():
        if taken.gain(image) > 0:
            taken.take(image)


def _take_the_richest(pool: _PoolIndex, taken: _Taken) -> None:
    """Greedy set cover; a gain only ever falls, so an outdated one is looked at again when it comes up."""
    heap = [(-taken.gain(image), place, image) for place, image in enumerate(pool.order.tolist())]
    heapq.heapify(heap)
    while heap:
        gain, place, image = heapq.heappop(heap)
        now = -taken.gain(image)
        if now == 0:
            continue
        if now > gain and heap and (now, place) > heap[0][:2]:
            heapq.heappush(heap, (now, place, image))
        else:
            taken.take(image)
