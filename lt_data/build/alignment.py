"""Rank alignment: the target of a pool category is the count of the reference category at the same relative rank.

With the 1,230 categories of LVIS v0.5 as reference and the 80 of COCO as pool the targets sum to 64,504, the
instance total that the supplement of BAGS publishes for COCO-LT.

Shapes: C pool categories by rank, n_ref reference categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lt_data.arrays import IntArray
from lt_data.counts.categories import CategoryCounts, Reference
from lt_data.errors import DataError


@dataclass(frozen=True)
class Alignment:
    """Targets by pool rank; rank 0 is the category with the most instances.

    Categories without an instance stand behind the ranked ones, by id: they have no rank and, unless one was given,
    no target.

    Attributes:
        order: Row in the pool's counts of each rank, then of the categories without instances, shape [C].
        ranked: Categories that have a rank.
        reference_positions: Position in the reference's descending list, -1 for explicit targets and without a rank,
            shape [C].
        reference_instances: Count at that position, 0 without a rank, or the explicit target, shape [C].
        targets: Instances wanted after scaling, at least 1 with a rank, shape [C].
    """

    order: IntArray
    ranked: int
    reference_positions: IntArray
    reference_instances: IntArray
    targets: IntArray


def reference_positions(n_pool: int, n_ref: int) -> IntArray:
    """Position ``floor(i * (n_ref - 1) / (n_pool - 1))`` of each rank i; a single pool category takes position 0."""
    if n_pool == 1:
        return np.zeros(1, np.int64)
    return np.arange(n_pool, dtype=np.int64) * (n_ref - 1) // (n_pool - 1)


def align(pool: CategoryCounts, reference: Reference, scale: Fraction = Fraction(1)) -> Alignment:
    """Gives every pool category that has an instance its target.

    Args:
        pool: Counts of the pool; ranked by instances descending, ties by id ascending.
        reference: The distribution to imitate, descending.
        scale: Exact factor on the targets, 0 < scale <= 1; ``max(1, floor(target * scale))``.

    Raises:
        DataError: ``scale`` is out of range.

    Source: BAGS supplement, section 4.1 (steps a and b).
    """
    if not 0 < scale <= 1:
        raise DataError(f"--scale: got {float(scale):g}; allowed is 0 < scale <= 1")
    order, ranked = _ranks(pool), number_ranked(pool)
    positions = np.full(len(order), -1, np.int64)
    counts, targets = np.zeros_like(positions), np.zeros_like(positions)
    positions[:ranked] = reference_positions(ranked, len(reference.instances))
    counts[:ranked] = reference.instances[positions[:ranked]]
    targets[:ranked] = scaled_targets(counts[:ranked], scale)
    return Alignment(order, ranked, positions, counts, targets)


def explicit(pool: CategoryCounts, wanted: IntArray, scale: Fraction = Fraction(1)) -> Alignment:
    """Targets that were given instead of aligned; a target of 0 stays 0.

    Args:
        pool: Counts of the pool; they decide the ranks.
        wanted: Instances wanted of each row of ``pool``, shape [C].
        scale: Exact factor on the targets.
    """
    order = _ranks(pool)
    counts = wanted[order]
    targets = np.where(counts > 0, scaled_targets(counts, scale), 0)
    return Alignment(order, number_ranked(pool), np.full(len(order), -1, np.int64), counts, targets)


def number_ranked(pool: CategoryCounts) -> int:
    """Categories that have an instance, and so a rank."""
    return int((pool.instances > 0).sum())


def _ranks(pool: CategoryCounts) -> IntArray:
    """Rows by instances descending, ties by id ascending."""
    return np.lexsort((pool.category_ids, -pool.instances)).astype(np.int64)


def scaled_targets(counts: IntArray, scale: Fraction) -> IntArray:
    """``max(1, floor(count * scale))`` in exact arithmetic, shape [C]."""
    return np.array([max(1, n * scale.numerator // scale.denominator) for n in counts.tolist()], np.int64)


def largest_scale(counts: IntArray, available: IntArray) -> Fraction | None:
    """The largest multiple of 0.000001 up to 1 at which no category with instances is short.

    Args:
        counts: Unscaled reference counts, shape [C].
        available: Pool instances, shape [C]; categories without any are left out, no scale helps them.

    Returns:
        The scale, or ``None`` when not even 0.000001 suffices.
    """
    # floor(count * scale) <= available  <=>  scale < (available + 1) / count
    bounds = [Fraction(a + 1, n) for n, a in zip(counts.tolist(), available.tolist(), strict=True) if a > 0 < n]
    million = 1_000_000
    steps = min([million, *(-(-b.numerator * million // b.denominator) - 1 for b in bounds)])
    return Fraction(steps, million) if steps > 0 else None
