"""One line for each kind of nonsense in a readable file, for those who go on with it: training, evaluation, building.

``lt-data check`` counts every record; a line here needs more than a handful: official files have some too.

Shapes: A annotations.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.findings import CROWDS_OR_OBJECTS
from lt_data.arrays import BoolArray, FloatArray, IntArray, examples
from lt_data.checks.boxes import Form, beyond_image, box_form, under_a_pixel
from lt_data.checks.objects import mostly_crowds, repeated_objects
from lt_data.checks.twins import category_twins, file_twins

# share of the annotations that a line needs
NOISE_SHARE: Final = 0.001
_QUESTIONS: Final[dict[Form, str]] = {
    "corners": "reach beyond their image: are they x1, y1, x2, y2?",
    "centres": "reach beyond their image: are they centres with width and height?",
    "fractions": "lie within 0..1: are they fractions of the image?",
}


def form_notes(boxes: FloatArray, sizes: IntArray, source: str) -> list[str]:
    """A line that asks for the form of boxes, if they do not look like x, y, width, height.

    Args:
        boxes: [A, 4].
        sizes: Width and height of the image of each, 0 where not known, [A, 2].
        source: What to call them.
    """
    form = box_form(boxes, sizes)
    if form is None:
        return []
    question = _QUESTIONS[form.form]
    return [
        f"{source}: {int(form.shows.sum()):,} of {len(boxes):,} boxes {question} "
        "They are taken for x, y, width, height in pixels"
    ]


def file_notes(file: AnnotationFile) -> list[str]:
    """Lines about an annotation file, none for a sound one.

    They say of boxes, repeated objects, ``ignore``, crowds, categories and image files what changes figures.

    Raises:
        DataError: A record has an area or a box of a wrong type.
    """
    boxes, sizes = file.boxes, file.image_sizes[file.image_index()]
    notes = form_notes(boxes, sizes, file.path.name)
    rows = np.arange(len(boxes))
    if not notes:
        reach = "lie outside their image, or far over its edge: are they of another form, or of another image?"
        notes += _line(file, rows, beyond_image(boxes, sizes), reach)
        notes += _line(file, rows, under_a_pixel(boxes), "have a box that is narrower than one pixel")
    return [*notes, *object_notes(file, rows, boxes, file.ignored), *crowd_notes(file), *name_notes(file)]


def object_notes(
    file: AnnotationFile, rows: IntArray, boxes: FloatArray, ignored: BoolArray, *, of: str = "annotations"
) -> list[str]:
    """Lines about objects that are listed twice, or say ``ignore`` and are no crowds.

    Args:
        file: The annotations.
        rows: Those that are looked at, R of them.
        boxes: Their boxes, [R, 4].
        ignored: Whether their ``ignore`` is 1, [R].
        of: What they are called.
    """
    crowd = file.crowd[rows]
    repeated = repeated_objects(file.annotation_image_ids[rows], file.annotation_category_ids[rows], boxes, crowd)
    same = "repeat another of the same image, category and box; each counts as an object"
    not_read = "say ignore: 1, which nothing reads, and count as objects; set iscrowd: 1 to leave them out"
    return [*_line(file, rows, repeated, same, of), *_line(file, rows, ignored & ~crowd, not_read, of)]


def crowd_notes(file: AnnotationFile) -> list[str]:
    """A line where most annotations are crowds; that all are is for those to say who then have nothing to do."""
    crowd = file.crowd
    if crowd.all() or not mostly_crowds(crowd):
        return []
    return [
        f"{file.path.name}: {int(crowd.sum()):,} of {len(crowd):,} annotations are crowds, which count as no object; "
        f"{CROWDS_OR_OBJECTS}"
    ]


def name_notes(file: AnnotationFile) -> list[str]:
    """Lines about categories and image files that are there twice, under one name or two."""
    classes, files = file.categories.names, file.file_names
    notes = []
    for twins, names, what in (
        (category_twins(classes), classes, "categories share a name but for case, spaces, _ and -; each is a class"),
        (file_twins(files), files, "images name one file; each counts as an image"),
    ):
        if twins:
            shown = ", ".join(repr(names[row]) for row in twins[0][:3])
            notes.append(f"{file.path.name}: {sum(map(len, twins)):,} {what} ({shown})")
    return notes


def _line(file: AnnotationFile, rows: IntArray, found: BoolArray, text: str, of: str = "annotations") -> list[str]:
    """A line with count and examples, if there are more than a handful."""
    count = int(found.sum())
    if not count or count < NOISE_SHARE * len(found):
        return []
    ids = examples(file.annotation_ids[rows[found]])
    return [f"{file.path.name}: {count:,} of {len(found):,} {of} {text} (annotation ids {ids})"]
