"""What is odd about predictions that can be measured, and probably not what was meant."""

from __future__ import annotations

from typing import Final

import numpy as np

from lt_data.arrays import positions_of
from lt_data.checks.notes import form_notes
from lt_train.evaluation.predictions.columns import CheckedDetections

# share of the annotated images with a prediction below which it is asked whether some were left out
_FEW_IMAGES: Final = 0.5


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
        notes += form_notes(found.boxes, found.truth.image_sizes[rows][:, ::-1], source)
    annotated = np.unique(found.truth.images)
    count = int(np.isin(annotated, found.images).sum())
    if count < _FEW_IMAGES * len(annotated):
        notes.append(
            f"{source}: only {count:,} of {len(annotated):,} images with annotations have a prediction; the objects of "
            "the others count as missed"
        )
    return notes
