"""Instance masks as runs of pixels in columns, and the mask loss's targets straight from them.

torchvision cuts a target out of the bitmap of a whole image with ``roi_align``: it averages bilinear samples that lie
on a grid, so a target is ``rows x bitmap x columns^T`` with one small weight matrix an axis. A bitmap that is runs of
ones needs no pixels for that: the rows' weights of a run are a difference of two running sums.

Shapes: n instances, T runs of all instances, R regions, S cells of a target's side, L pixels of a region's side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lt_data.arrays import IntArray

# numbers of one weight table that are held at a time: those that fit a processor's cache, and those that a GPU holds
MAX_NUMBERS, MAX_NUMBERS_ON_DEVICE = 2**18, 2**24
# regions of fewer runs are padded to so many
LEAST_RUNS = 64


@dataclass(frozen=True)
class MaskRuns:
    """Masks of the instances of one image as vertical runs, ordered by instance.

    Attributes:
        table: Column, first row and the row after the last of each run, [3, T] int32.
        bounds: Where the runs of each instance begin, and the last ones end, [n + 1] int64.
        longest: Most runs of an instance, known without asking the device.
        height: Image height in pixels.
        width: Image width in pixels.
    """

    table: Tensor
    bounds: Tensor
    longest: int
    height: int
    width: int

    @classmethod
    def from_pixels(cls, start: IntArray, end: IntArray, bounds: IntArray, height: int, width: int) -> MaskRuns:
        """From runs of pixels counted down the columns, as COCO's run lengths do.

        Args:
            start: First pixel of each run.
            end: The pixel after its last; beyond ``start``.
            bounds: Where the runs of each instance begin, and the last ones end, [n + 1].
            height: Image height in pixels.
            width: Image width in pixels.
        """
        first_column = start // height
        spans = (end - 1) // height - first_column + 1
        before = np.concatenate([[0], np.cumsum(spans)])
        column = np.repeat(first_column - before[:-1], spans) + np.arange(before[-1])
        first = np.maximum(np.repeat(start, spans) - column * height, 0)
        last = np.minimum(np.repeat(end, spans) - column * height, height)
        return cls(
            table=torch.from_numpy(np.stack([column, first, last]).astype(np.int32)),
            bounds=torch.from_numpy(before[bounds]),
            longest=int(np.diff(before[bounds]).max(initial=0)),
            height=height,
            width=width,
        )

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def to(self, device: torch.device, *, non_blocking: bool = False) -> MaskRuns:
        """The same on a device."""
        table, bounds = (t.to(device, non_blocking=non_blocking) for t in (self.table, self.bounds))
        return MaskRuns(table, bounds, self.longest, self.height, self.width)

    def pin_memory(self) -> MaskRuns:
        """The same in memory that a GPU can copy from while the processor works."""
        return MaskRuns(self.table.pin_memory(), self.bounds.pin_memory(), self.longest, self.height, self.width)


def _on_host(tensor: Tensor) -> bool:
    """Whether values can be looked at without waiting for a device."""
    return tensor.device.type == "cpu"


def run_targets(runs: MaskRuns, boxes: Tensor, matched: Tensor, size: int) -> Tensor:
    """Targets of the mask loss: each region's instance, cut out by the region's box and resized.

    On a GPU nothing is asked of the device; there no box may be larger than the image, as a detector's are not.

    Args:
        runs: The n instances of one image, on the device of ``boxes``.
        boxes: [R, 4] xyxy pixels in the size of ``runs``.
        matched: [R] int64, which instance each region stands for.
        size: S.

    Returns:
        [R, S, S] float32 in 0..1: what torchvision's ``project_masks_on_boxes`` makes of full bitmaps.
    """
    targets = boxes.new_zeros(len(boxes), size, size, dtype=torch.float32)
    if not runs.longest or not len(boxes):
        return targets
    counts = (runs.bounds[1:] - runs.bounds[:-1])[matched]
    order = counts.argsort()
    # on the processor regions of few runs are not padded to the most runs of the image
    on_host = _on_host(counts)
    most = counts[order].tolist() if on_host else [runs.longest] * len(boxes)
    start, numbers = 0, MAX_NUMBERS if on_host else MAX_NUMBERS_ON_DEVICE
    while start < len(boxes):
        end = _chunk_end(most, start, numbers // size)
        if most[end - 1]:
            part = order[start:end]
            targets[part] = _targets(runs, boxes[part].float(), matched[part], size, most[end - 1])
        start = end
    return targets


def _chunk_end(counts: list[int], start: int, rows: int) -> int:
    """End of a chunk of ascending run counts: not much padding, not more than ``rows`` rows with it."""
    end = start + 1
    limit = max(LEAST_RUNS, 3 * counts[start])
    while end < len(counts) and counts[end] <= limit and (end + 1 - start) * counts[end] <= rows:
        end += 1
    return end


def _targets(runs: MaskRuns, boxes: Tensor, matched: Tensor, size: int, most: int) -> Tensor:
    """The same for few regions whose instances have at most ``most`` runs."""
    start, stop = runs.bounds[matched], runs.bounds[matched + 1]
    index = start[:, None] + torch.arange(most, device=boxes.device)
    there = index < stop[:, None]
    column, first, end = runs.table[:, torch.where(there, index, 0)]
    # runs of no pixel fill up the rows of regions that have fewer
    end = torch.where(there, end, first)
    table, base = _weights(boxes, (runs.height, runs.width), size)
    rows, columns = table.unflatten(0, (2, len(boxes)))
    row_base, column_base = base.view(2, -1, 1)
    sums = rows.cumsum(dim=1)
    along = _pick(sums, end - row_base) - _pick(sums, first - row_base)
    across = _pick(columns, column - column_base + 1)
    # half precision would round the shares that targets are
    with torch.autocast(boxes.device.type, enabled=False):
        return along.transpose(1, 2) @ across


def _pick(table: Tensor, place: Tensor) -> Tensor:
    """Rows [R, T, S] of tables [R, rows, S] at places [R, T], the nearest where a place is outside."""
    row = torch.arange(len(table), device=table.device, dtype=place.dtype)[:, None] * table.shape[1]
    index = place.clamp(0, table.shape[1] - 1).add_(row)
    return table.flatten(0, 1).index_select(0, index.flatten()).view(*place.shape, table.shape[2])


def _weights(boxes: Tensor, limits: tuple[int, int], size: int) -> tuple[Tensor, Tensor]:
    """Weight of every pixel in every cell along both axes, in the float32 steps of torchvision's ``roi_align``.

    Args:
        boxes: [R, 4] xyxy pixels.
        limits: Image height and width in pixels.
        size: S.

    Returns:
        [2R, L + 2, S], rows in front of columns, with nothing in the first and last row of a table; and the pixel that
        its second row stands for, [2R] int32.
    """
    low, high = boxes[:, [1, 0]].T.flatten(), boxes[:, [3, 2]].T.flatten()
    limit = torch.empty_like(low)
    # filled in: a tensor made of numbers would be copied to a GPU, which waits
    for part, pixels in zip(limit.chunk(2), limits, strict=False):
        part.fill_(pixels)
    # boxes of less than a pixel count as one
    extent = (high - low).clamp_(min=1.0)
    cell = (extent / size)[:, None]
    grid = cell.ceil()
    on_host = _on_host(low)
    most = int(grid.max()) if on_host else -(-max(limits) // size) + 1
    cells = torch.arange(size, device=low.device)
    sample = torch.arange(most, device=low.device)
    starts = low[:, None] + cells * cell
    at = starts[:, :, None] + ((sample + 0.5) * cell / grid)[:, None]
    counted = (at >= -1) & (at <= limit[:, None, None]) & (sample < grid)[:, None]
    weight = torch.where(counted, (1 / grid)[:, None], 0.0)
    at = torch.minimum(at.clamp_(min=0), limit[:, None, None] - 1)
    below = at.floor()
    upper = at.sub_(below).mul_(weight)
    base = torch.minimum(low.floor().clamp_(min=0), limit - 1) if on_host else torch.zeros_like(low)
    below = below.sub_(base[:, None, None]).int()
    length = int(below.max()) + 2 if on_host else max(limits) + 1
    row = torch.arange(len(low), device=low.device)[:, None, None] * (length + 2) + 1
    index = ((row + below) * size + cells[:, None]).flatten()
    table = low.new_zeros(len(low) * (length + 2) * size)
    table.scatter_add_(0, index, weight.sub_(upper).flatten())
    table.scatter_add_(0, index.add_(size), upper.flatten())
    return table.view(len(low), length + 2, size), base.int()
