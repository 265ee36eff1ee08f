"""What a split weighs: how many images of each category every unit holds.

Shapes: N images, U units, C categories.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import IntArray
from lt_data.counts.categories import category_image_pairs

Row = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Labels:
    """Images by unit and label.

    A label is a category (a row of the ascending ids); C stands for no object, so that such images are shared out too;
    and C + 1 for any object, of which all are counted, so that a side does not get the crowded images.

    Attributes:
        rows: For each unit its labels, and how many of its images have them (of C + 1: its objects), [U].
        sizes: Images of each unit, [U].
        categories: C.
        keys: What the order of units is made of: the id of an image of theirs, [U].
    """

    rows: list[Row]
    sizes: list[int]
    categories: int
    keys: list[int]

    @property
    def width(self) -> int:
        """C + 2, the labels that there are."""
        return self.categories + 2

    @property
    def images(self) -> int:
        """N."""
        return sum(self.sizes)

    def order(self, salt: str) -> list[int]:
        """The units by ascending sha256 of ``"{salt}:{key}"``: the same on every machine, in a file of any order."""
        digests = [hashlib.sha256(f"{salt}:{key}".encode()).digest() for key in self.keys]
        return sorted(range(len(digests)), key=digests.__getitem__)


def find_labels(file: AnnotationFile, of_image: IntArray) -> Labels:
    """The labels of a file's units. Crowds are no objects.

    Args:
        file: The annotation file.
        of_image: Unit of each image, from 0 on, shape [N].
    """
    count = int(of_image.max()) + 1
    ids = np.sort(file.categories.ids)
    category, image = category_image_pairs(file, ids)
    empty = np.setdiff1d(np.arange(len(of_image)), image)
    category = np.concatenate([category, np.full(len(empty), len(ids))])
    image = np.concatenate([image, empty])
    width = len(ids) + 1
    pairs, images = np.unique(of_image[image] * width + category, return_counts=True)
    rows: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for pair, number in zip(pairs.tolist(), images.tolist(), strict=True):
        rows[pair // width].append((pair % width, number))
    objects = np.bincount(of_image[file.image_index()[~file.crowd]], minlength=count)
    for unit in np.flatnonzero(objects).tolist():
        rows[unit].append((width, int(objects[unit])))
    smallest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(smallest, of_image, file.image_ids)
    sizes = np.bincount(of_image, minlength=count)
    return Labels([tuple(row) for row in rows], sizes.tolist(), len(ids), smallest.tolist())
