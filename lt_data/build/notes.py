"""What is odd about the images and objects that a build takes, and about its validation file."""

from __future__ import annotations

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.findings import CROWDS_OR_OBJECTS
from lt_data.annotations.records import readable_geometry
from lt_data.arrays import IntArray
from lt_data.build.result import Build
from lt_data.checks.notes import crowd_notes, name_notes, object_notes
from lt_data.checks.overlap import namesake_notes
from lt_data.checks.unusable_masks import unusable_masks


def build_notes(build: Build) -> list[str]:
    """Lines about what was taken, none where all is sound."""
    pool, val = build.pool, build.val
    notes = [*_taken_notes(build), *_mask_notes(build), *crowd_notes(pool), *name_notes(pool)]
    if val is not None:
        notes += namesake_notes(pool, build.selection.images, val)
        notes += _nothing_to_measure(val)
    return notes


def _taken_notes(build: Build) -> list[str]:
    """What the annotations of taken images say of themselves; the boxes of the others are never decoded."""
    rows = np.flatnonzero(build.selection.images[build.pool.image_index()])
    found, unreadable = readable_geometry([build.pool.annotation_records[row] for row in rows.tolist()])
    notes = object_notes(build.pool, rows, found.boxes, found.ignored, of="annotations of images that are taken")
    # a build copies records and needs no boxes; whoever trains on them does
    bad = rows[unreadable]
    what = "a bbox or area that cannot be read (LT302, LT303"
    return [*notes, *_refused_later(build, bad[build.selection.annotations[bad]], what, "lt-train refuses them")]


def _mask_notes(build: Build) -> list[str]:
    """Masks that stop those who train or measure masks."""
    pool, rows = build.pool, np.flatnonzero(build.selection.annotations)
    records = [pool.annotation_records[row] for row in rows.tolist()]
    wrong = unusable_masks(records, pool.image_sizes[pool.image_index()[rows]])
    what = "a segmentation that cannot be read or does not fit its image (LT404, LT405"
    return _refused_later(build, rows[wrong], what, "lt-train refuses to train masks")


def _refused_later(build: Build, rows: IntArray, what: str, who: str) -> list[str]:
    """A line on annotations that are copied and cannot be used, if there are any."""
    if not len(rows):
        return []
    shown = ", ".join(map(str, build.pool.annotation_ids[rows[:3]].tolist())) + (", ..." if len(rows) > 3 else "")
    return [
        f"{build.pool.path.name}: {len(rows):,} of the annotations taken have {what}; ids {shown}): {who}; mend the "
        "pool, lt-data check says how"
    ]


def _nothing_to_measure(val: AnnotationFile) -> list[str]:
    if not val.crowd.all():
        return []
    if len(val.crowd):
        return [f"{val.path.name}: has no annotation but crowds: nothing can be measured on it; {CROWDS_OR_OBJECTS}"]
    return [f"{val.path.name}: has no annotation: nothing can be measured on it"]
