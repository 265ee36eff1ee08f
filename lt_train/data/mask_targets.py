"""Targets of the mask loss: each region's instance, cut out by the region's box and resized, in one of two ways.

``exact`` is what torchvision's ``roi_align`` makes of full bitmaps: shares of each cell. ``polygon`` draws the polygons
straight into the cells, as Detectron and mmdetection do: 0 or 1.

Shapes: n instances, R regions, S cells of a target's side.
"""

from __future__ import annotations

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from lt_data.arrays import IntArray
from lt_train.data.instance_masks import InstanceMasks
from lt_train.data.mask_runs import MaskRuns, run_targets

# px; boxes of no extent are scaled as if they had this much, as in detectron2
SMALLEST_EXTENT = 0.1


def mask_targets(masks: InstanceMasks | MaskRuns, boxes: Tensor, matched: Tensor, size: int, kind: str) -> Tensor:
    """Targets of the regions of one image.

    Args:
        masks: The n instances; ``polygon`` needs them as polygons.
        boxes: [R, 4] xyxy pixels in the size of ``masks``.
        matched: [R] int64, which instance each region stands for.
        size: S.
        kind: ``exact`` or ``polygon``.

    Returns:
        [R, S, S] float32 in 0..1, on the device of ``boxes``.

    Raises:
        TypeError: ``polygon`` is asked of runs.
    """
    if kind == "exact":
        runs = masks.runs() if isinstance(masks, InstanceMasks) else masks
        return run_targets(runs.to(boxes.device, non_blocking=True), boxes, matched, size)
    if not isinstance(masks, InstanceMasks):
        raise TypeError("masks: targets of kind 'polygon' are drawn from InstanceMasks; got MaskRuns")
    return polygon_targets(masks, boxes, matched, size)


def polygon_targets(masks: InstanceMasks, boxes: Tensor, matched: Tensor, size: int) -> Tensor:
    """Polygons drawn by pycocotools into S x S cells; instances of run lengths take their exact target's half.

    The boxes are read by the processor: on a GPU this waits for them.

    Args:
        masks: The n instances.
        boxes: [R, 4] xyxy pixels.
        matched: [R] int64.
        size: S.

    Returns:
        [R, S, S] float32, 0 or 1.

    Source: Detectron, ``polys_to_mask_wrt_box``.
    """
    corners, instance = boxes.double().cpu().numpy(), matched.cpu().numpy()
    points, ends, region = _polygons_of(masks, instance)
    extent = np.maximum(corners[:, 2:] - corners[:, :2], SMALLEST_EXTENT)
    of_point = np.repeat(region, np.diff(ends, prepend=0))
    scaled = (points - corners[of_point, :2]) * (size / extent[of_point])
    cells = _drawn(scaled, ends, region, len(boxes), size)
    of_runs = np.flatnonzero([masks.rles[i] is not None for i in instance.tolist()])
    if len(of_runs):
        part = torch.from_numpy(of_runs)
        exact = run_targets(masks.runs(), boxes.cpu()[part], matched.cpu()[part], size)
        cells[of_runs] = (exact >= 0.5).numpy()
    return torch.from_numpy(cells).to(boxes.device).float()


def _polygons_of(masks: InstanceMasks, instance: IntArray) -> tuple[np.ndarray, IntArray, IntArray]:
    """Points [P, 2], end of each polygon in them, and the region of each, for the instances of regions."""
    first, last = np.searchsorted(masks.polygon_instance, [instance, instance + 1])
    count = last - first
    region = np.repeat(np.arange(len(instance)), count)
    polygon = _ranges(first, count)
    starts = np.concatenate([[0], masks.polygon_ends])
    length = np.diff(starts)[polygon]
    return masks.xy[_ranges(starts[polygon], length)], np.cumsum(length), region


def _ranges(start: IntArray, count: IntArray) -> IntArray:
    """The whole numbers from each start on, ``count`` of them, one after the other."""
    before = np.cumsum(count) - count
    return np.repeat(start - before, count) + np.arange(count.sum())


def _drawn(points: np.ndarray, ends: IntArray, region: IntArray, regions: int, size: int) -> np.ndarray:
    """Cells [R, S, S] that polygons cover; several of a region are united."""
    cells = np.zeros((regions, size, size), np.uint8)
    if len(ends):
        polygons = np.split(points.reshape(-1), 2 * ends[:-1])
        bitmaps = coco_mask.decode(coco_mask.frPyObjects(polygons, size, size)).transpose(2, 0, 1)
        first = np.flatnonzero(np.diff(region, prepend=-1))
        cells[region[first]] = np.maximum.reduceat(bitmaps, first, axis=0)
    return cells
