"""The annotations that detections are measured against, as columns.

Only what an evaluation reads is decoded. Shapes: N images, A annotations, K categories in ascending dataset id. Boxes
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

from lt_data.errors import DataError


@dataclass(frozen=True)
class GroundTruth:
    """Annotations of the listed images and categories; all others are left out, as in pycocotools.

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


class _Image(msgspec.Struct):
    id: int
    height: int = 0
    width: int = 0


class _Category(msgspec.Struct):
    id: int
    name: str


class _Box(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int | bool = 0


class _BoxAndMask(_Box):
    segmentation: Any = None


class _BoxFile(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Box]


class _MaskFile(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_BoxAndMask]


def load_ground_truth(
    annotations: Path | str | Mapping[str, Any], *, masks: bool, source: str | None = None
) -> GroundTruth:
    """Read a COCO or LVIS annotation file, or the same content as a dict.

    Args:
        annotations: Path of the JSON file, or its content. A dict is not changed.
        masks: Keep the segmentations; every annotation must then have one.
        source: What to call the annotations in messages; the file name if not given.

    Raises:
        DataError: The file is missing, is no JSON, or lacks something an evaluation needs.
    """
    name = source or ("annotations" if isinstance(annotations, Mapping) else Path(annotations).name)
    content = _decode(annotations, _MaskFile if masks else _BoxFile, name)
    ground_truth = _columns(content, name)
    if masks:
        _require_masks(ground_truth)
    return ground_truth


def _decode(
    annotations: Path | str | Mapping[str, Any], kind: type[_BoxFile] | type[_MaskFile], name: str
) -> _BoxFile | _MaskFile:
    try:
        if isinstance(annotations, Mapping):
            return msgspec.convert(annotations, kind)
        return msgspec.json.decode(Path(annotations).read_bytes(), type=kind)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); check the path {annotations}") from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DataError(f"{name}: not a COCO annotation file: {error}; see `lt-data check`") from error


def _columns(content: _BoxFile | _MaskFile, name: str) -> GroundTruth:
    sizes = {image.id: (image.height, image.width) for image in content.images}
    names = {category.id: category.name for category in content.categories}
    image_ids, category_ids = sorted(sizes), sorted(names)
    kept = [a for a in content.annotations if a.image_id in sizes and a.category_id in names]
    boxes = np.array([a.bbox for a in kept], dtype=np.float64).reshape(-1, 4)
    areas = [w * h if a.area is None else a.area for a, (w, h) in zip(kept, boxes[:, 2:].tolist(), strict=True)]
    return GroundTruth(
        source=name,
        image_ids=np.array(image_ids, dtype=np.int64),
        image_sizes=np.array([sizes[i] for i in image_ids], dtype=np.int64).reshape(-1, 2),
        category_ids=np.array(category_ids, dtype=np.int64),
        category_names=tuple(names[i] for i in category_ids),
        images=np.array([a.image_id for a in kept], dtype=np.int64),
        categories=np.array([a.category_id for a in kept], dtype=np.int64),
        boxes=boxes,
        areas=np.array(areas, dtype=np.float64),
        crowd=np.array([bool(a.iscrowd) for a in kept], dtype=np.bool_),
        segmentations=[getattr(a, "segmentation", None) for a in kept] if isinstance(content, _MaskFile) else None,
    )


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
