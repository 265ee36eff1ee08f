"""What is odd about the images and objects that a build takes, and about its validation file."""

from __future__ import annotations

import msgspec
import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.findings import CROWDS_OR_OBJECTS
from lt_data.annotations.records import IGNORED, UNREADABLE, GeometryRecord
from lt_data.build.result import Build
from lt_data.checks.notes import crowd_notes, name_notes, object_notes
from lt_data.checks.overlap import namesake_notes


def build_notes(build: Build) -> list[str]:
    """Lines about what was taken, none where all is sound."""
    pool, val = build.pool, build.val
    notes = [*_taken_notes(build), *crowd_notes(pool), *name_notes(pool)]
    if val is not None:
        notes += namesake_notes(pool, build.selection.images, val)
        notes += _nothing_to_measure(val)
    return notes


def _taken_notes(build: Build) -> list[str]:
    """What the annotations of taken images say of themselves; the boxes of the others are never decoded."""
    rows = np.flatnonzero(build.selection.images[build.pool.image_index()])
    records, decoder = build.pool.annotation_records, msgspec.json.Decoder(GeometryRecord)
    boxes, ignored = np.full((len(rows), 4), np.nan), np.zeros(len(rows), bool)
    for place, row in enumerate(rows.tolist()):
        try:
            found = decoder.decode(records[row])
        # a build needs no boxes: lt-data check says what is wrong with this one
        except UNREADABLE:
            continue
        ignored[place] = found.ignore in IGNORED
        if found.bbox is not None:
            boxes[place] = found.bbox
    return object_notes(build.pool, rows, boxes, ignored, of="annotations of images that are taken")


def _nothing_to_measure(val: AnnotationFile) -> list[str]:
    if not val.crowd.all():
        return []
    if len(val.crowd):
        return [f"{val.path.name}: has no annotation but crowds: nothing can be measured on it; {CROWDS_OR_OBJECTS}"]
    return [f"{val.path.name}: has no annotation: nothing can be measured on it"]
