"""Results as other programs write them, turned into records that evaluation takes.

Image ids may be text. Masks may be polygons, which become run lengths of the image's size. Whatever is read in another
way than it is written is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from lt_data.checks.masks import mask_notes
from lt_train.evaluation.predictions.columns import Problem
from lt_train.evaluation.predictions.image_ids import match_images
from lt_train.evaluation.truth.columns import GroundTruth
from lt_train.evaluation.truth.masks import FAR, require_sizes

_NO_BOX: Final = (math.nan,) * 4
# a mask of an image that is not there, which is a problem of its own
_NO_MASK: Final[Mapping[str, Any]] = {"size": (0, 0), "counts": "0"}


class Turned(NamedTuple):
    """Records with numbers for image ids and run lengths for masks, what could not be turned, what was, and doubts."""

    rows: list[Any]
    problems: list[Problem]
    notes: list[str]
    warnings: list[str]


def turned(
    rows: Sequence[Any], truth: GroundTruth, *, make: Callable[..., Any], masks: bool, source: str, total: int
) -> Turned:
    """Turns records into those that evaluation takes.

    Args:
        rows: Records whose ``image_id`` may be text and whose ``segmentation`` may be polygons.
        truth: The annotations that they belong to.
        make: Makes a record of the fields of one.
        masks: Whether masks are read.
        source: What to call the predictions.
        total: Predictions given.

    Raises:
        DataError: Polygons are to be encoded, but images have no size.
    """
    numbers, notes, warnings, problems = match_images([row.image_id for row in rows], truth, source, total)
    kept = [(row, number) for row, number in zip(rows, numbers, strict=True) if number is not None]
    encoder = _Encoder(truth) if masks else None
    records, bad = [], []
    for row, number in kept:
        fields = {name: getattr(row, name) for name in row.__struct_fields__}
        fields["image_id"] = float(number)
        if "segmentation" in fields:
            fields["segmentation"] = (
                None if encoder is None else encoder.run_lengths(fields["segmentation"], number, fields.get("bbox"))
            )
        if encoder is not None and fields["segmentation"] is None:
            bad.append(number)
        else:
            records.append(make(**fields))
    if encoder is not None:
        notes = [*notes, *encoder.notes(source, total)]
        warnings = [*warnings, *encoder.warnings(source)]
    return Turned(records, [*problems, *_bad_polygons(bad, source, total)], notes, warnings)


class _Encoder:
    """Turns polygons into run lengths of their image's size, and counts them."""

    def __init__(self, truth: GroundTruth) -> None:
        self._truth = truth
        self._extents: list[tuple[float, ...]] = []
        self._boxes: list[Sequence[float]] = []

    @cached_property
    def _sizes(self) -> dict[int, list[int]]:
        """Height and width of each image."""
        require_sizes(self._truth.image_sizes, self._truth.source)
        return dict(zip(self._truth.image_ids.tolist(), self._truth.image_sizes.tolist(), strict=True))

    def run_lengths(self, mask: Any, image_id: int, box: Sequence[float] | None) -> Any:
        """Run lengths as they are, polygons encoded; ``None`` for polygons that cannot be drawn."""
        from pycocotools import mask as rle

        if not isinstance(mask, list):
            return mask
        if not _are_polygons(mask):
            return None
        x, y = ([v for polygon in mask for v in polygon[axis::2]] for axis in (0, 1))
        self._extents.append((min(x), min(y), max(x), max(y)))
        self._boxes.append(box or _NO_BOX)
        if image_id not in self._sizes:
            return _NO_MASK
        height, width = self._sizes[image_id]
        merged = rle.merge(rle.frPyObjects(mask, height, width))
        return {"size": (height, width), "counts": merged["counts"].decode("ascii")}

    def notes(self, source: str, total: int) -> list[str]:
        """A line, if any were polygons."""
        if not self._extents:
            return []
        return [
            f"{source}: {len(self._extents):,} of {total:,} predictions have polygons for a mask; they become run "
            f"lengths of the size that {self._truth.source} gives for the image"
        ]

    def warnings(self, source: str) -> list[str]:
        """A line, if the polygons are no pixels or lie beside their boxes."""
        boxes, extents = (np.array(rows, np.float64).reshape(-1, 4) for rows in (self._boxes, self._extents))
        return mask_notes(extents, boxes, source)


def _are_polygons(found: Sequence[Sequence[float]]) -> bool:
    """Three points or more each, none so far away that drawing it overflows."""
    whole = all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in found)
    return bool(found) and whole and all(math.isfinite(v) and abs(v) <= FAR for polygon in found for v in polygon)


def _bad_polygons(bad: Sequence[int], source: str, total: int) -> list[Problem]:
    if not bad:
        return []
    shown = ", ".join(map(str, list(dict.fromkeys(bad))[:3]))
    line = (
        f"{source}: {len(bad):,} of {total:,} predictions have polygons that cannot be encoded (image ids {shown}); "
        "each polygon is x1, y1, x2, y2, ... of three points or more, in pixels"
    )
    return [Problem("mask", len(bad), line)]
