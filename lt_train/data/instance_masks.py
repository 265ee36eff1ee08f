"""Instance masks of one image as flat polygons and run lengths, and the targets of the mask loss made from them.

A polygon is a few hundred bytes where a bitmap is a megabyte, so masks travel in this form from the annotation file to
the loss. Shapes: n instances, K polygons, P points, R regions; H, W image size in pixels; points are (x, y) pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from lt_data.checks_masks import BROKEN, EMPTY, WRONG_SUM, MaskColumns, RunLengths, Segmentation, measure_masks
from lt_data.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Rle = Mapping[str, Any]

# a polygon has at least three points
MIN_NUMBERS = 6
# pixels that mask_targets rasterises at a time
MAX_PIXELS = 2**24
# px; pycocotools walks along a polygon's edges in steps of a fifth of a pixel and counts them in 32 bits
FARTHEST_CORNER = 1e6


class MaskKind(IntEnum):
    """What training makes of a ``segmentation``."""

    MASK = 0
    # there is no polygon of three points, and no run lengths
    BOX = 1
    # a mask of no pixel
    EMPTY = 2
    # numbers missing, not finite or out of reach, or no run lengths
    UNREADABLE = 3
    # run lengths of another image size
    WRONG_SIZE = 4
    # run lengths whose sum is not their size
    UNFILLED = 5


class _Masked(msgspec.Struct, gc=False):
    segmentation: list[list[float]] | RunLengths | None = None


class _Anything(msgspec.Struct):
    segmentation: Any = None


# records nested too deeply end in a RecursionError
_NOT_DECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_MASKED = msgspec.json.Decoder(list[_Masked])
_MASKED_ONE = msgspec.json.Decoder(_Masked)
_ANYTHING = msgspec.json.Decoder(_Anything)


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
    """

    xy: npt.NDArray[np.float64]
    polygon_ends: npt.NDArray[np.int64]
    polygon_instance: npt.NDArray[np.int64]
    rles: tuple[Rle | None, ...]
    height: int
    width: int

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
    ) -> InstanceMasks:
        flat = [polygon for of_instance in polygons for polygon in of_instance]
        return cls(
            xy=np.concatenate([np.zeros((0, 2)), *flat]),
            polygon_ends=np.cumsum([len(polygon) for polygon in flat], dtype=np.int64),
            polygon_instance=np.repeat(np.arange(len(polygons)), [len(p) for p in polygons]).astype(np.int64),
            rles=tuple(rles),
            height=int(height),
            width=int(width),
        )

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, index: Any) -> InstanceMasks:
        return self.select(index)

    def select(self, index: Any) -> InstanceMasks:
        """The instances of ``index`` in its order: an integer or boolean array, a list or a slice."""
        chosen = np.arange(len(self))[index].reshape(-1)
        return self._from_lists(
            [self.polygons(i) for i in chosen], [self.rles[i] for i in chosen], self.height, self.width
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
        return InstanceMasks(xy, self.polygon_ends, self.polygon_instance, rles, self.height, self.width)

    def resize(self, height: int, width: int) -> InstanceMasks:
        """Scaled to another image size; polygons exactly, run lengths by nearest neighbour as torchvision does."""
        if (height, width) == (self.height, self.width):
            return self
        xy = self.xy * np.array([width / self.width, height / self.height])
        rows, columns = _nearest(self.height, height), _nearest(self.width, width)
        rles = tuple(rle if rle is None else _encode(_decode(rle)[rows][:, columns]) for rle in self.rles)
        return InstanceMasks(xy, self.polygon_ends, self.polygon_instance, rles, height, width)

    def bitmaps(self, index: Any = None) -> npt.NDArray[np.uint8]:
        """Rasterised by pycocotools: [n, H, W] of 0 and 1, for all instances or those of ``index``."""
        chosen = np.arange(len(self)) if index is None else np.arange(len(self))[index].reshape(-1)
        if not len(chosen):
            return np.zeros((0, self.height, self.width), dtype=np.uint8)
        stacked: npt.NDArray[np.uint8] = coco_mask.decode([self._rle(int(i)) for i in chosen])
        return np.ascontiguousarray(stacked.transpose(2, 0, 1))

    def _rle(self, instance: int) -> Rle:
        """Compressed run lengths of one instance, whatever it is stored as."""
        stored = self.rles[instance]
        if stored is not None:
            return stored
        polygons = [polygon.reshape(-1) for polygon in self.polygons(instance)]
        if not polygons:
            return _encode(np.zeros((self.height, self.width), dtype=np.uint8))
        union: Rle = coco_mask.merge(coco_mask.frPyObjects(polygons, self.height, self.width))
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
            kinds[row] = _kind_of_wrong_type(record)
    kinds[list(sound)] = _kinds_of(list(sound.values()), sizes[list(sound)])
    return kinds


def _kind_of_wrong_type(record: msgspec.Raw) -> MaskKind:
    """Lists of numbers, nested in another way than polygons are, stand for no mask; all else is unreadable."""
    try:
        segmentation = _ANYTHING.decode(record).segmentation
        if not isinstance(segmentation, list) or not _holds_numbers(segmentation):
            return MaskKind.UNREADABLE
    except _NOT_DECODED:
        return MaskKind.UNREADABLE
    return MaskKind.MASK if _polygons(segmentation) else MaskKind.BOX


def _holds_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_holds_numbers, value))
    return type(value) in (int, float) and abs(value) <= FARTHEST_CORNER


def mask_targets(masks: InstanceMasks, boxes: Tensor, matched: Tensor, size: int) -> Tensor:
    """Targets of the mask loss: each region's instance, cut out by the region's box and resized.

    Args:
        masks: The n instances of one image.
        boxes: [R, 4] xyxy pixels in the size of ``masks``.
        matched: [R] int64, which instance each region stands for.
        size: Side of a target in cells.

    Returns:
        [R, size, size] in 0..1, on the device and in the type of ``boxes``. Equal to torchvision's
        ``project_masks_on_boxes`` on full bitmaps; only instances with a region are rasterised, a few at a time.
    """
    import torch
    from torchvision.ops import roi_align

    instances, which = np.unique(matched.cpu().numpy(), return_inverse=True)
    per_chunk = max(1, MAX_PIXELS // max(1, masks.height * masks.width))
    targets = boxes.new_zeros(len(boxes), size, size)
    for start in range(0, len(instances), per_chunk):
        bitmaps = torch.from_numpy(masks.bitmaps(instances[start : start + per_chunk])).to(boxes.device).to(boxes)
        regions = np.flatnonzero((which >= start) & (which < start + per_chunk))
        here = torch.from_numpy(regions).to(boxes.device)
        source = torch.from_numpy(which[regions] - start).to(boxes)
        rois = torch.cat([source[:, None], boxes[here]], dim=1)
        targets[here] = roi_align(bitmaps[:, None], rois, (size, size), 1.0)[:, 0]
    return targets


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
