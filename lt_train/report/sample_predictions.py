"""A grid of validation images from the files of runs: ground truth first, then what each run finds.

Shapes: A annotations, D detections, K objects or detections of one image, H, W image rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.arrays import BoolArray, IntArray, positions_of
from lt_data.dataset.directory import read_groups
from lt_data.errors import DataError
from lt_data.groups import group_name_of
from lt_data.masks.measure import is_no_mask
from lt_data.pictures.show import decode_rle, mask_outlines
from lt_train.evaluation.figures.confusion import boxes_of
from lt_train.evaluation.figures.overlaps import match_greedily
from lt_train.evaluation.predictions.columns import Detections
from lt_train.evaluation.predictions.records import decode_results
from lt_train.report.prediction_grid import Found, Panel, plot_predictions

# weaker detections would cover the picture
LOWEST_SCORE = 0.3
MOST_PER_IMAGE = 8
NO_GROUP = "no group"


class _Run(NamedTuple):
    """What a run found.

    Attributes:
        found: Its strong detections.
        taken: [D] row of the annotation that each stands for, of its own category; -1 for a wrong one.
    """

    found: Detections
    taken: IntArray


def plot_sample_predictions(
    path: Path,
    *,
    annotations: Path,
    images: Path,
    predictions: Mapping[str, Path],
    dataset: Path,
    rows: int = 5,
) -> None:
    """Draws the validation images on which the runs differ most, which are no fair sample of what they find.

    Images come by the number of objects that one run finds and another does not, ties in file order; if there are too
    few, then those that hold a category of the rarest group that has any.

    Args:
        path: The PNG file to write.
        annotations: Validation annotations.
        images: Their image folder.
        predictions: COCO result files by the name of the run.
        dataset: The training dataset directory, whose groups colour the objects.
        rows: Images to show.

    Raises:
        DataError: A file cannot be read.
    """
    file = read_annotations(annotations)
    _, groups = read_groups(dataset)
    runs = {name: _matched(file, _read(source)) for name, source in predictions.items()}
    differing = objects_that_differ(file, [run.taken for run in runs.values()])
    chosen = images_to_show(file, differing, [group.category_ids for group in groups], rows)
    drawn = _Drawing(file, group_name_of(groups))
    panels = []
    for row, source in zip(chosen, file.find_images(images, chosen).paths, strict=True):
        with Image.open(source) as image:
            pixels = np.array(image.convert("RGB"))
        panels.append(drawn.truth(row, pixels, differing if len(runs) > 1 else None))
        panels += [drawn.found(row, pixels, run) for run in runs.values()]
    columns = ("ground truth", *(f"{name} (score > {LOWEST_SCORE})" for name in runs))
    plot_predictions(path, panels, columns=columns, groups=[group.name for group in groups])


def objects_that_differ(file: AnnotationFile, taken: Sequence[IntArray]) -> BoolArray:
    """Which annotations one run finds and another does not, [A].

    Args:
        file: The annotations.
        taken: For each run the rows of the annotations that its detections stand for, -1 for none.
    """
    found = np.zeros((len(taken), len(file.annotation_ids)), bool)
    for run, rows in enumerate(taken):
        found[run, rows[rows >= 0]] = True
    times = found.sum(axis=0)
    differ: BoolArray = (times > 0) & (times < len(taken))
    return differ


def images_to_show(file: AnnotationFile, differing: BoolArray, groups: Sequence[Sequence[int]], rows: int) -> list[int]:
    """Rows of the images with the most objects in question, then of those with the rarest categories.

    Args:
        file: The annotations.
        differing: [A] bool.
        groups: Category ids of the groups, rarest first.
        rows: Images to show.
    """
    counts = np.bincount(file.image_index()[differing], minlength=len(file.image_ids))
    order = np.argsort(-counts, kind="stable")
    first = order[counts[order] > 0][:rows].tolist()
    # as many more as could be among the first already
    others = images_of_the_rarest_group(file, groups, rows + len(first))
    return [*first, *(row for row in others if row not in first)][:rows]


def images_of_the_rarest_group(file: AnnotationFile, groups: Sequence[Sequence[int]], rows: int) -> list[int]:
    """Rows of the first images, in file order, with an object of the first group that occurs."""
    index = file.image_index()
    for category_ids in groups:
        held = np.unique(index[np.isin(file.annotation_category_ids, category_ids) & ~file.crowd])
        if len(held):
            return [int(row) for row in held[:rows]]
    return list(range(min(rows, len(file.image_ids))))


def _read(path: Path) -> Detections:
    """The strong detections of a results file; no predictions at all are as good as any."""
    decoded = decode_results(path, None, source=str(path))
    if decoded.problems:
        raise DataError([problem.line for problem in decoded.problems])
    found = decoded.columns
    return found.take(found.scores > LOWEST_SCORE)


def _matched(file: AnnotationFile, found: Detections) -> _Run:
    """The same with what each detection stands for: an object of its own category that no stronger one has taken."""
    objects = np.flatnonzero(~file.crowd)
    sort = len(file.categories.ids)

    def kinds(images: IntArray, categories: IntArray) -> IntArray:
        return positions_of(images, file.image_ids) * sort + positions_of(categories, file.categories.ids)

    taken = match_greedily(
        kinds(found.images, found.categories),
        boxes_of(found),
        found.scores,
        kinds(file.annotation_image_ids[objects], file.annotation_category_ids[objects]),
        file.boxes[objects],
    )
    return _Run(found, np.where(taken >= 0, np.append(objects, -1)[taken], -1))


class _Drawing:
    """Panels of the images of a file.

    Args:
        file: The annotations.
        group_of: Group names by category id.
    """

    def __init__(self, file: AnnotationFile, group_of: Mapping[int, str]) -> None:
        self.file = file
        self.group_of = group_of
        self.name_of = dict(zip(file.categories.ids.tolist(), file.categories.names, strict=True))

    def truth(self, row: int, pixels: npt.NDArray[np.uint8], differing: BoolArray | None) -> Panel:
        """The objects of an image with their masks; how many of them the runs differ on, where there are several."""
        objects = self._objects(row)
        title = f"image {int(self.file.image_ids[row])}"
        if differing is not None:
            title += f": runs differ on {int(differing[objects].sum())} of {len(objects)} objects"
        masks = [_drawn_mask(self.file.segmentation(k), *pixels.shape[:2]) for k in objects.tolist()]
        return Panel(
            pixels,
            _corners(self.file.boxes[objects]),
            *self._words(self.file.annotation_category_ids[objects]),
            masks=np.stack(masks) if masks and any(mask.any() for mask in masks) else None,
            title=title,
        )

    def found(self, row: int, pixels: npt.NDArray[np.uint8], run: _Run) -> Panel:
        """The strongest detections of a run in an image, right or wrong, and the objects that it did not find."""
        from pycocotools import mask as rle

        found, image_id = run.found, int(self.file.image_ids[row])
        here = np.flatnonzero(found.images == image_id)
        here = here[np.argsort(-found.scores[here], kind="stable")]
        missed = np.setdiff1d(self._objects(row), run.taken[here])
        right = int((run.taken[here] >= 0).sum())
        shown = here[:MOST_PER_IMAGE]
        title = f"{right} right, {len(here) - right} wrong, {len(missed)} not found"
        if len(shown) < len(here):
            title += f"; {len(shown)} drawn"
        masks = found.segmentations
        return Panel(
            pixels,
            _corners(boxes_of(found)[shown]),
            *self._words(found.categories[shown]),
            masks=None
            if masks is None or not len(shown)
            else np.stack([rle.decode(masks[k]).astype(bool) for k in shown.tolist()]),
            title=title,
            found=Found(
                scores=found.scores[shown].tolist(),
                right=(run.taken[shown] >= 0).tolist(),
                missed=_corners(self.file.boxes[missed]),
            ),
        )

    def _objects(self, row: int) -> IntArray:
        """Rows of the annotations of an image, without crowds."""
        return np.flatnonzero((self.file.image_index() == row) & ~self.file.crowd)

    def _words(self, categories: IntArray) -> tuple[list[str], list[str]]:
        """Names and groups of categories."""
        ids = categories.tolist()
        return [self.name_of[i] for i in ids], [self.group_of.get(i, NO_GROUP) for i in ids]


def _drawn_mask(segmentation: Any, height: int, width: int) -> npt.NDArray[np.bool_]:
    """A mask of the annotations, [H, W]; empty where there is none that can be drawn at this size."""
    from pycocotools import mask as rle

    empty = np.zeros((height, width), bool)
    if is_no_mask(segmentation) or mask_outlines(segmentation) is None:
        return empty
    if isinstance(segmentation, list):
        mask = rle.decode(rle.merge(rle.frPyObjects(segmentation, height, width))).astype(bool)
    else:
        mask = np.asarray(decode_rle(segmentation), bool)
    return mask if mask.shape == empty.shape else empty


def _corners(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """COCO xywh to xyxy, shape [K, 4]."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
