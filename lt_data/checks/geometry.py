"""Boxes against their images, masks against their boxes.

Shapes: A annotations. Boxes are x1, y1, x2, y2 in pixels here.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lt_data.annotations.findings import FindingList
from lt_data.annotations.lists import FileColumns
from lt_data.arrays import FloatArray, IntArray
from lt_data.checks.boxes import (
    IMAGE_TOLERANCE,
    BoxForm,
    Form,
    box_form,
    contradicting_areas,
    small_areas,
    under_a_pixel,
)
from lt_data.checks.masks import MASK_TOLERANCE, outside_box
from lt_data.masks.measure import BROKEN, BYTES_TEXT, EMPTY, ODD, SHORT, WRONG_SUM

# share of the box's side by which it may be wider than its mask
LOOSE_SHARE: Final = 0.1
# factor by which area may differ from the area of the mask, and the px^2 that never count
AREA_FACTOR: Final = 2.0
AREA_TOLERANCE: Final = 64.0
_FORM_CODES: Final[dict[Form, str]] = {"corners": "LT307", "centres": "LT308", "fractions": "LT309"}


def check_geometry(file: FileColumns, log: FindingList) -> None:
    """Every check of boxes, masks and areas."""
    boxes, sizes = file.annotations.boxes.copy(), _image_sizes(file)
    # numbers near the end of the range become infinite, those that are missing stay NaN
    with np.errstate(invalid="ignore", over="ignore"):
        boxes[:, 2:] += boxes[:, :2]
        form = box_form(file.annotations.boxes, sizes)
        _check_boxes(file, log)
        _check_segmentations(file, sizes, log)
        if form is None:
            _check_reach(file, boxes, sizes, log)
            _check_masks(file, boxes, log)
        else:
            _add_form(file, form, sizes, log)
        _check_areas(file, log, boxes_are_boxes=form is None)


def _box_text(file: FileColumns, row: int) -> str:
    return f"bbox [{', '.join(f'{v:g}' for v in file.annotations.boxes[row])}]"


def _check_boxes(file: FileColumns, log: FindingList) -> None:
    given = file.annotations.boxes
    log.add_many("LT301", np.flatnonzero(np.isnan(given).all(1)), file.annotation)
    finite = np.isfinite(given).all(1)
    has_area = (given[:, 2:] > 0).all(1)
    log.add_many(
        "LT304", np.flatnonzero(finite & ~has_area), lambda row: f"{file.annotation(row)}: {_box_text(file, row)}"
    )


def _add_form(file: FileColumns, form: BoxForm, sizes: IntArray, log: FindingList) -> None:
    """Boxes of another form; what follows from that (outside their image, beside their mask) is not told again."""
    log.add_many(
        _FORM_CODES[form.form],
        np.flatnonzero(form.shows),
        lambda row: f"{file.annotation(row)}: {_box_text(file, row)}, image {sizes[row, 0]} x {sizes[row, 1]}",
    )


def _check_reach(file: FileColumns, boxes: FloatArray, size: IntArray, log: FindingList) -> None:
    given = file.annotations.boxes
    known = np.isfinite(given).all(1) & (given[:, 2:] > 0).all(1) & (size > 0).all(1)
    inside = (boxes[:, :2] < size) & (boxes[:, 2:] > 0)
    outside = known & ~inside.all(1)
    over = np.maximum(-boxes[:, :2], boxes[:, 2:] - size).max(1, initial=-np.inf)

    def describe(row: int) -> str:
        return f"{file.annotation(row)}: {_box_text(file, row)}, image {size[row, 0]} x {size[row, 1]}"

    log.add_many("LT305", np.flatnonzero(outside), describe)
    log.add_many("LT306", np.flatnonzero(known & ~outside & (over > IMAGE_TOLERANCE)), describe)
    narrow = np.flatnonzero(under_a_pixel(given))
    log.add_many("LT310", narrow, lambda row: f"{file.annotation(row)}: {_box_text(file, row)}")


def _image_sizes(file: FileColumns) -> IntArray:
    """Width and height of each annotation's image, 0 where not known, shape [A, 2]."""
    ids, wanted = file.images.ids, file.annotations.image_ids
    sizes = np.zeros((len(wanted), 2), np.int64)
    if not len(ids):
        return sizes
    order = np.argsort(ids, kind="stable")
    place = order[np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)]
    found = ids[place] == wanted
    sizes[found] = file.images.sizes[place[found]]
    return sizes


def _check_segmentations(file: FileColumns, width_height: IntArray, log: FindingList) -> None:
    masks = file.annotations.masks
    of_bytes = (masks.faults & BYTES_TEXT > 0) & (masks.faults & (BROKEN | WRONG_SUM) > 0)
    for code, bit in (("LT401", SHORT), ("LT402", ODD), ("LT403", EMPTY), ("LT405", BROKEN)):
        log.add_many(code, np.flatnonzero((masks.faults & bit > 0) & ~of_bytes), file.annotation)
    log.add_many(
        "LT405",
        np.flatnonzero(of_bytes),
        lambda row: f"{file.annotation(row)}: counts is text of Python bytes (b'...'); write rle['counts'].decode()",
    )
    if masks.given.any():
        log.add_many("LT409", np.flatnonzero(~masks.given & ~file.annotations.crowd), file.annotation)
    of_image = masks.rle_sizes == width_height[:, ::-1]
    known = (masks.rle_sizes >= 0).all(1) & (width_height > 0).all(1)
    wrong = ((known & ~of_image.all(1)) | ((masks.faults & WRONG_SUM) > 0)) & ~of_bytes

    def describe(row: int) -> str:
        size = "{}, {}".format(*masks.rle_sizes[row])
        image = "image {} x {}".format(*width_height[row])
        filled = "; the runs do not fill it" if masks.faults[row] & WRONG_SUM else ""
        return f"{file.annotation(row)}: size [{size}], {image}{filled}"

    log.add_many("LT404", np.flatnonzero(wrong), describe)


def _check_masks(file: FileColumns, boxes: FloatArray, log: FindingList) -> None:
    extents = file.annotations.masks.extents
    comparable = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1) & np.isfinite(extents).all(1)
    low, high = extents[:, :2] - boxes[:, :2], boxes[:, 2:] - extents[:, 2:]
    # positive: the box is wider than the mask; negative: the mask is wider than the box
    slack = np.concatenate([low, high], 1)
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    loose = (slack > np.maximum(MASK_TOLERANCE, LOOSE_SHARE * sides)).any(1)
    outside = comparable & outside_box(extents, file.annotations.boxes)
    beyond = comparable & ~outside & (slack < -MASK_TOLERANCE).any(1)

    def describe(row: int) -> str:
        x, y, right, bottom = extents[row]
        return f"{file.annotation(row)}: {_box_text(file, row)}, mask [{x:g}, {y:g}, {right - x:g}, {bottom - y:g}]"

    log.add_many("LT406", np.flatnonzero(outside), describe)
    log.add_many("LT407", np.flatnonzero(beyond), describe)
    log.add_many("LT408", np.flatnonzero(comparable & ~outside & ~beyond & loose), describe)


def _check_areas(file: FileColumns, log: FindingList, *, boxes_are_boxes: bool) -> None:
    areas, masks = file.annotations.areas, file.annotations.masks
    given = areas > 0
    log.add_many("LT411", np.flatnonzero(~given), lambda row: f"{file.annotation(row)}: area {areas[row]:g}")
    smaller, larger = np.minimum(areas, masks.areas), np.maximum(areas, masks.areas)
    differs = given & np.isfinite(areas) & (larger > AREA_FACTOR * smaller) & (larger - smaller > AREA_TOLERANCE)
    log.add_many(
        "LT410",
        np.flatnonzero(differs),
        lambda row: f"{file.annotation(row)}: area {areas[row]:g}, mask {masks.areas[row]:g}",
    )
    if boxes_are_boxes:
        # where there is a mask, the area is that of the mask, whatever the box is
        rows = np.flatnonzero(np.isnan(masks.areas))
        of_boxes = file.annotations.boxes[rows], areas[rows]
        log.add_many(
            "LT311",
            rows[contradicting_areas(*of_boxes) | small_areas(*of_boxes)],
            lambda row: f"{file.annotation(row)}: area {areas[row]:g}, {_box_text(file, row)}",
        )
