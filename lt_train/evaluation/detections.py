"""Detections in the COCO results format: checked, then as columns.

Shapes: D detections in the order of the list. Boxes are COCO ``[x, y, width, height]`` in pixels, scores are any finite
number (only their order counts), ids are dataset ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from lt_data.errors import DataError

from .ground_truth import GroundTruth, load_ground_truth, plain_number

IouType = Literal["bbox", "segm"]
Results = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Detections:
    """Columns of a results list.

    Attributes:
        images: [D] int64 image ids.
        categories: [D] int64 category ids.
        boxes: [D, 4] float64; zeros where a mask evaluation was asked for.
        scores: [D] float64.
        segmentations: D compressed RLEs ``{"size": [height, width], "counts": str}``; None if boxes are evaluated.
    """

    images: NDArray[np.int64]
    categories: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    segmentations: list[dict[str, Any]] | None


class _BoxResult(msgspec.Struct):
    image_id: int
    category_id: int
    score: float
    bbox: tuple[float, float, float, float]


class _MaskResult(msgspec.Struct):
    image_id: int
    category_id: int
    score: float
    segmentation: dict[str, Any]


def check_results(
    results: Results,
    annotations: Path | str | Mapping[str, Any] | GroundTruth,
    *,
    iou_types: Iterable[IouType] = ("bbox",),
    source: str = "results",
) -> None:
    """Raise one DataError that names every kind of problem in the predictions.

    Args:
        results: COCO results: ``image_id``, ``category_id``, ``score`` and ``bbox`` or ``segmentation`` each.
        annotations: The annotation file that they claim to belong to, or its content.
        iou_types: What is to be evaluated.
        source: What to call the results in messages.

    Raises:
        DataError: A missing or mistyped field; an unknown image or category; a score or size that is no finite
            number; a mask of another size than its image.
    """
    types = tuple(iou_types)
    if not isinstance(annotations, GroundTruth):
        annotations = load_ground_truth(annotations, masks="segm" in types)
    for iou_type in types:
        read_detections(results, annotations, iou_type=iou_type, source=source)


def read_detections(
    results: Results, ground_truth: GroundTruth, *, iou_type: IouType, source: str = "results"
) -> Detections:
    """Turn a results list into columns; the list and its records are not changed.

    Args:
        results: See :func:`check_results`. A ``segm`` evaluation reads no ``bbox``, so that the area of a
            detection is that of its mask.
        ground_truth: The annotations, with segmentations if masks are evaluated.
        iou_type: ``bbox`` or ``segm``.
        source: What to call the results in messages.

    Raises:
        DataError: See :func:`check_results`.
    """
    kind: type[_BoxResult] | type[_MaskResult] = _MaskResult if iou_type == "segm" else _BoxResult
    try:
        rows = _typed(results, kind)
    except msgspec.ValidationError as error:
        raise DataError(
            f"{source}: not COCO results for {iou_type!r}: {error}; each needs image_id, category_id, score and "
            f"{'segmentation' if iou_type == 'segm' else 'bbox'}"
        ) from error
    boxes = [row.bbox for row in rows] if iou_type == "bbox" else np.zeros((len(rows), 4))
    detections = Detections(
        images=np.array([row.image_id for row in rows], dtype=np.int64),
        categories=np.array([row.category_id for row in rows], dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        scores=np.array([row.score for row in rows], dtype=np.float64),
        segmentations=[row.segmentation for row in rows] if iou_type == "segm" else None,
    )
    problems = _problems(detections, ground_truth, source)
    if problems:
        raise DataError(problems)
    return _with_compressed_masks(detections)


def _typed(results: Results, kind: type[_BoxResult] | type[_MaskResult]) -> list[Any]:
    try:
        return msgspec.convert(results, list[kind])  # type: ignore[valid-type]
    except msgspec.ValidationError:
        # numpy numbers and arrays among the values: make them plain, and let a real mistake fail again
        plain = msgspec.to_builtins(results, enc_hook=plain_number, builtin_types=(bytes,))
        return msgspec.convert(plain, list[kind])  # type: ignore[valid-type]


def _problems(detections: Detections, ground_truth: GroundTruth, source: str) -> list[str]:
    """One line per kind of problem, with its count, the first examples and what to do."""
    file = ground_truth.source
    unknown_image = ~np.isin(detections.images, ground_truth.image_ids)
    unknown_category = ~np.isin(detections.categories, ground_truth.category_ids)
    bad_box = np.logical_or(
        ~np.isfinite(detections.boxes).all(axis=1), (detections.boxes[:, 2:] < 0).any(axis=1), dtype=np.bool_
    )
    found: list[tuple[NDArray[np.bool_], NDArray[Any], str, str]] = [
        (
            unknown_image,
            detections.images,
            f"name an image that {file} does not list: image_id",
            f"evaluate them with the file that they were made for, or drop them; {file} has "
            f"{len(ground_truth.image_ids)} images",
        ),
        (
            unknown_category,
            detections.categories,
            f"name a category that {file} lacks: category_id",
            f"write dataset ids, not labels 1..C; allowed are the {len(ground_truth.category_ids)} ids of {file}",
        ),
        (
            ~np.isfinite(detections.scores),
            detections.scores,
            "have no finite score",
            "any finite number is allowed; a model whose training diverged gives such scores",
        ),
        (
            bad_box,
            detections.boxes,
            "have a box that is not finite or of negative size",
            "boxes are [x, y, width, height] in pixels",
        ),
    ]
    if detections.segmentations is not None:
        bad_mask = ~unknown_image & _wrong_masks(detections, ground_truth)
        text = "have a mask that is no RLE of the size of its image: image_id"
        fix = f"masks are RLEs with size [height, width] as {file} gives them for the image"
        found.append((bad_mask, detections.images, text, fix))
    return [_line(source, bad, values, text, fix) for bad, values, text, fix in found if bad.any()]


def _line(source: str, bad: NDArray[np.bool_], values: NDArray[Any], text: str, fix: str) -> str:
    examples = list(dict.fromkeys(str(value) for value in values[bad][:1000].tolist()))[:3]
    return f"{source}: {int(bad.sum())} of {len(bad)} predictions {text} ({', '.join(examples)}); {fix}"


def _wrong_masks(detections: Detections, ground_truth: GroundTruth) -> NDArray[np.bool_]:
    """Masks that an evaluator would read as no overlap at all, or could not read. [D] bool."""
    sizes = dict(zip(ground_truth.image_ids.tolist(), ground_truth.image_sizes.tolist(), strict=True))
    rows = zip(detections.images.tolist(), detections.segmentations or [], strict=True)
    return np.array([not _is_rle(mask, sizes.get(image)) for image, mask in rows], dtype=np.bool_)


def _is_rle(mask: Mapping[str, Any], size: list[int] | None) -> bool:
    given = mask.get("size")
    return (
        isinstance(given, list | tuple) and list(given) == size and isinstance(mask.get("counts"), str | bytes | list)
    )


def _with_compressed_masks(detections: Detections) -> Detections:
    """Compress RLEs that come as a list of run lengths: the engines read strings."""
    if detections.segmentations is None:
        return detections
    from pycocotools import mask as rle

    compressed = [
        rle.frPyObjects(mask, *mask["size"]) if isinstance(mask["counts"], list) else mask
        for mask in detections.segmentations
    ]
    return Detections(detections.images, detections.categories, detections.boxes, detections.scores, compressed)
