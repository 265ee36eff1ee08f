"""Boxes, the polygons in them, and areas; in a file whose boxes are of another form nothing of it is touched.

Shapes: A annotations. Boxes are x, y, width, height, extents x1, y1, x2, y2, in pixels.
"""

from __future__ import annotations

import numpy as np

from lt_data.arrays import BoolArray, FloatArray
from lt_data.checks.geometry import AREA_FACTOR, beside_masks, beyond_images, wrong_areas
from lt_data.checks.masks import MASK_TOLERANCE
from lt_data.masks.measure import MaskColumns, measure_masks
from lt_data.mending.document import Document, list_text, number_text, value_of
from lt_data.mending.draft import Draft
from lt_data.mending.numbers import is_quoted
from lt_data.mending.polygons import clipped_polygons, polygon_text


def boxes(draft: Draft) -> None:
    """Makes boxes from masks where they are missing, cannot be used, have no area or do not lie around their mask."""
    document = draft.document
    annotations = document.columns.annotations
    if document.form is not None:
        return
    with np.errstate(invalid="ignore", over="ignore"):
        usable = np.isfinite(annotations.boxes).all(1) & (annotations.boxes[:, 2:] > 0).all(1)
        # a mask of more than twice the box is of something else, and nobody knows which of both is wrong
        fits = ~(annotations.masks.areas > AREA_FACTOR * annotations.boxes[:, 2:].prod(1))
    _, beyond, loose = beside_masks(document.columns)
    wanted = _within_image(document, annotations.masks.extents)
    has_area = np.isfinite(wanted).all(1) & (wanted[:, 2:] > wanted[:, :2]).all(1)
    for row in np.flatnonzero((~usable | (beyond & fits) | loose) & has_area).tolist():
        x, y, right, bottom = wanted[row].tolist()
        if not is_quoted(draft.fields("annotations", row).get("bbox")):
            draft.set("annotations", row, {"bbox": list_text([x, y, right - x, bottom - y])})


def _within_image(document: Document, extents: FloatArray) -> FloatArray:
    """Extents cut at the edges of their images where these are known, [A, 4]."""
    known = np.asarray((document.sizes > 0).all(1), bool)[:, None]
    limits = np.where(known, document.sizes, np.inf)
    low = np.where(known, np.maximum(extents[:, :2], 0), extents[:, :2])
    return np.concatenate([low, np.minimum(extents[:, 2:], limits)], 1)


def clip(draft: Draft) -> None:
    """Clips boxes that reach beyond their image, and the polygons of these objects; their areas shrink with them."""
    document = draft.document
    if document.form is not None:
        return
    _, over = beyond_images(document.columns, document.sizes)
    masks_over = _masks_over_edge(document) & (over | beside_masks(document.columns).beyond)
    for row in np.flatnonzero(over | masks_over).tolist():
        values = _clipped_box(document, row) if over[row] else {}
        left = _area_of_box(document, row, values)
        if masks_over[row] and (polygons := _clipped_polygons(draft, row)) is not None:
            values["segmentation"], left = polygon_text(polygons), _area(polygons)
        area = document.columns.annotations.areas[row]
        if values and left is not None and np.isfinite(area) and area > left:
            values["area"] = number_text(left)
        draft.set("annotations", row, values)


def _masks_over_edge(document: Document) -> BoolArray:
    """Polygons that reach beyond their image by more than mask and box may differ, [A]."""
    masks = document.columns.annotations.masks
    with np.errstate(invalid="ignore"):
        over = np.maximum(-masks.extents[:, :2], masks.extents[:, 2:] - document.sizes).max(1, initial=-np.inf)
    of_polygons = (masks.rle_sizes < 0).all(1) & (masks.faults == 0) & (document.sizes > 0).all(1)
    return np.asarray(of_polygons & (over > MASK_TOLERANCE), bool)


def _clipped_box(document: Document, row: int) -> dict[str, bytes]:
    x, y, width, height = document.columns.annotations.boxes[row].tolist()
    right, bottom = (
        min(end, int(side)) for end, side in zip((x + width, y + height), document.sizes[row], strict=True)
    )
    x, y = max(x, 0), max(y, 0)
    return {"bbox": list_text([x, y, right - x, bottom - y])}


def _area_of_box(document: Document, row: int, values: dict[str, bytes]) -> float | None:
    """Area of the clipped box of an object without a mask; an area of a mask is not made of its box."""
    if "bbox" not in values or document.columns.annotations.masks.given[row]:
        return None
    _, _, width, height = value_of(values["bbox"])
    return float(width * height)


def _clipped_polygons(draft: Draft, row: int) -> list[list[float]] | None:
    """The polygons of an annotation, clipped to its image; ``None`` if nothing is left of them."""
    polygons = value_of(draft.fields("annotations", row).get("segmentation"))
    return clipped_polygons(polygons, draft.document.sizes[row].tolist()) or None


def _area(polygons: list[list[float]]) -> float:
    columns = MaskColumns.empty(1)
    measure_masks([polygons], columns)
    return float(columns.areas[0])


def areas(draft: Draft) -> None:
    """Computes areas again that are missing, not above 0 or contradicted: of the mask, or of the box without one."""
    document = draft.document
    given, masks = document.columns.annotations.boxes, document.columns.annotations.masks
    boxes_are_boxes = document.form is None
    wrong = np.logical_or.reduce(wrong_areas(document.columns, boxes_are_boxes=boxes_are_boxes))
    # what is of a wrong type is infinite
    wrong |= np.isinf(document.columns.annotations.areas)
    with np.errstate(invalid="ignore", over="ignore"):
        # a mask that is broken has no area, and its box's would not be that of the object
        known = boxes_are_boxes & ~masks.given & (given[:, 2:] > 0).all(1)
        of_boxes = np.where(known, given[:, 2:].prod(1), np.nan)
        new = np.where(masks.areas > 0, masks.areas, of_boxes)
    for row in np.flatnonzero(wrong & np.isfinite(new)).tolist():
        if not is_quoted(draft.fields("annotations", row).get("area")):
            draft.set("annotations", row, {"area": number_text(float(new[row]))})
