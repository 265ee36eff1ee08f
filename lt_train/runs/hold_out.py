"""Images kept out of training, so that what is chosen after it can be measured on images that it has not seen.

Which images these are hangs on their ids alone, not on a run's seed: a second stage must not train on what the first
one held out. They have one order; a larger share holds out what a smaller one does, and more.

Shapes: N images of the file, H of them held out, A annotations, C categories.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

import numpy as np

from lt_data.arrays import BoolArray, IntArray
from lt_data.counts.categories import CategoryCounts, category_image_pairs
from lt_data.errors import DataError
from lt_train.data.detection_data import DetectionData

# where nothing is held out, a search measures on this share of what was trained on, or on so many images if it has them
SEEN_SHARE: Final = 0.05
FEWEST_SEEN: Final = 500


def image_order(image_ids: IntArray) -> IntArray:
    """Positions [N] of the images by ascending sha256 of ``hold-out:ID``.

    It is not the order in which a dataset directory was built, which would hold out what was drawn for the tail.
    """
    digests = [hashlib.sha256(f"hold-out:{i}".encode()).digest() for i in image_ids.tolist()]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


def held_out_rows(data: DetectionData, share: float) -> IntArray:
    """Positions [H] of the images to hold out, in their order: ``share`` of the images of the file.

    An image that is the last one left with an object of some class is passed over, so H may be below that.

    Args:
        data: The training data, with all its objects.
        share: Of the images, 0..1.

    Raises:
        DataError: A share above 0 holds out no image.
    """
    wanted = round(share * len(data.file.image_ids))
    found: list[int] = []
    if wanted:
        left, classes_of = _classes_of_images(data)
        for row in image_order(data.file.image_ids).tolist():
            classes = classes_of[row]
            if len(found) == wanted:
                break
            if (left[classes] > 1).all():
                left[classes] -= 1
                found.append(row)
    if share and not found:
        raise DataError(
            f"data.hold_out={share:g}: holds out none of the {len(data.file.image_ids):,} images of {data.file.path}, "
            "where every class keeps one; set a larger share, or data.hold_out=0"
        )
    return np.array(found, np.int64)


def _classes_of_images(data: DetectionData) -> tuple[IntArray, list[IntArray]]:
    """Images of each class, [C], and the classes in each of the N images, by what can be trained on."""
    classes, rows = category_image_pairs(data.file, data.counts.category_ids, data.usable)
    by_image = np.argsort(rows, kind="stable")
    images = np.bincount(rows, minlength=len(data.file.image_ids))
    return np.bincount(classes, minlength=len(data.counts.names)), np.split(classes[by_image], images.cumsum()[:-1])


def hold_out(data: DetectionData, rows: IntArray) -> DetectionData:
    """The same data without the objects of some images; its counts are of the images that are left.

    What is rare, common and frequent stays as it is in the whole file.

    Args:
        data: The training data.
        rows: Positions [H] of the images.
    """
    kept = annotations_outside(data, rows)
    counts = data.counts
    classes, _ = category_image_pairs(data.file, counts.category_ids, kept & ~data.file.crowd)
    labels = data.ids.to_labels(data.file.annotation_category_ids[kept & ~data.file.crowd])
    trained: CategoryCounts = replace(
        counts,
        instances=np.bincount(labels, minlength=len(counts.names) + 1)[1:].astype(np.int64),
        images=np.bincount(classes, minlength=len(counts.names)).astype(np.int64),
        total_images=counts.total_images - len(rows),
    )
    return replace(data, counts=trained, usable=data.usable & kept, regions=data.regions & kept)


def annotations_outside(data: DetectionData, rows: IntArray) -> BoolArray:
    """Annotations [A] that are in none of the images ``rows``."""
    inside = np.zeros(len(data.file.image_ids), bool)
    inside[rows] = True
    kept: BoolArray = ~inside[data.file.image_index()]
    return kept


def held_out_note(data: DetectionData, rows: IntArray, share: float) -> tuple[str, ...]:
    """A line on what is held out; none where nothing is.

    Args:
        data: The training data with all its objects.
        rows: Positions [H] of the images.
        share: What was asked for.
    """
    if not len(rows):
        return ()
    wanted = round(share * len(data.file.image_ids))
    fewer = f", of {wanted:,} asked for: every class keeps an image" if len(rows) < wanted else ""
    objects = int((data.usable & ~annotations_outside(data, rows)).sum())
    return (
        f"data.hold_out={share:g}: {len(rows):,} images with {objects:,} objects are not trained on{fewer}; counts of "
        "heads are of the others, groups and repeat factors those of the whole file",
    )


def seen_rows(image_ids: IntArray, rows: IntArray) -> IntArray:
    """A part of the images that are trained on, in the order of :func:`image_order`.

    Args:
        image_ids: [N], of the file.
        rows: Positions of the images that are trained on.
    """
    size = max(round(SEEN_SHARE * len(rows)), min(FEWEST_SEEN, len(rows)))
    return rows[image_order(image_ids[rows])[:size]]
