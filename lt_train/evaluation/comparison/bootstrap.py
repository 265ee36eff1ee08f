"""Paired bootstrap over images: how far AP would move had other images of the same kind been collected.

Images are drawn with replacement; a drawn image brings its annotations and all its detections. A resample is a row of
weights (how often each image was drawn), the same for every system, so differences between systems are paired. AP of
a resample is computed from the matches of the whole set: duplicated images change no match, only how often one counts.
The interval covers the choice of images, not that of the training seed.

Shapes: B resamples, N images, K categories, D detections of one category in falling score, M its true positives,
T IoU thresholds, R = 101 recall points.
Source: Efron, "Bootstrap methods: another look at the jackknife" (Annals of Statistics 7, 1979); percentile intervals:
"Nonparametric standard errors and confidence intervals" (Canadian Journal of Statistics 9, 1981).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_train.evaluation.comparison.matches import IOU_50, Matches

# 101 recall points exactly as the evaluators build them: 0.29 and the like are one bit off on purpose
_RECALLS: Final = np.linspace(0.0, 1.0, 101)
_EPSILON: Final = float(np.spacing(1))
# numbers of one block of weights; blocks of this size stay in the processor's cache
_BLOCK: Final = 1 << 18


@dataclass(frozen=True)
class ClassAP:
    """AP of each class under each row of weights.

    Attributes:
        ap: [B, K] float64, mean over the IoU thresholds; NaN where the weights leave a class no ground truth.
        ap50: [B, K] float64 at IoU 0.5, likewise.
    """

    ap: FloatArray
    ap50: FloatArray


def image_weights(images: int, resamples: int, *, seed: int) -> NDArray[np.int32]:
    """How often each image is drawn in each resample, [B, N]; every row sums to N.

    Args:
        images: Number of images N, at least 1.
        resamples: Number of resamples B, at least 1.
        seed: Seed of a PCG64 generator of its own; the same seed gives the same weights everywhere.

    Raises:
        ValueError: No image or no resample.
    """
    if images < 1 or resamples < 1:
        raise ValueError(f"at least 1 image and 1 resample are needed, got {images} and {resamples}")
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = np.empty((resamples, images), dtype=np.int32)
    for row in weights:
        row[:] = np.bincount(rng.integers(0, images, images), minlength=images)
    return weights


def class_ap(matches: Matches) -> ClassAP:
    """AP of each class on the set as it is (B = 1): what the evaluators give, to rounding."""
    return weighted_class_ap(matches, np.ones((1, len(matches.image_ids)), dtype=np.int32))


def weighted_class_ap(matches: Matches, weights: NDArray[np.int32]) -> ClassAP:
    """AP of each class where image n counts ``weights[b, n]`` times.

    Equal to evaluating a set in which each image is repeated that often, as long as no two detections of a category
    in one image have the same score (the copies of such a tie would interleave).

    Args:
        matches: Of one system.
        weights: [B, N] int32, not negative; columns in the order of ``matches.image_ids``.

    Returns:
        [B, K] each, categories in the order of ``matches.category_ids``.

    Raises:
        ValueError: Weights for another number of images.
    """
    if weights.ndim != 2 or weights.shape[1] != len(matches.image_ids):
        raise ValueError(f"weights must be [B, {len(matches.image_ids)}], got {list(weights.shape)}")
    shape = len(weights), len(matches.category_ids)
    result = ClassAP(np.full(shape, np.nan), np.full(shape, np.nan))
    for k in range(shape[1]):
        truth_images, truth_counts = matches.truth_of(k)
        if not len(truth_images):
            continue
        detections = matches.detections_of(k)
        counted = ~detections.ignored.all(axis=0)
        images, hits, ignored = detections.images[counted], detections.hits[:, counted], detections.ignored[:, counted]
        rows = max(1, _BLOCK // max(len(images), len(truth_images)))
        for start in range(0, len(weights), rows):
            block = slice(start, start + rows)
            instances = weights[block].take(truth_images, axis=1) @ truth_counts
            ap = _ap(weights[block], images, hits, ignored, instances)
            result.ap[block, k], result.ap50[block, k] = ap.mean(axis=0), ap[IOU_50]
    return result


def _ap(
    weights: NDArray[np.int32],
    images: IntArray,
    hits: BoolArray,
    ignored: BoolArray,
    instances: IntArray,
) -> FloatArray:
    """AP of one category at each IoU threshold, [T, B]; NaN where there is no instance.

    Precision is largest at true positives: between two of them it only falls, so all else is looked at only through
    how many detections lie before each.
    """
    before = np.cumsum(weights.take(images, axis=1), axis=1, dtype=np.int32)
    result = np.zeros((len(hits), len(weights)))
    for t in range(len(hits)):
        at = np.flatnonzero(hits[t])
        if not len(at):
            continue
        detections = before.take(at, axis=1)
        skipped = np.flatnonzero(ignored[t])
        if len(skipped):
            detections -= _cumulative(weights, images[skipped]).take(np.searchsorted(skipped, at), axis=1)
        found = np.cumsum(weights.take(images[at], axis=1), axis=1, dtype=np.int32)
        result[t] = _area(found, detections, instances)
    result[:, instances == 0] = np.nan
    return result


def _cumulative(weights: NDArray[np.int32], images: IntArray) -> NDArray[np.int32]:
    """Weight of the first 0, 1, ... of these images, [B, len + 1]."""
    sums = np.zeros((len(weights), len(images) + 1), dtype=np.int32)
    np.cumsum(weights.take(images, axis=1), axis=1, out=sums[:, 1:])
    return sums


def _area(found: NDArray[np.int32], detections: NDArray[np.int32], instances: IntArray) -> FloatArray:
    """Mean of the precision envelope over the recall points, [B].

    Args:
        found: [B, M] true positives up to and with each true positive.
        detections: [B, M] detections up to and with each.
        instances: [B] ground truth; the result means nothing where it is 0.
    """
    precision = found / (detections + _EPSILON)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = _points_reached(found / np.maximum(instances, 1)[:, None])
    new = np.diff(reached, axis=1, prepend=0)
    return np.einsum("bm,bm->b", envelope, new) / len(_RECALLS)


def _points_reached(recall: FloatArray) -> IntArray:
    """Number of recall points at or below each recall in 0..1, compared as the evaluators compare."""
    nearest = (recall * (len(_RECALLS) - 1) + 0.5).astype(np.intp)
    return nearest + (_RECALLS.take(nearest) <= recall)


def mean_ap(values: FloatArray, members: BoolArray) -> FloatArray:
    """Mean over the member classes that have ground truth, per row.

    Args:
        values: [B, K], NaN where a class has no ground truth.
        members: [K].

    Returns:
        [B]; NaN where no member has ground truth.
    """
    chosen = values[:, members]
    measured = ~np.isnan(chosen)
    count = measured.sum(axis=1)
    total = np.where(measured, chosen, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def percentile_interval(values: FloatArray, *, level: float = 0.95) -> tuple[float, float]:
    """The middle ``level`` of the resampled values, by linear interpolation; NaN ones are left out.

    Args:
        values: [B].
        level: Share of the resamples inside, in (0, 1).

    Returns:
        Lower and upper end; NaN both if no value was measured.
    """
    measured = values[~np.isnan(values)]
    if not len(measured):
        return float("nan"), float("nan")
    low, high = np.quantile(measured, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
