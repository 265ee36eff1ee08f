"""What is odd about the annotations that are measured against, and changes what the figures mean."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.findings import CROWDS_OR_OBJECTS
from lt_data.arrays import positions_of
from lt_data.checks.boxes import box_form, contradicting_areas, small_areas
from lt_data.checks.image_lists import annotated_entries, entries_of, unknown_entries
from lt_data.checks.notes import NOISE_SHARE, file_notes
from lt_data.errors import DataError
from lt_data.masks.measure import is_no_mask
from lt_train.evaluation.truth.columns import GroundTruth

# what the engines allow, which build on this room
Asked = Literal["auto", "coco", "lvis"]


def truth_notes(file: AnnotationFile, truth: GroundTruth, *, protocol: Asked = "auto") -> list[str]:
    """Lines about the annotations, none for sound ones.

    Args:
        file: The annotations.
        truth: The same as columns.
        protocol: What was asked for.
    """
    return [
        *_nothing_to_measure(truth),
        *file_notes(file),
        *_area_notes(file, truth),
        *_missing_lists(truth, protocol),
        *(_list_notes(truth) if protocol != "coco" else ()),
    ]


def _nothing_to_measure(truth: GroundTruth) -> list[str]:
    if not truth.crowd.all():
        return []
    what = "image" if not len(truth.image_ids) else "annotation" if not len(truth.crowd) else "annotation but crowds"
    fix = f"; {CROWDS_OR_OBJECTS}" if len(truth.crowd) else ""
    return [f"{truth.source}: has no {what}: nothing will be measured{fix}"]


def _area_notes(file: AnnotationFile, truth: GroundTruth) -> list[str]:
    """A line about areas, unless the boxes are no boxes: then it is they that are wrong."""
    wrong = contradicting_areas(truth.boxes, truth.areas)
    small = np.flatnonzero(small_areas(truth.boxes, truth.areas))
    wrong[[row for row in small.tolist() if _has_no_mask(file, row)]] = True
    count = int(wrong.sum())
    few = not count or count < NOISE_SHARE * len(wrong)
    if few or box_form(truth.boxes, file.image_sizes[file.image_index()]) is not None:
        return []
    return [
        f"{truth.source}: {count:,} of {len(wrong):,} areas contradict their boxes; APs, APm and APl of boxes "
        "go by the areas"
    ]


def _has_no_mask(file: AnnotationFile, row: int) -> bool:
    """Whether an area can only be that of the box; the mask of a thin object may be far smaller."""
    try:
        return is_no_mask(file.segmentation(row))
    # who measures masks refuses it
    except DataError:
        return False


def _missing_lists(truth: GroundTruth, protocol: Asked) -> list[str]:
    if not truth.images_without_lists or protocol != "auto":
        return []
    return [
        f"{truth.source}: {truth.images_without_lists:,} of {len(truth.image_ids):,} images lack neg_category_ids or "
        "not_exhaustive_category_ids, which the others have, so that it is measured by COCO's rules, not LVIS's; give "
        "every image both ([] where there is none), or say --protocol coco"
    ]


def _list_notes(truth: GroundTruth) -> list[str]:
    if truth.negatives is None or truth.not_exhaustive is None:
        return []
    negative, listed = entries_of(truth.negatives), entries_of([*truth.negatives, *truth.not_exhaustive])
    rows = positions_of(truth.images, truth.image_ids)
    annotated = int(annotated_entries(negative, rows, truth.categories).sum())
    unknown = listed.ids[unknown_entries(listed, truth.category_ids)]
    notes = []
    if annotated:
        notes.append(
            f"{truth.source}: {annotated:,} neg_category_ids name a category that is annotated in that very image, "
            "which counts as annotated"
        )
    if len(unknown):
        shown = ", ".join(map(str, np.unique(unknown)[:3].tolist()))
        notes.append(
            f"{truth.source}: {len(unknown):,} entries of neg_category_ids and not_exhaustive_category_ids name "
            f"categories that the file lacks ({shown}), and mean nothing"
        )
    return notes
