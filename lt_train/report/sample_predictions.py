"""A grid of validation images from the files of runs: ground truth first, then what each run finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.arrays import IntArray
from lt_data.dataset.directory import read_groups
from lt_data.errors import DataError
from lt_data.groups import group_name_of
from lt_train.evaluation.predictions.columns import Detections
from lt_train.evaluation.predictions.records import decode_results
from lt_train.report.prediction_grid import Panel, plot_predictions

# weaker detections would cover the picture
LOWEST_SCORE = 0.3
MOST_PER_IMAGE = 8


def plot_sample_predictions(
    path: Path,
    *,
    annotations: Path,
    images: Path,
    predictions: Mapping[str, Path],
    dataset: Path,
    rows: int = 5,
) -> None:
    """Draws the first validation images that hold a category of the rarest group that has any.

    Args:
        path: The PNG file to write.
        annotations: Validation annotations.
        images: Their image folder.
        predictions: COCO result files with masks by the name of the run.
        dataset: The training dataset directory, whose groups colour the objects.
        rows: Images to show.

    Raises:
        DataError: A file cannot be read.
    """
    file = read_annotations(annotations)
    _, groups = read_groups(dataset)
    group_of = group_name_of(groups)
    chosen = images_of_the_rarest_group(file, [group.category_ids for group in groups], rows)
    results = {name: _read(source) for name, source in predictions.items()}
    paths = file.find_images(images, chosen).paths
    names = dict(zip(file.categories.ids.tolist(), file.categories.names, strict=True))
    panels = []
    for row, source in zip(chosen, paths, strict=True):
        with Image.open(source) as image:
            pixels = np.array(image.convert("RGB"))
        image_id = int(file.image_ids[row])
        panels.append(_truth_panel(file, image_id, pixels, names, group_of))
        for found in results.values():
            panels.append(_found_panel(found, best_of_image(found, image_id), pixels, names, group_of))
    columns = ("ground truth", *(f"{name} (score > {LOWEST_SCORE})" for name in results))
    plot_predictions(path, panels, columns=columns, groups=[group.name for group in groups])


def images_of_the_rarest_group(file: AnnotationFile, groups: Sequence[Sequence[int]], rows: int) -> list[int]:
    """Rows of the first images, in file order, with an object of the first group that occurs."""
    index = file.image_index()
    for category_ids in groups:
        held = np.unique(index[np.isin(file.annotation_category_ids, category_ids) & ~file.crowd])
        if len(held):
            return [int(row) for row in held[:rows]]
    return list(range(min(rows, len(file.image_ids))))


def _read(path: Path) -> Detections:
    """A results file; no predictions at all are as good as any."""
    decoded = decode_results(path, None, source=str(path))
    if decoded.problems:
        raise DataError([problem.line for problem in decoded.problems])
    return decoded.columns


def best_of_image(found: Detections, image_id: int) -> IntArray:
    """Rows of the strong results of an image, best first; the earlier of two with the same score."""
    rows = np.flatnonzero((found.images == image_id) & (found.scores > LOWEST_SCORE))
    return rows[np.argsort(-found.scores[rows], kind="stable")][:MOST_PER_IMAGE]


def _truth_panel(
    file: AnnotationFile,
    image_id: int,
    pixels: npt.NDArray[np.uint8],
    names: Mapping[int, str],
    group_of: Mapping[int, str],
) -> Panel:
    rows = np.flatnonzero((file.annotation_image_ids == image_id) & ~file.crowd)
    categories = file.annotation_category_ids[rows].tolist()
    boxes = file.boxes[rows]
    return Panel(
        pixels, _corners(boxes), [names[c] for c in categories], [group_of[c] for c in categories],
        title=f"image {image_id}",
    )  # fmt: skip


def _found_panel(
    found: Detections,
    rows: IntArray,
    pixels: npt.NDArray[np.uint8],
    names: Mapping[int, str],
    group_of: Mapping[int, str],
) -> Panel:
    from pycocotools import mask as rle

    masks = (
        [rle.decode(found.segmentations[row]).astype(bool) for row in rows.tolist()]
        if found.segmentations is not None
        else []
    )
    categories = found.categories[rows].tolist()
    return Panel(
        pixels,
        _corners(found.boxes[rows]),
        [names[c] for c in categories],
        [group_of[c] for c in categories],
        scores=found.scores[rows].tolist(),
        masks=np.stack(masks) if masks else None,
    )


def _corners(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """COCO xywh to xyxy, shape [K, 4]."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
