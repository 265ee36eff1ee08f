"""What is annotated in an image, in the shape of results, so that it can be drawn beside what was found."""

from __future__ import annotations

from typing import Any

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.masks.measure import is_no_mask
from lt_data.pictures.show import decode_rle, mask_outlines


def annotated_records(file: AnnotationFile, row: int, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The objects of an image, crowds left out: ``category_id``, ``bbox`` and, where it can be drawn, the mask.

    An annotation without a box, or with a box that has no size, is left out.

    Args:
        file: The annotations.
        row: Position of the image in the file.
        size: Height and width of the image in pixels.
    """
    of_image = (file.image_index() == row) & ~file.crowd
    drawable = np.isfinite(file.boxes).all(axis=1) & (file.boxes[:, 2:] > 0).all(axis=1)
    records = []
    for position in np.flatnonzero(of_image & drawable).tolist():
        record: dict[str, Any] = {
            "category_id": int(file.annotation_category_ids[position]),
            "bbox": file.boxes[position].tolist(),
        }
        mask = _run_lengths(file.segmentation(position), size)
        records.append(record if mask is None else {**record, "segmentation": mask})
    return records


def _run_lengths(segmentation: Any, size: tuple[int, int]) -> Any:
    """A mask as compressed run lengths of the image's size; ``None`` if there is none, or none that can be drawn."""
    from pycocotools import mask as rle

    if is_no_mask(segmentation):
        return None
    if isinstance(segmentation, list):
        rings = mask_outlines(segmentation)
        return rle.merge(rle.frPyObjects([ring.ravel().tolist() for ring in rings], *size)) if rings else None
    mask = decode_rle(segmentation)
    if mask is None or mask.shape != size:
        return None
    return rle.encode(np.asfortranarray(mask))
