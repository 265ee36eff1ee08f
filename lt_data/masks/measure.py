"""The extent and the area of many masks at once, and what is wrong with each.

Polygons and run lengths are measured as flat arrays, a chunk of annotations at a time; nothing is rasterised.

Shapes: n annotations of a chunk, K polygons or masks of run lengths, P points, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_data.masks.rle import decode_runs

# bits of MaskColumns.faults
SHORT: Final = 1
ODD: Final = 2
EMPTY: Final = 4
BROKEN: Final = 8
WRONG_SUM: Final = 16
BYTES_TEXT: Final = 32

# a polygon has at least three points
_MIN_NUMBERS: Final = 6


class RunLengths(msgspec.Struct, gc=False):
    """COCO run lengths: height and width, and runs as a compressed string or as numbers."""

    size: tuple[
        Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)],
        Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)],
    ]
    counts: str | list[Annotated[int, msgspec.Meta(ge=0, le=2**35)]]


# polygons, run lengths, none, or () for one that is unusable
Segmentation = list[list[float]] | RunLengths | tuple[()] | None


@dataclass(frozen=True)
class MaskColumns:
    """What is known of each annotation's mask.

    Attributes:
        given: Whether there is a segmentation, and not one of no polygon, shape [A].
        extents: x1, y1, x2, y2 of the mask in pixels; NaN without a sound one, shape [A, 4].
        areas: px^2; polygons by the shoelace formula; NaN without a sound mask, shape [A].
        rle_sizes: Height and width that run lengths are of, -1 for other masks, shape [A, 2].
        faults: Bits ``SHORT`` (a polygon of under three points), ``ODD``, ``EMPTY``, ``BROKEN`` (not finite, or a
            string that is no run lengths), ``WRONG_SUM`` (runs that do not fill their size), ``BYTES_TEXT`` (a string
            that Python made of bytes, ``"b'...'"``; it is ``BROKEN`` or ``WRONG_SUM`` as well), shape [A].
    """

    given: BoolArray
    extents: FloatArray
    areas: FloatArray
    rle_sizes: npt.NDArray[np.int32]
    faults: npt.NDArray[np.uint8]

    @classmethod
    def empty(cls, count: int) -> MaskColumns:
        """Columns of annotations without masks."""
        return cls(
            given=np.zeros(count, bool),
            extents=np.full((count, 4), np.nan),
            areas=np.full(count, np.nan),
            rle_sizes=np.full((count, 2), -1, np.int32),
            faults=np.zeros(count, np.uint8),
        )

    def part(self, rows: slice) -> MaskColumns:
        """A view of some rows; what is written to it is written here."""
        return MaskColumns(
            self.given[rows], self.extents[rows], self.areas[rows], self.rle_sizes[rows], self.faults[rows]
        )


def is_no_mask(segmentation: object) -> bool:
    """Whether a ``segmentation`` says that there is no mask, in any of the ways that are written: null, [] or [[]]."""
    if not isinstance(segmentation, list):
        return segmentation is None
    # nearly all have a polygon, which is seen at once
    return not any(segmentation) and all(polygon == [] for polygon in segmentation)


def measure_masks(segmentations: Sequence[Segmentation], out: MaskColumns) -> None:
    """Measures the masks of n annotations.

    Args:
        segmentations: Of each annotation.
        out: Columns of n fresh rows, filled in place.
    """
    out.given[:] = [not is_no_mask(s) for s in segmentations]
    polygons = [(row, s) for row, s in enumerate(segmentations) if isinstance(s, list) and out.given[row]]
    if polygons:
        _measure_polygons(polygons, out)
    rles = [(row, s) for row, s in enumerate(segmentations) if isinstance(s, RunLengths)]
    if rles:
        _measure_rles(rles, out)


def _measure_polygons(given: Sequence[tuple[int, list[list[float]]]], out: MaskColumns) -> None:
    owner = np.repeat([row for row, _ in given], [len(polygons) for _, polygons in given])
    polygons = list(chain.from_iterable(polygons for _, polygons in given))
    numbers = np.array([len(polygon) for polygon in polygons], np.int64)
    odd = numbers % 2 == 1
    short = (numbers < _MIN_NUMBERS) & (numbers > 0) & ~odd
    out.faults[owner[odd]] |= ODD
    out.faults[owner[short]] |= SHORT
    sound = (numbers >= _MIN_NUMBERS) & ~odd
    if not sound.all():
        polygons = [polygon for polygon, good in zip(polygons, sound.tolist(), strict=True) if good]
        owner, numbers = owner[sound], numbers[sound]
    if len(polygons):
        flat = np.fromiter(chain.from_iterable(polygons), np.float64, int(numbers.sum()))
        extents, areas = _polygon_extents(flat, numbers // 2)
        _store(out, owner, extents, areas)
    rows = np.array([row for row, _ in given])
    without = ~(out.areas[rows] > 0) & (out.faults[rows] == 0)
    out.faults[rows[without]] |= EMPTY


def _polygon_extents(flat: FloatArray, points: IntArray) -> tuple[FloatArray, FloatArray]:
    """Extents [K, 4] and areas [K] of polygons of ``points`` [K] points each."""
    x, y = flat[0::2].copy(), flat[1::2].copy()
    start = np.concatenate([[0], np.cumsum(points)[:-1]])
    after = np.arange(1, len(x) + 1)
    after[start + points - 1] = start
    with np.errstate(invalid="ignore", over="ignore"):
        areas = np.abs(np.add.reduceat(x * y[after] - x[after] * y, start)) / 2
    extents = [np.minimum.reduceat(v, start) for v in (x, y)] + [np.maximum.reduceat(v, start) for v in (x, y)]
    return np.stack(extents, 1), areas


def _store(out: MaskColumns, owner: IntArray, extents: FloatArray, areas: FloatArray) -> None:
    """Joins the parts (adjacent, K) of each owner; marks owners with a part that is not finite."""
    first = np.flatnonzero(np.concatenate([[True], owner[1:] != owner[:-1]]))
    rows = owner[first]
    low = np.minimum.reduceat(extents[:, :2], first, axis=0)
    high = np.maximum.reduceat(extents[:, 2:], first, axis=0)
    with np.errstate(over="ignore"):
        total = np.add.reduceat(areas, first)
    finite = np.isfinite(low).all(1) & np.isfinite(high).all(1) & np.isfinite(total)
    out.faults[rows[~finite]] |= BROKEN
    rows = rows[finite]
    out.extents[rows] = np.concatenate([low, high], 1)[finite]
    out.areas[rows] = total[finite]


def _measure_rles(given: Sequence[tuple[int, RunLengths]], out: MaskColumns) -> None:
    rows = np.array([row for row, _ in given])
    sizes = np.array([rle.size for _, rle in given], np.int64)
    out.rle_sizes[rows] = sizes
    packed = np.array([isinstance(rle.counts, str) for _, rle in given])
    texts = [rle.counts.encode() for _, rle in given if isinstance(rle.counts, str)]
    plain = [rle.counts for _, rle in given if not isinstance(rle.counts, str)]
    if texts:
        runs, bounds, broken = decode_runs(texts)
        out.faults[rows[packed][broken]] |= BROKEN
        of_bytes = np.array([text.startswith((b"b'", b'b"')) for text in texts])
        out.faults[rows[packed][of_bytes]] |= BYTES_TEXT
        sound = ~broken
        _store_runs(out, rows[packed][sound], sizes[packed][sound], (runs, np.diff(bounds)[sound]))
    if plain:
        lengths = np.array([len(counts) for counts in plain], np.int64)
        runs = np.fromiter(chain.from_iterable(plain), np.int64, int(lengths.sum()))
        _store_runs(out, rows[~packed], sizes[~packed], (runs, lengths))


def _store_runs(out: MaskColumns, rows: IntArray, sizes: IntArray, given: tuple[IntArray, IntArray]) -> None:
    """Writes extents and areas of masks of run lengths, given as all runs [R] and how many each of K masks has."""
    runs, lengths = given
    mask = np.repeat(np.arange(len(rows)), lengths)
    place = np.arange(len(runs)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    filled = np.bincount(mask, weights=runs, minlength=len(rows))
    area = np.bincount(mask, weights=runs * (place % 2), minlength=len(rows))
    wrong = filled != sizes.prod(1)
    out.faults[rows[wrong]] |= WRONG_SUM
    out.faults[rows[~wrong & (area == 0)]] |= EMPTY
    end = np.cumsum(runs) - (np.cumsum(filled) - filled).astype(np.int64)[mask]
    drawn = (place % 2 == 1) & (runs > 0) & ~wrong[mask]
    if drawn.any():
        height = sizes[mask[drawn], 0]
        extents = _run_extents(end[drawn] - runs[drawn], end[drawn] - 1, height)
        _store(out, rows[mask[drawn]], extents, runs[drawn].astype(np.float64))


def _run_extents(first: IntArray, last: IntArray, height: IntArray) -> FloatArray:
    """Pixel extents [K, 4] of runs from ``first`` to ``last``, counted down the columns of masks of ``height``."""
    left, right = first // height, last // height
    one_column = left == right
    top = np.where(one_column, first % height, 0)
    bottom = np.where(one_column, last % height, height - 1)
    return np.stack([left, top, right + 1, bottom + 1], 1).astype(np.float64)
