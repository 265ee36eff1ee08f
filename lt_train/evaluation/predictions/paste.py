"""Mask probabilities of 28 x 28 cells, pasted into the image straight to run lengths: no pixel is ever made.

torchvision interpolates every pixel of every mask into one float tensor [n, 1, H, W] (4.8 GB for 100 masks of a
12-megapixel image). Down a column of the image the interpolated probability is a broken line with a corner at every
cell, so it passes 0.5 at most once between two cells: here these places are computed, and they are the run lengths.
The arithmetic at a place is torchvision's (float32, the same order), so the masks are the same but for pixels whose
probability lies within rounding of 0.5. Time grows with the columns that masks cover, not with their pixels; memory
is that of a chunk of columns. Needs no torch.

Shapes: n masks, M cells a side, m = M + 2 with a border of zeros, W columns of several masks side by side, T places
where a column changes between background and mask (toggles).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lt_data.arrays import BoolArray, IntArray

if TYPE_CHECKING:
    from torch import Tensor

Float32Array = NDArray[np.float32]

# columns pasted at a time: about 5 MB of temporary arrays at M = 28, which stay in the processor's cache
COLUMNS_PER_CHUNK = 8_192
_PADDING = 1  # as torchvision pastes: one cell of zeros around each mask, so that its border is interpolated
_THRESHOLD = np.float32(0.5)
# pixels; no image is so large, and up to here float32 still tells rows apart
_FARTHEST = 2**20


@dataclass(frozen=True)
class _Toggles:
    """Where masks begin and end, in the order of their masks and column-major within each.

    Attributes:
        masks: [T] int64, position of the mask.
        pixels: [T] int64, column-major index of the first pixel that differs from the one before it.
    """

    masks: IntArray
    pixels: IntArray


def paste_masks_to_rle(
    mask_probs: Tensor | NDArray[np.floating[Any]],
    boxes: Tensor | NDArray[np.floating[Any]],
    height: int,
    width: int,
) -> list[dict[str, Any]]:
    """Paste mask probabilities into their boxes and encode what exceeds 0.5.

    Equal to ``paste_masks_in_image(..., padding=1) > 0.5`` of torchvision, then COCO's RLE, but for pixels within
    rounding of 0.5. A box wholly outside the image, or one that is none (a corner that is no finite number, a negative
    size), gives an empty mask. Memory beside the masks themselves: the arrays of ``COLUMNS_PER_CHUNK`` columns, or of
    one mask's if the image is wider, whatever the sizes of image and boxes.

    Args:
        mask_probs: [n, M, M] or [n, 1, M, M], 0..1, on any device.
        boxes: [n, 4] xyxy pixels of the image.
        height: Image height in pixels.
        width: Image width in pixels.

    Returns:
        n compressed RLEs ``{"size": [height, width], "counts": str}``.
    """
    masks = _as_float32(mask_probs)
    cells = _columns_first(masks.reshape(len(masks), *masks.shape[-2:]))
    corners = _pasted_boxes(_as_float32(boxes).reshape(-1, 4), masks.shape[-1])
    results: list[dict[str, Any]] = []
    for part in _chunks(corners, width):
        toggles = _toggles(cells[part], corners[part], height, width)
        results += _compress(_run_lengths(toggles, len(corners[part]), height * width), height, width)
    return results


def _as_float32(values: Tensor | NDArray[np.floating[Any]]) -> Float32Array:
    if not isinstance(values, np.ndarray):
        values = values.detach().float().cpu().numpy()
    return np.asarray(values, dtype=np.float32)


def _columns_first(masks: Float32Array) -> Float32Array:
    """[n, M, M] -> [n, m, m] with a border of zeros, transposed; what is no number counts as 0."""
    columns = np.pad(masks, ((0, 0), (_PADDING, _PADDING), (_PADDING, _PADDING))).transpose(0, 2, 1)
    return np.nan_to_num(np.ascontiguousarray(columns), copy=False)


def _pasted_boxes(boxes: Float32Array, cells: int) -> IntArray:
    """First and last column and row of each padded mask, [n, 4] x0, y0, x1, y1; as torchvision's ``expand_boxes``.

    A box that is none (not finite, or of negative size) lies outside every image.
    """
    scale = np.float32((cells + 2 * _PADDING) / cells)
    with np.errstate(invalid="ignore", over="ignore"):
        half = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5)
        middle = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
        grown = np.concatenate([middle - half * scale, middle + half * scale], axis=1)
    finite = np.isfinite(grown).all(axis=1, keepdims=True)
    corners = np.where(finite, grown.clip(-_FARTHEST, _FARTHEST), -1).astype(np.int64)
    corners[(corners[:, 2:] < corners[:, :2]).any(axis=1)] = -1
    return corners


def _visible_columns(corners: IntArray, width: int) -> tuple[IntArray, IntArray]:
    """First and number of the image's columns that each mask covers, [n] each."""
    left, right = corners[:, 0].clip(0, width), (corners[:, 2] + 1).clip(0, width)
    return left, right - left


def _chunks(corners: IntArray, width: int) -> Iterator[slice]:
    """Slices of masks that cover at most ``COLUMNS_PER_CHUNK`` columns together; at least one mask each."""
    ends = np.cumsum(_visible_columns(corners, width)[1])
    start = 0
    while start < len(corners):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + COLUMNS_PER_CHUNK, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def _toggles(cells: Float32Array, corners: IntArray, height: int, width: int) -> _Toggles:
    """Where the masks [n, m, m] in their boxes [n, 4] begin and end; toggles that cancel out are among them."""
    left, count = _visible_columns(corners, width)
    extents = corners[:, 2:] - corners[:, :2] + 1
    mask = np.repeat(np.arange(len(corners)), count)
    column = np.arange(len(mask)) - np.repeat(np.cumsum(count) - count - left, count)
    profiles = _profiles(cells, mask, column - corners[mask, 0], extents[mask, 0])
    above = profiles > _THRESHOLD
    place, cell = np.divmod(np.flatnonzero(above[:, 1:] != above[:, :-1]), cells.shape[-1] - 1)
    mask, start, end = mask[place], profiles[place, cell], profiles[place, cell + 1]
    rows = _first_rows_beyond(_Crossings(cell, start, end, extents[mask, 1], cells.shape[-1]))
    inside = (corners[mask, 1] + rows).clip(0, height)
    return _Toggles(mask, column[place] * height + inside)


def _profiles(cells: Float32Array, mask: IntArray, column: IntArray, columns: IntArray) -> Float32Array:
    """Probabilities down columns of pixels at the cells' own rows, [W, m].

    Args:
        cells: [n, m, m], columns first.
        mask: [W], mask of each column.
        column: [W], place of the column in its pasted mask.
        columns: [W], columns of that mask.
    """
    side = cells.shape[-1]
    first, share = _source(column, columns, side)
    first += mask * side
    flat, share = cells.reshape(-1, side), share[:, None]
    before = flat.take(first, axis=0)
    # beyond the last cell the share is 0 and what it is a share of does not matter
    after = flat.take(first + 1, axis=0, mode="clip")
    before *= np.float32(1) - share
    after *= share
    before += after
    return before


def _source(pixel: IntArray, pixels: IntArray, side: int) -> tuple[IntArray, Float32Array]:
    """Cell before each pixel and how far beyond its middle the pixel lies, in cells; as torch's bilinear kernel."""
    scale = np.float32(side) / pixels.astype(np.float32)
    # rounded to float32 once, at the end, as a processor's fused multiply-add does
    place = (scale.astype(np.float64) * (pixel + 0.5) - 0.5).astype(np.float32).clip(0, side - 1)
    first = place.astype(np.int64)
    return first, place - first.astype(np.float32)


@dataclass(frozen=True)
class _Crossings:
    """Places between two cells of a column where the probability passes 0.5.

    Attributes:
        cells: [T] int64, row of the upper cell in its padded mask.
        starts: [T] float32, probability there.
        ends: [T] float32, probability at the next cell.
        rows: [T] int64, rows of pixels of the pasted mask.
        side: m, cells a side.
    """

    cells: IntArray
    starts: Float32Array
    ends: Float32Array
    rows: IntArray
    side: int

    def not_passed(self, row: IntArray) -> BoolArray:
        """Whether a row of pixels, [T], is still on the side of ``starts``."""
        first, share = _source(row, self.rows, self.side)
        value = (np.float32(1) - share) * self.starts + share * self.ends
        same_side = (value > _THRESHOLD) == (self.starts > _THRESHOLD)
        return (first < self.cells) | ((first == self.cells) & same_side)


def _first_rows_beyond(crossings: _Crossings) -> IntArray:
    """First row of pixels that has passed each crossing, [T]; the number of rows stands for none."""
    start, rows = crossings.starts.astype(np.float64), crossings.rows
    crossing = crossings.cells + (0.5 - start) / (crossings.ends - start)
    row = np.ceil((crossing + 0.5) * rows / crossings.side - 0.5).astype(np.int64).clip(0, rows)
    # exact but for rounding: the row before or the row after may be the first
    row -= ~crossings.not_passed(row - 1) & (row > 0)
    return row + (crossings.not_passed(row) & (row < rows))


def _run_lengths(toggles: _Toggles, count: int, pixels: int) -> list[IntArray]:
    """COCO run lengths of each mask, down the columns, background first; they sum to the pixels of the image."""
    masks, starts = _uncancelled(toggles, pixels)
    bounds = np.searchsorted(masks, np.arange(count + 1))
    firsts = np.arange(count) * pixels
    # all masks one after the other, each with a bound at its first pixel
    lengths = np.diff(np.insert(masks * pixels + starts, bounds[:-1], firsts), append=count * pixels)
    bounds += np.arange(count + 1)
    return [lengths[start:stop] for start, stop in pairwise(bounds.tolist())]


def _uncancelled(toggles: _Toggles, pixels: int) -> tuple[IntArray, IntArray]:
    """Toggles without those at one pixel that cancel in pairs, and without those at the end of the image.

    A run that ends at the bottom of a column and one that starts at the top of the next are so joined.
    """
    key = toggles.masks * (pixels + 1) + toggles.pixels
    first = np.flatnonzero(np.diff(key, prepend=-1))
    times = np.diff(first, append=len(key))
    kept = first[(times % 2 == 1) & (toggles.pixels[first] < pixels)]
    return toggles.masks[kept], toggles.pixels[kept]


def _compress(runs: list[IntArray], height: int, width: int) -> list[dict[str, Any]]:
    from pycocotools import mask as rle

    if not runs:
        return []
    raw = [{"size": [height, width], "counts": lengths} for lengths in runs]
    return [
        {"size": [height, width], "counts": encoded["counts"].decode("ascii")}
        for encoded in rle.frPyObjects(raw, height, width)
    ]
