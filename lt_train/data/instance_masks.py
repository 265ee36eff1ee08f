"""Instance masks of one image as flat polygons and run lengths: cut, flipped, scaled, turned into runs of pixels.

A polygon is a few hundred bytes where a bitmap is a megabyte, so masks never exist at image size on their way from the
annotation file to the loss. Shapes: n instances, K polygons, P points (x, y) in pixels; H, W image size in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from lt_data.errors import DataError
from lt_data.masks.measure import BROKEN, EMPTY, WRONG_SUM, MaskColumns, RunLengths, Segmentation, measure_masks
from lt_data.masks.rle import runs_of
from lt_train.data.mask_runs import MaskRuns

Rle = Mapping[str, Any]

# a polygon has at least three points
MIN_NUMBERS = 6
# px; pycocotools walks along a polygon's edges in steps of a fifth of a pixel and counts them in 32 bits
FARTHEST_CORNER = 1e6


class MaskKind(IntEnum):
    """What training makes of a ``segmentation``."""

    MASK = 0
    # there is no polygon of three points, and no run lengths
    BOX = 1
    # a mask of no pixel
    EMPTY = 2
    # neither lists of numbers nor run lengths, or numbers that are not finite or out of reach
    UNREADABLE = 3
    # run lengths of another image size
    WRONG_SIZE = 4
    # run lengths whose sum is not their size
    UNFILLED = 5


class _Masked(msgspec.Struct, gc=False):
    segmentation: list[list[float]] | RunLengths | None = None


# records nested too deeply end in a RecursionError
_NOT_DECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_MASKED = msgspec.json.Decoder(list[_Masked])
_MASKED_ONE = msgspec.json.Decoder(_Masked)


@dataclass(frozen=True)
class InstanceMasks:
    """Masks of the instances of one image; make them with :meth:`from_segmentations`.

    An instance is the union of its polygons, or its run lengths; with neither it is an empty mask.

    Attributes:
        xy: [P, 2] float64 points of all polygons, one after the other.
        polygon_ends: [K] int64, end of each polygon in ``xy``.
        polygon_instance: [K] int64, ascending, which instance a polygon belongs to.
        rles: Compressed COCO run lengths of each instance, or ``None``; n entries.
        height: H.
        width: W.
        margins: Left, top and right, pixels of a larger image that this one was cut out of. pycocotools rounds what is
            left of or above an image in another way, so polygons that reach there are drawn with them.
    """

    xy: npt.NDArray[np.float64]
    polygon_ends: npt.NDArray[np.int64]
    polygon_instance: npt.NDArray[np.int64]
    rles: tuple[Rle | None, ...]
    height: int
    width: int
    margins: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def from_segmentations(
        cls,
        segmentations: Sequence[Any],
        height: int,
        width: int,
        *,
        boxes: npt.ArrayLike | None = None,
    ) -> InstanceMasks:
        """From the ``segmentation`` fields of COCO annotations.

        Args:
            segmentations: One per instance: a list of polygons ``[x1, y1, x2, y2, ...]``, run lengths (compressed or
                not) as a dict with ``counts`` and ``size``, or ``None``. Polygons of fewer than three points, or of an
                odd count of numbers, are left out.
            height: H.
            width: W.
            boxes: [n, 4] xyxy pixels. An instance without a usable segmentation gets its box as a polygon; without
                ``boxes`` it gets an empty mask.

        Raises:
            DataError: Run lengths are of another image size.
        """
        polygons = [_polygons(segmentation) for segmentation in segmentations]
        rles = tuple(_compressed(segmentation, height, width) for segmentation in segmentations)
        if boxes is not None:
            rectangles = _rectangles(np.asarray(boxes, dtype=np.float64).reshape(-1, 4))
            polygons = [
                p if p or rle is not None else [r] for p, rle, r in zip(polygons, rles, rectangles, strict=True)
            ]
        return cls._from_lists(polygons, rles, height, width)

    @classmethod
    def _from_lists(
        cls,
        polygons: Sequence[Sequence[npt.NDArray[np.float64]]],
        rles: Sequence[Rle | None],
        height: int,
        width: int,
        margins: tuple[int, int, int] = (0, 0, 0),
    ) -> InstanceMasks:
        flat = [polygon for of_instance in polygons for polygon in of_instance]
        return cls(
            xy=np.concatenate([np.zeros((0, 2)), *flat]),
            polygon_ends=np.cumsum([len(polygon) for polygon in flat], dtype=np.int64),
            polygon_instance=np.repeat(np.arange(len(polygons)), [len(p) for p in polygons]).astype(np.int64),
            rles=tuple(rles),
            height=int(height),
            width=int(width),
            margins=margins,
        )

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, index: Any) -> InstanceMasks:
        return self.select(index)

    def select(self, index: Any) -> InstanceMasks:
        """The instances of ``index`` in its order: an integer or boolean array, a list or a slice."""
        chosen = np.arange(len(self))[index].reshape(-1)
        return self._from_lists(
            [self.polygons(i) for i in chosen], [self.rles[i] for i in chosen], self.height, self.width, self.margins
        )

    def with_bitmaps(self, bitmaps: Iterable[tuple[int, npt.NDArray[np.uint8]]]) -> InstanceMasks:
        """The same with other masks.

        Args:
            bitmaps: Instance and its mask [H, W] of 0 and 1; looked at one by one. A new instance has the number n.
        """
        changed = {index: _encode(bitmap) for index, bitmap in bitmaps}
        count = max([len(self), *(index + 1 for index in changed)])
        return self._from_lists(
            [self.polygons(i) if i < len(self) and i not in changed else [] for i in range(count)],
            [changed.get(i) or self.rles[i] for i in range(count)],
            self.height,
            self.width,
            self.margins,
        )

    def polygons(self, instance: int) -> list[npt.NDArray[np.float64]]:
        """The polygons of one instance, each [points, 2]; empty for one with run lengths."""
        first, last = np.searchsorted(self.polygon_instance, [instance, instance + 1])
        starts = np.concatenate([[0], self.polygon_ends])
        return [self.xy[starts[k] : starts[k + 1]] for k in range(first, last)]

    def flip_horizontal(self) -> InstanceMasks:
        """Mirrored left to right: x becomes ``width - x``."""
        xy = self.xy * np.array([-1.0, 1.0]) + np.array([float(self.width), 0.0])
        rles = tuple(rle if rle is None else _encode(_decode(rle)[:, ::-1]) for rle in self.rles)
        return replace(self, xy=xy, rles=rles, margins=(self.margins[2], self.margins[1], self.margins[0]))

    def crop(self, left: int, top: int, width: int, height: int) -> InstanceMasks:
        """Cut to a window inside the image: the same pixels as the windows of the bitmaps.

        Args:
            left: First column.
            top: First row.
            width: Columns.
            height: Rows.
        """
        part = slice(top, top + height), slice(left, left + width)
        rles = tuple(rle if rle is None else _encode(_decode(rle)[part]) for rle in self.rles)
        right = self.width - left - width
        margins = (self.margins[0] + left, self.margins[1] + top, self.margins[2] + right)
        xy = self.xy - np.array([left, top], np.float64)
        return replace(self, xy=xy, rles=rles, height=height, width=width, margins=margins)

    def resize(self, height: int, width: int) -> InstanceMasks:
        """Scaled to another image size; polygons exactly, run lengths by nearest neighbour as torchvision does."""
        if (height, width) == (self.height, self.width):
            return self
        across, down = width / self.width, height / self.height
        left, top, right = self.margins
        margins = (math.ceil(left * across), math.ceil(top * down), math.ceil(right * across))
        xy = self.xy * np.array([across, down])
        rows, columns = _nearest(self.height, height), _nearest(self.width, width)
        rles = tuple(rle if rle is None else _encode(_decode(rle)[rows][:, columns]) for rle in self.rles)
        return replace(self, xy=xy, rles=rles, height=height, width=width, margins=margins)

    def bitmaps(self, index: Any = None) -> npt.NDArray[np.uint8]:
        """Rasterised by pycocotools: [n, H, W] of 0 and 1, for all instances or those of ``index``."""
        chosen = np.arange(len(self)) if index is None else np.arange(len(self))[index].reshape(-1)
        if not len(chosen):
            return np.zeros((0, self.height, self.width), dtype=np.uint8)
        stacked: npt.NDArray[np.uint8] = coco_mask.decode(self._rles(chosen.tolist()))
        return np.ascontiguousarray(stacked.transpose(2, 0, 1))

    def overlapped(self, bitmap: npt.NDArray[np.uint8]) -> list[int]:
        """Instances that share a pixel with a bitmap [H, W]; looked at as run lengths."""
        other = _encode(bitmap)
        common = [coco_mask.merge([rle, other], intersect=True) for rle in self._rles(range(len(self)))]
        return [i for i, rle in enumerate(common) if coco_mask.area(rle)]

    def runs(self) -> MaskRuns:
        """Rasterised by pycocotools as runs of pixels, from which the exact targets are made."""
        runs = runs_of([rle["counts"] for rle in self._rles(range(len(self)))])
        return MaskRuns.from_pixels(*runs, self.height, self.width)

    def _rles(self, instances: Sequence[int]) -> list[Rle]:
        """Compressed run lengths of instances, whatever they are stored as."""
        beyond = {i: margins for i in instances if any(margins := self._beyond(i))}
        within = [i for i in instances if i not in beyond]
        drawn = dict(zip(within, self._drawn(within), strict=True))
        return [self._drawn_beyond(i, *beyond[i]) if i in beyond else drawn[i] for i in instances]

    def _beyond(self, instance: int) -> tuple[int, int]:
        """Columns and rows of the margins that the polygons of an instance reach into."""
        if not any(self.margins[:2]):
            return 0, 0
        least = np.concatenate([np.zeros((1, 2)), *self.polygons(instance)]).min(axis=0)
        return min(self.margins[0], math.ceil(-least[0])), min(self.margins[1], math.ceil(-least[1]))

    def _drawn_beyond(self, instance: int, left: int, top: int) -> Rle:
        """An instance drawn with some columns and rows of the margins, and cut."""
        one = self._from_lists(
            [[p + np.array([left, top]) for p in self.polygons(instance)]], [None], self.height + top, self.width + left
        )
        return _encode(_decode(one._drawn([0])[0])[top:, left:])

    def _drawn(self, instances: Sequence[int]) -> list[Rle]:
        """The same as if there were no margins; all polygons in one call."""
        starts, numbers = [0, *(2 * self.polygon_ends).tolist()], self.xy.reshape(-1)
        first = np.searchsorted(self.polygon_instance, np.arange(len(self) + 1)).tolist()
        chosen = [k for i in instances for k in range(first[i], first[i + 1])]
        flat = [numbers[starts[k] : starts[k + 1]] for k in chosen]
        drawn = iter(coco_mask.frPyObjects(flat, self.height, self.width) if flat else ())
        pieces = [[next(drawn) for _ in range(first[i], first[i + 1])] for i in instances]
        return [self.rles[i] or self._union(parts) for i, parts in zip(instances, pieces, strict=True)]

    def _union(self, parts: Sequence[Rle]) -> Rle:
        if not parts:
            return _encode(np.zeros((self.height, self.width), dtype=np.uint8))
        union: Rle = parts[0] if len(parts) == 1 else coco_mask.merge(parts)
        return union


def mask_kinds(records: Sequence[msgspec.Raw], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """The :class:`MaskKind` of n annotations; nothing is rasterised.

    Args:
        records: Raw annotation records; a few hundred at a time keep the memory small.
        sizes: Width and height of each annotation's image in pixels, 0 where unknown, [n, 2].

    Returns:
        Shape [n]. Kinds from ``UNREADABLE`` on cannot be trained on.
    """
    try:
        rows = _MASKED.decode(b"[" + b",".join(records) + b"]")
    except _NOT_DECODED:
        return _kinds_one_by_one(records, sizes)
    return _kinds_of([row.segmentation for row in rows], sizes)


def _kinds_of(segmentations: Sequence[Segmentation], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    columns = MaskColumns.empty(len(segmentations))
    measure_masks(segmentations, columns)
    of_runs, faults = columns.rle_sizes[:, 0] >= 0, columns.faults
    known = of_runs & (sizes > 0).all(1)
    with np.errstate(invalid="ignore"):
        far = (np.abs(columns.extents) > FARTHEST_CORNER).any(1) & ~of_runs
    # without an area nothing could be measured: no polygon has three points
    pointless = ~of_runs & np.isnan(columns.areas)
    kinds = np.full(len(segmentations), MaskKind.MASK, np.uint8)
    for kind, rows in (
        (MaskKind.EMPTY, (faults & EMPTY) > 0),
        (MaskKind.BOX, pointless),
        (MaskKind.UNFILLED, (faults & WRONG_SUM) > 0),
        (MaskKind.WRONG_SIZE, known & (columns.rle_sizes != sizes[:, ::-1]).any(1)),
        (MaskKind.UNREADABLE, far | ((faults & BROKEN) > 0)),
    ):
        kinds[rows] = kind
    return kinds


def _kinds_one_by_one(records: Sequence[msgspec.Raw], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """For a chunk that holds a segmentation of a wrong type."""
    kinds = np.full(len(records), MaskKind.UNREADABLE, np.uint8)
    sound: dict[int, Segmentation] = {}
    for row, record in enumerate(records):
        try:
            sound[row] = _MASKED_ONE.decode(record).segmentation
        except _NOT_DECODED:
            continue
    kinds[list(sound)] = _kinds_of(list(sound.values()), sizes[list(sound)])
    return kinds


def _polygons(segmentation: Any) -> list[npt.NDArray[np.float64]]:
    if not isinstance(segmentation, list | tuple):
        return []
    arrays = [_numbers(polygon) for polygon in segmentation if not isinstance(polygon, int | float)]
    return [a.reshape(-1, 2) for a in arrays if a.ndim == 1 and len(a) >= MIN_NUMBERS and len(a) % 2 == 0]


def _numbers(polygon: Any) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(polygon, dtype=np.float64)
    # lists of lists of different lengths
    except (TypeError, ValueError):
        return np.zeros(0)


def _compressed(segmentation: Any, height: int, width: int) -> Rle | None:
    """Run lengths in the compressed form that pycocotools decodes; ``None`` for anything else."""
    if not isinstance(segmentation, Mapping):
        return None
    size = [int(side) for side in segmentation["size"]]
    if size != [height, width]:
        raise DataError(
            f"segmentation: run lengths are of an image {size[0]} high and {size[1]} wide, the image is {height} high "
            f"and {width} wide; correct the size in the annotation file"
        )
    counts = segmentation["counts"]
    if isinstance(counts, bytes):
        return {"size": size, "counts": counts}
    if isinstance(counts, str):
        return {"size": size, "counts": counts.encode("ascii")}
    compressed: Rle = coco_mask.frPyObjects({"size": size, "counts": list(counts)}, height, width)
    return compressed


def _rectangles(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[n, 4] xyxy -> [n, 4, 2] corners."""
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def _decode(rle: Rle) -> npt.NDArray[np.uint8]:
    bitmap: npt.NDArray[np.uint8] = coco_mask.decode(rle)
    return bitmap


def _encode(bitmap: npt.NDArray[np.uint8]) -> Rle:
    rle: Rle = coco_mask.encode(np.asfortranarray(bitmap))
    return rle


def _nearest(source: int, target: int) -> npt.NDArray[np.int64]:
    """Source row of each of ``target`` rows, in the float32 arithmetic of ``torch.nn.functional.interpolate``."""
    scale = np.float32(source) / np.float32(target)
    rows = np.floor(np.arange(target, dtype=np.float32) * scale).astype(np.int64)
    return np.minimum(rows, source - 1)
