"""The annotations that detections are measured against, as columns.

Shapes: N images, A annotations, K categories in ascending dataset id. Boxes
here are COCO ``[x, y, width, height]`` in pixels, areas px^2, ids are dataset ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lt_data.annotations import AnnotationFile, parse_annotations, read_annotations
from lt_data.errors import DataError


@dataclass(frozen=True)
class GroundTruth:
    """Annotations as an evaluation wants them.

    Attributes:
        source: What to call the file in a message.
        image_ids: [N] int64, ascending.
        image_sizes: [N, 2] int64, height and width in pixels (0 where the file does not say).
        category_ids: [K] int64, ascending.
        category_names: K names in the order of ``category_ids``.
        images: [A] int64, image id of each annotation.
        categories: [A] int64, category id of each annotation.
        boxes: [A, 4] float64.
        areas: [A] float64; the box area where the file has none (LVIS and COCO files always have it).
        crowd: [A] bool.
        segmentations: A polygons or RLEs as in the file; None if they were not asked for.
    """

    source: str
    image_ids: NDArray[np.int64]
    image_sizes: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    category_names: tuple[str, ...]
    images: NDArray[np.int64]
    categories: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    segmentations: list[Any] | None

    def instances(self) -> NDArray[np.int64]:
        """Non-crowd annotations per category, [K] int64."""
        index = np.searchsorted(self.category_ids, self.categories[~self.crowd])
        return np.bincount(index, minlength=len(self.category_ids)).astype(np.int64)


def load_ground_truth(
    annotations: Path | str | Mapping[str, Any] | AnnotationFile, *, masks: bool, source: str | None = None
) -> GroundTruth:
    """Read a COCO or LVIS annotation file, or take one that was read, or the same content as a dict.

    Args:
        annotations: Path of the JSON file, the file as read, or its content. A dict is not changed.
        masks: Keep the segmentations; every annotation must then have one.
        source: What to call the annotations in messages; the file name if not given.

    Raises:
        DataError: The file is missing, is no annotation file, or lacks something an evaluation needs.
    """
    if isinstance(annotations, Mapping):
        name = Path(source or "annotations")
        annotations = parse_annotations(msgspec.json.encode(annotations, enc_hook=plain_number), name)
    elif not isinstance(annotations, AnnotationFile):
        annotations = read_annotations(Path(annotations))
    ground_truth = _columns(annotations, source or annotations.path.name, masks=masks)
    _require_boxes(ground_truth)
    if masks:
        _require_masks(ground_truth)
    return ground_truth


def _columns(file: AnnotationFile, source: str, *, masks: bool) -> GroundTruth:
    image_order, category_order = np.argsort(file.image_ids), np.argsort(file.categories.ids)
    return GroundTruth(
        source=source,
        image_ids=file.image_ids[image_order],
        image_sizes=file.image_sizes[image_order][:, ::-1],
        category_ids=file.categories.ids[category_order],
        category_names=tuple(file.categories.names[i] for i in category_order),
        images=file.annotation_image_ids,
        categories=file.annotation_category_ids,
        boxes=file.boxes,
        areas=np.where(np.isnan(file.areas), file.boxes[:, 2:].prod(axis=1), file.areas),
        crowd=file.crowd,
        segmentations=[file.segmentation(i) for i in range(len(file.crowd))] if masks else None,
    )


def _require_boxes(ground_truth: GroundTruth) -> None:
    without = np.flatnonzero(np.isnan(ground_truth.boxes).any(axis=1))
    if len(without):
        images = ", ".join(str(i) for i in ground_truth.images[without[:3]].tolist())
        raise DataError(f"{ground_truth.source}: {len(without)} annotations have no bbox (in images {images}); add it")


def _require_masks(ground_truth: GroundTruth) -> None:
    """Say how many annotations cannot take part in a mask evaluation, and why."""
    segmentations = ground_truth.segmentations or []
    without = [i for i, segmentation in enumerate(segmentations) if not segmentation]
    problems = []
    if without:
        images = ", ".join(str(ground_truth.images[i]) for i in without[:3])
        problems.append(
            f"{ground_truth.source}: {len(without)} annotations have no segmentation (in images {images}); "
            f"evaluate boxes only, or drop them"
        )
    if len(ground_truth.image_sizes) and ground_truth.image_sizes.min() < 1:
        count = int((ground_truth.image_sizes.min(axis=1) < 1).sum())
        problems.append(f"{ground_truth.source}: {count} images have no height and width; masks cannot be read without")
    if problems:
        raise DataError(problems)


def plain_number(value: Any) -> Any:
    """A numpy scalar or array as Python numbers, for msgspec.

    Raises:
        ValidationError: The value is of another type.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise msgspec.ValidationError(f"a value is of type {type(value).__name__}, which JSON cannot hold")
