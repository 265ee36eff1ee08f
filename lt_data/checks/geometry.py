"""Boxes against their images, masks against their boxes.

Shapes: A annotations. Boxes are x, y, width, height in pixels.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from lt_data.annotations.findings import FindingList
from lt_data.annotations.lists import FileColumns
from lt_data.arrays import BoolArray, FloatArray, IntArray
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
    sizes = image_sizes(file)
    with np.errstate(invalid="ignore", over="ignore"):
        form = box_form(file.annotations.boxes, sizes)
        _check_boxes(file, log)
        _check_segmentations(file, sizes, log)
        if form is None:
            _check_reach(file, sizes, log)
            _check_masks(file, log)
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


def beyond_images(file: FileColumns, size: IntArray) -> tuple[BoolArray, BoolArray]:
    """Boxes that lie outside their image, and others that reach beyond it, [A] each.

    Args:
        file: The file's columns.
        size: Width and height of each annotation's image, 0 where not known, [A, 2].
    """
    given, boxes = file.annotations.boxes, _corners(file)
    known = np.asarray(np.isfinite(given).all(1) & (given[:, 2:] > 0).all(1) & (size > 0).all(1), bool)
    outside = known & ~np.asarray((boxes[:, :2] < size) & (boxes[:, 2:] > 0), bool).all(1)
    with np.errstate(invalid="ignore"):
        over = np.maximum(-boxes[:, :2], boxes[:, 2:] - size).max(1, initial=-np.inf)
    return outside, known & ~outside & (over > IMAGE_TOLERANCE)


def _corners(file: FileColumns) -> FloatArray:
    """Boxes as x1, y1, x2, y2, [A, 4]."""
    boxes = file.annotations.boxes.copy()
    # numbers near the end of the range become infinite, those that are missing stay NaN
    with np.errstate(invalid="ignore", over="ignore"):
        boxes[:, 2:] += boxes[:, :2]
    return boxes


def _check_reach(file: FileColumns, size: IntArray, log: FindingList) -> None:
    outside, over = beyond_images(file, size)

    def describe(row: int) -> str:
        return f"{file.annotation(row)}: {_box_text(file, row)}, image {size[row, 0]} x {size[row, 1]}"

    log.add_many("LT305", np.flatnonzero(outside), describe)
    log.add_many("LT306", np.flatnonzero(over), describe)
    narrow = np.flatnonzero(under_a_pixel(file.annotations.boxes))
    log.add_many("LT310", narrow, lambda row: f"{file.annotation(row)}: {_box_text(file, row)}")


def image_sizes(file: FileColumns) -> IntArray:
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


class BesideMasks(NamedTuple):
    """Masks outside their box, others that reach beyond it, and boxes that reach beyond their mask, [A] each."""

    outside: BoolArray
    beyond: BoolArray
    loose: BoolArray


def beside_masks(file: FileColumns) -> BesideMasks:
    """Boxes that do not lie around their masks."""
    extents, boxes = file.annotations.masks.extents, _corners(file)
    with np.errstate(invalid="ignore", over="ignore"):
        comparable = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1) & np.isfinite(extents).all(1)
        low, high = extents[:, :2] - boxes[:, :2], boxes[:, 2:] - extents[:, 2:]
        # positive: the box is wider than the mask; negative: the mask is wider than the box
        slack = np.concatenate([low, high], 1)
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        loose = (slack > np.maximum(MASK_TOLERANCE, LOOSE_SHARE * sides)).any(1)
        outside = comparable & outside_box(extents, file.annotations.boxes)
        beyond = comparable & ~outside & (slack < -MASK_TOLERANCE).any(1)
    return BesideMasks(outside, beyond, comparable & ~outside & ~beyond & loose)


def _check_masks(file: FileColumns, log: FindingList) -> None:
    extents = file.annotations.masks.extents
    found = beside_masks(file)

    def describe(row: int) -> str:
        x, y, right, bottom = extents[row]
        return f"{file.annotation(row)}: {_box_text(file, row)}, mask [{x:g}, {y:g}, {right - x:g}, {bottom - y:g}]"

    for code, rows in (("LT406", found.outside), ("LT407", found.beyond), ("LT408", found.loose)):
        log.add_many(code, np.flatnonzero(rows), describe)


class WrongAreas(NamedTuple):
    """Areas that are missing or not above 0, that differ from their mask's, that contradict their box, [A] each."""

    missing: BoolArray
    of_masks: BoolArray
    of_boxes: BoolArray


def wrong_areas(file: FileColumns, *, boxes_are_boxes: bool) -> WrongAreas:
    """Areas that are not those of their objects.

    Args:
        file: The file's columns.
        boxes_are_boxes: Whether boxes are x, y, width, height in pixels, as far as one can tell.
    """
    areas, masks = file.annotations.areas, file.annotations.masks
    given = np.asarray(areas > 0, bool)
    with np.errstate(invalid="ignore", over="ignore"):
        smaller, larger = np.minimum(areas, masks.areas), np.maximum(areas, masks.areas)
        differs = given & np.isfinite(areas) & (larger > AREA_FACTOR * smaller) & (larger - smaller > AREA_TOLERANCE)
    contradicts = np.zeros(len(areas), bool)
    if boxes_are_boxes:
        # where there is a mask, the area is that of the mask, whatever the box is
        rows = np.flatnonzero(np.isnan(masks.areas))
        of_boxes = file.annotations.boxes[rows], areas[rows]
        contradicts[rows] = contradicting_areas(*of_boxes) | small_areas(*of_boxes)
    return WrongAreas(~given, differs, contradicts)


def _check_areas(file: FileColumns, log: FindingList, *, boxes_are_boxes: bool) -> None:
    areas, masks = file.annotations.areas, file.annotations.masks
    found = wrong_areas(file, boxes_are_boxes=boxes_are_boxes)

    def describe(row: int, beside: str = "") -> str:
        return f"{file.annotation(row)}: area {areas[row]:g}{beside}"

    log.add_many("LT411", np.flatnonzero(found.missing), describe)
    log.add_many("LT410", np.flatnonzero(found.of_masks), lambda row: describe(row, f", mask {masks.areas[row]:g}"))
    log.add_many("LT311", np.flatnonzero(found.of_boxes), lambda row: describe(row, f", {_box_text(file, row)}"))
