"""What is odd about the annotations that are measured against, and changes what the figures mean."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.findings import CROWDS_OR_OBJECTS
from lt_data.arrays import positions_of
from lt_data.checks.boxes import box_form, contradicting_areas, small_areas
from lt_data.checks.image_lists import annotated_entries, entries_of, unknown_entries
from lt_data.checks.masks import mask_notes
from lt_data.checks.notes import NOISE_SHARE, file_notes
from lt_data.errors import DataError
from lt_data.masks.measure import is_no_mask
from lt_train.evaluation.truth.columns import GroundTruth

# px^2; COCO's and LVIS's range of all areas ends there
LARGEST_AREA: Final = 1e10
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
        *_mask_notes(file, truth),
        *_missing_lists(truth, protocol),
        *(_list_notes(truth) if protocol != "coco" else ()),
    ]


def _nothing_to_measure(truth: GroundTruth) -> list[str]:
    if not truth.crowd.all():
        return []
    what = "image" if not len(truth.image_ids) else "annotation" if not len(truth.crowd) else "annotation but crowds"
    fix = f"; {CROWDS_OR_OBJECTS}" if len(truth.crowd) else ""
    return [f"{truth.source}: has no {what}: nothing will be measured{fix}"]


def _mask_notes(file: AnnotationFile, truth: GroundTruth) -> list[str]:
    """A line about masks, unless the boxes are no boxes."""
    if truth.mask_extents is None or box_form(file.boxes, file.image_sizes[file.image_index()]) is not None:
        return []
    return mask_notes(truth.mask_extents, truth.boxes, truth.source)


def _area_notes(file: AnnotationFile, truth: GroundTruth) -> list[str]:
    """Lines about areas; none that contradict boxes which are no boxes: then it is they that are wrong."""
    return [*_no_areas(truth), *_contradictions(file, truth)]


def _no_areas(truth: GroundTruth) -> list[str]:
    """A line about objects that an area of 0 or less, or a huge one, takes out of figures."""
    kept = ~truth.crowd
    count = int((kept & (truth.areas <= 0)).sum())
    huge = int((kept & (truth.areas > LARGEST_AREA)).sum())
    notes = []
    if count and count >= NOISE_SHARE * kept.sum():
        notes.append(
            f"{truth.source}: {count:,} of {len(kept):,} areas are not above 0: by COCO's rules an area below 0 counts "
            "in no figure and one of 0 as small, by LVIS's neither counts; without the field it is the area of the box"
        )
    if huge and huge >= NOISE_SHARE * kept.sum():
        notes.append(
            f"{truth.source}: {huge:,} of {len(kept):,} areas are above {LARGEST_AREA:,.0f} px^2 and count in no figure"
        )
    return notes


def _contradictions(file: AnnotationFile, truth: GroundTruth) -> list[str]:
    wrong = contradicting_areas(truth.boxes, truth.areas)
    small = np.flatnonzero(small_areas(truth.boxes, truth.areas))
    wrong[[row for row in small.tolist() if _has_no_mask(file, row)]] = True
    count = int(wrong.sum())
    few = not count or count < NOISE_SHARE * len(wrong)
    if few or box_form(file.boxes, file.image_sizes[file.image_index()]) is not None:
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
    fault = f" or hold no category ids there ({truth.list_fault})" if truth.list_fault else ""
    return [
        f"{truth.source}: {truth.images_without_lists:,} of {len(truth.image_ids):,} images lack neg_category_ids or "
        f"not_exhaustive_category_ids{fault}, so that it is measured by COCO's rules, not LVIS's; give every image "
        "both ([] where there is none), or say --protocol coco"
    ]


def frequency_notes(file: AnnotationFile, *, counted: bool) -> list[str]:
    """A line if categories lack a frequency, or have another than r, c and f, in a file that states them.

    Args:
        file: The annotations.
        counted: Whether those of the training set stand in for them.
    """
    count = file.categories.without_frequency
    if not count:
        return []
    rest = "those of the training set" if counted else "not measured"
    return [
        f"{file.path.name}: {count:,} of {len(file.categories.ids):,} categories have no usable frequency (r, c or f), "
        f"so that APr, APc and APf are {rest}; give every category one"
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
