"""What is odd about predictions that can be measured, and probably not what was meant."""

from __future__ import annotations

from typing import Final

import numpy as np

from lt_data.arrays import FloatArray, IntArray, positions_of
from lt_data.checks.boxes import beyond_image, under_a_pixel
from lt_data.checks.notes import form_notes
from lt_train.evaluation.predictions.columns import CheckedDetections

# share of the annotated images with a prediction below which it is asked whether some were left out
_FEW_IMAGES: Final = 0.5
# share of the boxes that a line needs: detectors that do not cut off boxes write some
_ODD_BOXES: Final = 0.01


def prediction_notes(found: CheckedDetections, *, source: str) -> list[str]:
    """Lines about predictions of unknown origin, none for sound ones.

    Args:
        found: The predictions that are measured.
        source: What to call them.
    """
    notes = []
    if "bbox" in found.iou_types and len(found):
        rows = positions_of(found.images, found.truth.image_ids)
        # height and width there
        notes += _box_notes(found.boxes, found.truth.image_sizes[rows][:, ::-1], source)
    annotated = np.unique(found.truth.images)
    count = int(np.isin(annotated, found.images).sum())
    if count < _FEW_IMAGES * len(annotated):
        notes.append(
            f"{source}: only {count:,} of {len(annotated):,} images with annotations have a prediction; the objects of "
            "the others count as missed"
        )
    return notes


def _box_notes(boxes: FloatArray, sizes: IntArray, source: str) -> list[str]:
    """Lines about boxes of another form: all of them, or more than a few."""
    notes = form_notes(boxes, sizes, source)
    if notes:
        return notes
    for found, text in (
        (beyond_image(boxes, sizes), "lie outside their image, or far over its edge: are they of another form?"),
        (under_a_pixel(boxes), "are narrower than one pixel: are they fractions of the image?"),
    ):
        count = int(found.sum())
        if count and count >= _ODD_BOXES * len(boxes):
            notes.append(f"{source}: {count:,} of {len(boxes):,} boxes {text}")
    return notes
