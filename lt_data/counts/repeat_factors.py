"""Repeat factors: how often an image should be seen per epoch so that rare categories are seen more.

A category c that the share f_c of the annotated images holds has the factor ``max(1, sqrt(t / f_c))``; an image has
the largest factor of its categories. The square root is the published exponent of 0.5; another may be asked for. With
0 nothing would be repeated; 1 would show a rare category as often as one whose share is t, if no image held two, and
more than 1 would show it more often than commoner ones, which is refused. A rounding rule turns a factor r into the
times an image is seen in an epoch:

    none        r itself; nothing is rounded, the length is an expectation
    stochastic  floor(r), and one more with the probability of the rest; drawn anew in every epoch, r on average
    ceil        ceil(r) in every epoch
    bags        1 + ceil(r) where r > 1, else 1, as the released code of BAGS lists images

Shapes: N images, C categories, P (category, image) pairs.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_data.counts.categories import CategoryCounts, category_image_pairs, count_categories
from lt_data.dataset.options import DEFAULT_EXPONENT, DEFAULT_THRESHOLD
from lt_data.errors import DataError

Rounding = Literal["none", "stochastic", "ceil", "bags"]

LARGEST_THRESHOLD = 1e6
LARGEST_EXPONENT = 1.0
LARGEST_FACTOR: Final = 1_000_000
ROUNDINGS: Final[tuple[Rounding, ...]] = get_args(Rounding)


def category_repeat_factors(
    images: IntArray, images_with_annotations: int, threshold: float, *, exponent: float = DEFAULT_EXPONENT
) -> FloatArray:
    """``max(1, sqrt(t / f_c))`` with f_c the share of annotated images that hold category c, shape [C].

    Args:
        images: Images that hold each category, shape [C]; a category without images has factor 1.
        images_with_annotations: Images with at least one non-crowd annotation.
        threshold: t, the share below which a category is repeated.
        exponent: Of t / f_c, in place of the square root; 0 < exponent <= 1.

    Raises:
        DataError: The threshold is not positive and finite, or the exponent is not in its range.

    Source: LVIS (CVPR 2019), appendix B.
    """
    check_threshold(threshold)
    check_exponent(exponent)
    return factors_of_shares(images / max(images_with_annotations, 1), threshold, exponent)


def instance_aware_category_factors(
    images: IntArray,
    instances: IntArray,
    images_with_annotations: int,
    threshold: float,
    *,
    exponent: float = DEFAULT_EXPONENT,
) -> FloatArray:
    """``max(1, sqrt(t / sqrt(f_c * g_c)))`` with g_c the share of all instances that are of category c, shape [C].

    Args:
        images: Images that hold each category, shape [C].
        instances: Non-crowd instances of each category, shape [C].
        images_with_annotations: Images with at least one non-crowd annotation; f_c is a share of these, as above.
        threshold: t, the geometric mean of both shares below which a category is repeated.
        exponent: Of t / sqrt(f_c * g_c), in place of the outer square root; 0 < exponent <= 1.

    Raises:
        DataError: The threshold is not positive and finite, or the exponent is not in its range.

    Source: Yaman, Mahmud, Liu, "Instance-Aware Repeat Factor Sampling for Long-Tailed Object Detection",
    arXiv:2305.08069 (2023), the variant with the geometric mean. Known to us from accounts of the paper, not from
    its text or code; whether images without annotations count in its f_c is not settled by them.
    """
    check_threshold(threshold)
    check_exponent(exponent)
    return factors_of_shares(mean_shares(images, instances, images_with_annotations), threshold, exponent)


def mean_shares(images: IntArray, instances: IntArray, images_with_annotations: int) -> FloatArray:
    """Geometric mean of the share of images and the share of instances of each category, shape [C]."""
    of_images = images / max(images_with_annotations, 1)
    of_instances = instances / max(int(instances.sum()), 1)
    mean: FloatArray = np.sqrt(of_images * of_instances)
    return mean


def factors_of_shares(shares: FloatArray, threshold: float, exponent: float = DEFAULT_EXPONENT) -> FloatArray:
    """``max(1, (t / share) ** exponent)``, 1 where the share is 0; refuses what is more than ``LARGEST_FACTOR``."""
    with np.errstate(divide="ignore"):
        ratios = threshold / shares
        # a power of 0.5 may differ from the root in its last digit, and files hold all digits
        factors = np.sqrt(ratios) if exponent == DEFAULT_EXPONENT else ratios**exponent
    factors = np.where(shares > 0, np.maximum(1.0, factors), 1.0)
    if (largest := factors.max(initial=1.0)) > LARGEST_FACTOR:
        raise DataError(
            f"--threshold: {threshold:g} with exponent {exponent:g} repeats a category {largest:.3g} times; allowed "
            f"are {LARGEST_FACTOR:,}, lower either"
        )
    return factors


def check_threshold(threshold: float) -> None:
    """Raises DataError unless the threshold is positive and finite."""
    if not 0 < threshold <= LARGEST_THRESHOLD:
        raise DataError(f"--threshold: got {threshold}; allowed is a positive number up to 1e6, for example 0.001")


def check_exponent(exponent: float) -> None:
    """Raises DataError unless the exponent is positive and at most 1."""
    if not 0 < exponent <= LARGEST_EXPONENT:
        raise DataError(
            f"--exponent: got {exponent}; allowed is a positive number up to 1, for example 0.5, the square root"
        )


def image_repeat_factors(
    file: AnnotationFile,
    threshold: float = DEFAULT_THRESHOLD,
    *,
    instance_aware: bool = False,
    exponent: float = DEFAULT_EXPONENT,
) -> FloatArray:
    """Factor of every image of a file: the largest of its categories'; 1.0 without annotations.

    Args:
        file: The training annotations; crowds do not count.
        threshold: t of the category factors.
        instance_aware: Take the category factors of :func:`instance_aware_category_factors`.
        exponent: Of the category factors; 0.5 is the published square root.

    Returns:
        Shape [N], in the order of the file's images.

    Raises:
        DataError: The threshold is not positive and finite, or the exponent is not in its range.
    """
    check_threshold(threshold)
    check_exponent(exponent)
    held = Holdings(file)
    return held.image_factors(factors_of_shares(held.shares(instance_aware), threshold, exponent))


class Holdings:
    """Which image of a file holds which category, in non-crowd annotations."""

    def __init__(self, file: AnnotationFile) -> None:
        self.counts: CategoryCounts = count_categories(file)
        self.image_ids = file.written_image_ids()
        self._row, self._image = category_image_pairs(file, self.counts.category_ids)
        self.annotated: BoolArray = np.zeros(len(file.image_ids), bool)
        self.annotated[self._image] = True

    def shares(self, instance_aware: bool) -> FloatArray:
        """What the threshold is compared with, shape [C]."""
        annotated = int(self.annotated.sum())
        if instance_aware:
            return mean_shares(self.counts.images, self.counts.instances, annotated)
        return self.counts.images / max(annotated, 1)

    def image_factors(self, factors: FloatArray) -> FloatArray:
        """The largest of the category factors [C] in each image, 1.0 without any, shape [N]."""
        result = np.ones(len(self.annotated))
        np.maximum.at(result, self._image, factors[self._row])
        return result


def whole_copies(factors: FloatArray, rounding: str) -> IntArray:
    """How often each image is seen in an epoch under a rule without chance, shape [N].

    Args:
        factors: Repeat factors >= 1, shape [N].
        rounding: ``ceil`` or ``bags``.

    Raises:
        DataError: The rule draws (``stochastic``), does not round (``none``) or does not exist.

    Source: for ``bags`` the released sampler of BAGS (CVPR 2020).
    """
    if rounding not in ("ceil", "bags"):
        raise DataError(f"--rounding: got '{rounding}'; only ceil and bags give every image a fixed number of copies")
    copies = np.ceil(factors)
    if rounding == "bags":
        copies = np.where(factors > 1, 1 + copies, 1)
    return copies.astype(np.int64)


def expected_copies(factors: FloatArray, rounding: str) -> FloatArray:
    """How often each image is seen in an epoch on average, shape [N]; the sum is the expected epoch length.

    Args:
        factors: Repeat factors >= 1, shape [N].
        rounding: One of ``ROUNDINGS``.

    Raises:
        DataError: There is no such rule.
    """
    if rounding not in ROUNDINGS:
        raise DataError(f"--rounding: got '{rounding}'; allowed are {', '.join(ROUNDINGS)}")
    return factors if rounding in ("none", "stochastic") else whole_copies(factors, rounding).astype(np.float64)
