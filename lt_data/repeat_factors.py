"""Repeat factors: how often an image should be seen per epoch so that rare categories are seen more.

Shapes: N images, C categories, P (category, image) pairs.
"""

from __future__ import annotations

import numpy as np

from lt_data.annotations import AnnotationFile, FloatArray, IntArray
from lt_data.counts import category_image_pairs
from lt_data.errors import DataError

DEFAULT_THRESHOLD = 0.001


def category_repeat_factors(images: IntArray, images_with_annotations: int, threshold: float) -> FloatArray:
    """``max(1, sqrt(t / f_c))`` with f_c the share of annotated images that hold category c, shape [C].

    Args:
        images: Images that hold each category, shape [C]; a category without images has factor 1.
        images_with_annotations: Images with at least one non-crowd annotation.
        threshold: t, the share below which a category is repeated.

    Raises:
        DataError: The threshold is not positive and finite.

    Source: LVIS (CVPR 2019), appendix B.
    """
    if not 0 < threshold < float("inf"):
        raise DataError(f"--threshold: got {threshold}; allowed is a positive number, for example 0.001")
    shares = images / max(images_with_annotations, 1)
    with np.errstate(divide="ignore"):
        factors = np.sqrt(threshold / shares)
    return np.where(images > 0, np.maximum(1.0, factors), 1.0)


def image_repeat_factors(file: AnnotationFile, threshold: float = DEFAULT_THRESHOLD) -> FloatArray:
    """Factor of every image of a file: the largest of its categories'; 1.0 without annotations.

    Args:
        file: The training annotations; crowds do not count.
        threshold: t of the category factors.

    Returns:
        Shape [N], in the order of the file's images.

    Raises:
        DataError: The threshold is not positive and finite.
    """
    ids = np.sort(file.categories.ids)
    row, image = category_image_pairs(file, ids)
    per_category = np.bincount(row, minlength=len(ids))
    factors = category_repeat_factors(per_category, len(np.unique(image)), threshold)
    result = np.ones(len(file.image_ids))
    np.maximum.at(result, image, factors[row])
    return result
