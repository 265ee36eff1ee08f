"""Detections as columns, and the words for results that several modules share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final, Literal, Self

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_train.evaluation.truth.columns import GroundTruth, with_masks

IouType = Literal["bbox", "segm"]


Results = Sequence[Mapping[str, Any]]


IOU_TYPES: Final[tuple[IouType, ...]] = ("bbox", "segm")


@dataclass(frozen=True)
class Detections:
    """Columns of a results list; make one of arrays where predictions are in memory, and no JSON is needed.

    ``records`` gives them as records, one at a time, where a file is written or a picture is drawn.

    Attributes:
        images: [D] int64 image ids.
        categories: [D] int64 category ids.
        boxes: [D, 4] float64; NaN where only masks were read.
        scores: [D] float64.
        segmentations: D compressed RLEs ``{"size": [height, width], "counts": str}``; None without masks.
        mask_areas: [D] int64, pixels of each mask; None before the masks were read.
    """

    images: IntArray
    categories: IntArray
    boxes: FloatArray
    scores: FloatArray
    segmentations: list[dict[str, Any]] | None = None
    mask_areas: IntArray | None = None

    def __len__(self) -> int:
        """Number of detections."""
        return len(self.images)

    def take(self, kept: BoolArray) -> Self:
        """The detections where ``kept`` [D] is true, in the same order."""
        if kept.all():
            return self
        masks, areas = self.segmentations, self.mask_areas
        return replace(
            self,
            images=self.images[kept],
            categories=self.categories[kept],
            boxes=self.boxes[kept],
            scores=self.scores[kept],
            segmentations=None if masks is None else [masks[i] for i in np.flatnonzero(kept).tolist()],
            mask_areas=None if areas is None else areas[kept],
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """D COCO results: image_id, category_id, bbox, score and, with masks, segmentation."""
        columns = (self.images, self.categories, self.boxes, self.scores)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for number, (image_id, category_id, box, score) in enumerate(rows):
            record = {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}
            if self.segmentations is not None:
                record["segmentation"] = self.segmentations[number]
            yield record


def join_detections(parts: Sequence[Detections]) -> Detections:
    """Detections of one part after the other, with masks if all parts have them.

    Args:
        parts: Their masks are not copied.
    """
    none = np.zeros(0, np.int64)
    masks = [part.segmentations for part in parts if part.segmentations is not None]
    return Detections(
        images=np.concatenate([none, *(part.images for part in parts)]),
        categories=np.concatenate([none, *(part.categories for part in parts)]),
        boxes=np.concatenate([np.zeros((0, 4)), *(part.boxes for part in parts)]),
        scores=np.concatenate([np.zeros(0), *(part.scores for part in parts)]),
        segmentations=list(chain.from_iterable(masks)) if len(masks) == len(parts) else None,
    )


@dataclass(frozen=True)
class Problem:
    """One kind of defect.

    Attributes:
        kind: ``record``, ``mixed`` (has more than the first record has), ``image``, ``category``, ``score``, ``box``,
            ``mask_size``, ``mask`` or ``duplicate``.
        count: Predictions that have it.
        line: Where, what, what is allowed and how to mend it.
    """

    kind: str
    count: int
    line: str


@dataclass(frozen=True, kw_only=True)
class CheckedDetections(Detections):
    """Detections that belong to the annotations they come with, so that they can be measured without another look.

    Only :func:`lt_train.evaluation.predictions.reading.read_detections` makes them.

    Attributes:
        truth: The annotations that they were checked against.
        iou_types: What was checked.
        skipped: What was left out because it is invalid.
        notes: What was read in another way than it is written, one line each.
        warnings: What could have been meant in another way than it was read, one line each.
    """

    truth: GroundTruth = field(repr=False, compare=False)
    iou_types: tuple[IouType, ...]
    skipped: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def with_truth_masks(self, file: AnnotationFile) -> CheckedDetections:
        """The same with the masks of the annotations, which nothing that was checked depends on.

        Args:
            file: What ``truth`` was read from.

        Raises:
            DataError: An annotation has no mask, or one that cannot be read.
        """
        return replace(self, truth=with_masks(self.truth, file))
