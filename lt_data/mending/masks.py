"""Segmentations that hold a mask in another form than COCO's."""

from __future__ import annotations

import ast
from typing import Any, Final

import msgspec
import numpy as np

from lt_data.masks.measure import BYTES_TEXT
from lt_data.mending.document import value_of
from lt_data.mending.draft import Draft

# x and y of three points
_FEWEST_NUMBERS: Final = 6


def masks(draft: Draft) -> None:
    """Writes masks of other forms as polygons or run lengths; what cannot be told stays."""
    document = draft.document
    of_bytes = np.flatnonzero(document.columns.annotations.masks.faults & BYTES_TEXT).tolist()
    for row in sorted({*document.masks_without_area, *of_bytes}):
        raw = draft.fields("annotations", row).get("segmentation")
        text = None if raw is None else _as_coco(raw)
        if text is not None:
            draft.set("annotations", row, {"segmentation": text})


def _as_coco(raw: msgspec.Raw) -> bytes | None:
    """The mask in a form of COCO; ``None`` where it is no known form."""
    value = value_of(raw)
    if isinstance(value, dict):
        return _run_lengths(value)
    if not isinstance(value, list) or not value:
        return None
    if len(value) == 1 and isinstance(value[0], dict) and "counts" in value[0]:
        return _run_lengths(value[0]) or bytes(msgspec.json.decode(raw, type=list[msgspec.Raw])[0])
    if _are_numbers(value):
        # four numbers may be a box
        return b"[" + bytes(raw) + b"]" if len(value) >= _FEWEST_NUMBERS and len(value) % 2 == 0 else None
    polygons = [_flat(polygon) for polygon in value]
    return None if None in polygons else msgspec.json.encode(polygons)


def _run_lengths(value: dict[str, Any]) -> bytes | None:
    """Run lengths whose counts are the text of Python bytes, ``"b'...'"``."""
    counts = value.get("counts")
    if not isinstance(counts, str) or not counts.startswith(("b'", 'b"')):
        return None
    try:
        return msgspec.json.encode({**value, "counts": ast.literal_eval(counts).decode("ascii")})
    except (SyntaxError, ValueError, AttributeError):
        return None


def _are_numbers(values: list[Any]) -> bool:
    return all(type(value) in (int, float) for value in values)


def _flat(polygon: Any) -> list[float] | None:
    """Points ``[[x, y], ...]`` or ``[{"x": x, "y": y}, ...]`` as one list."""
    if not isinstance(polygon, list) or not polygon:
        return None
    points: list[Any] = [[p.get("x"), p.get("y")] if isinstance(p, dict) else p for p in polygon]
    pairs = all(isinstance(p, list) and len(p) == 2 and _are_numbers(p) for p in points)
    return [number for point in points for number in point] if pairs else None
