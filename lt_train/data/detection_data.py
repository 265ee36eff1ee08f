"""An annotation file with its images: what of it is trained on, and refusing what cannot be.

Crowd annotations are no targets: their boxes are regions that training ignores. The box stands for the crowd, its mask
is not read: what is ignored are anchors and proposals, which are boxes themselves.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lt_data.annotations.category_ids import CategoryIds
from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.annotations.unusable import has_size, left_out
from lt_data.arrays import BoolArray, IntArray
from lt_data.checks.notes import form_notes
from lt_data.counts.categories import CategoryCounts, count_categories
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError
from lt_data.files.image_survey import survey_images
from lt_data.files.pixels import AS_STORED, ImageReading
from lt_train.data.instance_masks import MaskKind, mask_kinds
from lt_train.data.workers import ignore_interrupts

# categories that a line names
MOST_NAMED = 10
# records whose masks are measured at a time: few enough that their polygons stay in the processor's cache
MASK_CHUNK = 512
# masks from which a second process pays
MANY_MASKS = 100_000
_MASK_ERRORS = {
    MaskKind.UNREADABLE: "have a segmentation that is neither polygons of numbers within a million pixels "
    "([[x1, y1, x2, y2, ...]], a list of lists) nor COCO run lengths",
    MaskKind.WRONG_SIZE: "have run lengths of another size than their image",
    MaskKind.UNFILLED: "have run lengths that do not fill their size",
}


@dataclass(frozen=True)
class DetectionData:
    """An annotation file with its images, ready to be sampled.

    Attributes:
        file: The annotations.
        paths: Path of each image, N.
        ids: Dataset ids and labels.
        counts: Non-crowd instances and images per category, over the whole file; in training over what is not held out.
        usable: Annotations that become targets: not crowd, box inside the image with an area, shape [A].
        regions: Annotations that become ignore regions: crowd, box inside the image with an area, shape [A].
        notes: How the images were found and what was left out, one line each with counts.
        image_notes: Those of them that are about images.
        reading: How the images are read.
    """

    file: AnnotationFile
    paths: list[Path]
    ids: CategoryIds
    counts: CategoryCounts
    usable: BoolArray
    regions: BoolArray
    notes: tuple[str, ...]
    image_notes: tuple[str, ...]
    reading: ImageReading


def load_data(annotations: Path, images: Path, reading: ImageReading = AS_STORED) -> DetectionData:
    """Reads an annotation file, finds its images and looks at some of them.

    Args:
        annotations: COCO or LVIS file, or a dataset directory.
        images: Folder that the file names are relative to.
        reading: How the images are read.

    Raises:
        DataError: The file cannot be used, images are missing or cannot be read so, or more than 5 % of the boxes are
            unusable.
    """
    file = read_annotations(annotations_path(annotations))
    found = file.find_images(images)
    survey = survey_images(str(images), found.paths, file.image_sizes, reading)
    if survey.problems:
        raise DataError(survey.problems)
    image_notes = (*found.notes, *survey.notes)
    boxes = clipped_boxes(file).astype(np.float32)
    has_area = has_size(boxes[:, 2:] - boxes[:, :2])
    dropped = _left_out(file, ~has_area & ~file.crowd)
    return DetectionData(
        file=file,
        paths=found.paths,
        ids=CategoryIds(file.categories.ids.tolist()),
        counts=count_categories(file),
        usable=has_area & ~file.crowd,
        regions=has_area & file.crowd,
        notes=(*image_notes, *_crowd_notes(file, has_area), *dropped),
        image_notes=image_notes,
        reading=reading,
    )


def _crowd_notes(file: AnnotationFile, has_area: BoolArray) -> list[str]:
    """One line on crowds, if there are any."""
    if not file.crowd.any():
        return []
    line = (
        f"{file.path.name}: {int(file.crowd.sum())} crowd annotations are regions to ignore: no targets, and what lies "
        "at least half in one is not trained as background"
    )
    lost = int((file.crowd & ~has_area).sum())
    return [f"{line}; {lost} of them have no box with an area inside the image and are left out" if lost else line]


def _left_out(file: AnnotationFile, bad: BoolArray) -> tuple[str, ...]:
    """A line on annotations without a usable box; many end the run, with what their numbers look like."""
    try:
        return left_out(file.path.name, file.annotation_ids, bad, "have no box with an area inside the image")
    except DataError as error:
        sizes = file.image_sizes[file.image_index()]
        raise DataError([*error.problems, *form_notes(file.boxes, sizes, file.path.name)]) from None


def clipped_boxes(file: AnnotationFile) -> npt.NDArray[np.float64]:
    """Boxes as xyxy, clipped to the image where its size is known; NaN where the file has none; shape [A, 4]."""
    boxes = file.boxes.copy()
    boxes[:, 2:] += boxes[:, :2]
    size = file.image_sizes[file.image_index()].astype(np.float64)
    limit = np.where(size > 0, size, np.inf)
    return np.clip(boxes, 0, np.concatenate([limit, limit], 1))


def box_centres(data: DetectionData, kept: BoolArray | None = None) -> tuple[npt.NDArray[np.float64], IntArray]:
    """Where the boxes lie that are no crowds and have an area inside their image; targets or not is no matter.

    Args:
        data: The training data.
        kept: Annotations that are looked at, shape [A]; all unless given.

    Returns:
        [n, 2] x and y of the centres over width and height, in 0..1; and [n] labels in 1..C.

    Raises:
        DataError: The file does not say how large an image with such a box is.
    """
    file = data.file
    boxes = clipped_boxes(file)
    wanted = ~file.crowd if kept is None else kept & ~file.crowd
    rows = np.flatnonzero(has_size((boxes[:, 2:] - boxes[:, :2]).astype(np.float32)) & wanted)
    sizes = file.image_sizes[file.image_index()[rows]]
    unknown = rows[(sizes <= 0).any(axis=1)]
    if len(unknown):
        raise DataError(
            f"{file.path}: {len(unknown)} boxes lie in images without width and height "
            f"({annotation_names(file, unknown)}); where in the image they lie is needed, add the sizes to the file"
        )
    centres = (boxes[rows, :2] + boxes[rows, 2:]) / 2 / sizes
    return centres, data.ids.to_labels(file.annotation_category_ids[rows])


def segmentation_kinds(data: DetectionData) -> npt.NDArray[np.uint8]:
    """The :class:`MaskKind` of each usable annotation, in the order of the file; looks at a few hundred at a time."""
    return _mask_kinds(data.file, np.flatnonzero(data.usable))


def check_segmentations(
    data: DetectionData,
    kinds: npt.NDArray[np.uint8] | None = None,
    *,
    why: str = "the model predicts masks",
    instead: str = "use model.name=faster_rcnn_...",
) -> tuple[str, ...]:
    """Refuses masks that cannot be trained on, and counts the annotations that have none.

    Args:
        data: The training data.
        kinds: Those of :func:`segmentation_kinds`, if they are known.
        why: Why masks are needed.
        instead: How to do without.

    Returns:
        Notes: how many annotations are trained with their box in place of a mask, and how many with an empty mask.

    Raises:
        DataError: No annotation has a mask; or a segmentation cannot be read, is of another size than its image, or its
            runs do not fill it: one line each with the count and the first three.
    """
    file, rows = data.file, np.flatnonzero(data.usable)
    kinds = segmentation_kinds(data) if kinds is None else kinds

    def line(name: object, kind: MaskKind, text: str) -> str:
        found = rows[kinds == kind]
        return f"{name}: {len(found)} of {len(rows)} annotations {text} ({annotation_names(file, found)})"

    present = set(kinds.tolist())
    problems = [
        f"{line(file.path, kind, text)}; mend or remove them, or {instead}"
        for kind, text in _MASK_ERRORS.items()
        if kind in present
    ]
    if present == {MaskKind.BOX}:
        problems = [
            f"{file.path}: none of the {len(rows):,} annotations has a mask, but {why}; {instead}, "
            "or give a file with masks"
        ]
    if problems:
        raise DataError(problems)
    notes = {
        MaskKind.BOX: "have no mask (no polygon of three points and no run lengths); their box is their mask",
        MaskKind.EMPTY: "have a mask whose area is 0 and are trained with it",
    }
    return tuple(line(file.path.name, kind, text) for kind, text in notes.items() if kind in present)


def mask_share(data: DetectionData) -> float:
    """Share of the usable annotations that have a mask; 0 if one of them has what cannot be trained on."""
    kinds = _mask_kinds(data.file, np.flatnonzero(data.usable))
    broken = any((kinds == kind).any() for kind in _MASK_ERRORS)
    return 0.0 if broken or not len(kinds) else float((kinds == MaskKind.MASK).mean())


def _mask_kinds(file: AnnotationFile, rows: IntArray) -> npt.NDArray[np.uint8]:
    """The kind of each mask; of many in two processes, which share the file with this one."""
    file.annotation_records, file.image_index()
    if len(rows) < MANY_MASKS or "fork" not in multiprocessing.get_all_start_methods():
        return _kinds_of_rows(file, rows)
    parts = np.array_split(rows, -(-len(rows) // MANY_MASKS) * 2)
    with multiprocessing.get_context("fork").Pool(2, _share, (file,)) as pool:
        return np.concatenate(pool.map(_kinds_of_shared, parts))


_shared: list[AnnotationFile] = []


def _share(file: AnnotationFile) -> None:
    ignore_interrupts()
    _shared[:] = [file]


def _kinds_of_shared(rows: IntArray) -> npt.NDArray[np.uint8]:
    return _kinds_of_rows(_shared[0], rows)


def _kinds_of_rows(file: AnnotationFile, rows: IntArray) -> npt.NDArray[np.uint8]:
    records, sizes = file.annotation_records, file.image_sizes[file.image_index()[rows]]
    kinds = np.full(len(rows), MaskKind.MASK, np.uint8)
    for start in range(0, len(rows), MASK_CHUNK):
        part = slice(start, start + MASK_CHUNK)
        kinds[part] = mask_kinds([records[i] for i in rows[part].tolist()], sizes[part])
    return kinds


def annotation_names(file: AnnotationFile, rows: IntArray, most: int = 3) -> str:
    """The first few annotations with their images, as text."""
    pairs = zip(file.annotation_ids[rows[:most]].tolist(), file.annotation_image_ids[rows[:most]].tolist(), strict=True)
    names = [f"annotation {number} of image {image}" for number, image in pairs]
    return ", ".join(names + ["..."] * (len(rows) > most))


def keep_classes_below(data: DetectionData, limit: int) -> DetectionData:
    """The same data with the objects of classes below ``limit`` instances as its only targets.

    Objects of the other classes are neither targets nor regions to ignore: they are trained as background.

    Args:
        data: The training data.
        limit: Non-crowd instances that a class must stay below.

    Raises:
        DataError: No class with an instance is below.
    """
    counts = data.counts
    kept = counts.instances < limit
    usable = data.usable & kept[data.ids.to_labels(data.file.annotation_category_ids) - 1]
    if not usable.any():
        raise DataError(
            f"data.classes_below={limit}: no class of {data.file.path} has between 1 and {limit - 1} usable instances; "
            f"the smallest has {int(counts.instances[counts.instances > 0].min())}"
        )
    note = (
        f"classes_below={limit}: {int(kept.sum()):,} of {len(kept):,} categories are trained; "
        f"{int((data.usable & ~usable).sum()):,} objects of the others are unlabelled and count as background"
    )
    return replace(data, usable=usable, notes=(*data.notes, note))


def untrained_note(data: DetectionData) -> tuple[str, ...]:
    """A line that names the categories without any target in training; none where all have one."""
    labels = data.ids.to_labels(data.file.annotation_category_ids[data.usable])
    missing = np.flatnonzero(np.bincount(labels, minlength=len(data.counts.names) + 1)[1:] == 0)
    if not len(missing):
        return ()
    names = ", ".join(data.counts.names[row] for row in missing[:MOST_NAMED].tolist())
    more = f" and {len(missing) - MOST_NAMED:,} more" if len(missing) > MOST_NAMED else ""
    return (
        f"warning: {len(missing):,} of {len(data.counts.names):,} categories have no training instance, so they cannot "
        f"be learnt, and their AP pulls down that of their group: {names}{more}",
    )


def _why_unusable(data: DetectionData) -> str:
    """Why no annotation can become a target."""
    crowds, count = int(data.file.crowd.sum()), len(data.file.crowd)
    if count and crowds == count:
        return f"all {count:,} annotations are crowds, which are regions to ignore (set iscrowd: 0 for objects)"
    return "no image has a usable annotation" + (f"; {crowds:,} of {count:,} are crowds" if crowds else "")


def training_rows(
    data: DetectionData, *, keep_empty: bool, held_out: IntArray | None = None
) -> tuple[IntArray, tuple[str, ...]]:
    """Images to train on, and a note about those left out.

    Args:
        data: The training data.
        keep_empty: Keep images without any usable annotation.
        held_out: Positions of images that are not trained on.

    Raises:
        DataError: No image is left.
    """
    has_target = np.zeros(len(data.file.image_ids), bool)
    has_target[data.file.image_index()[data.usable]] = True
    inside = np.ones(len(has_target), bool)
    if held_out is not None:
        inside[held_out] = False
    empty = int((inside & ~has_target).sum())
    if not has_target.any():
        raise DataError(f"{data.file.path}: {_why_unusable(data)}; there is nothing to train on")
    if keep_empty or not empty:
        return np.flatnonzero(inside), ()
    note = (
        f"{data.file.path.name}: {empty} images without usable annotations are left out "
        "(data.keep_empty=true keeps them)"
    )
    return np.flatnonzero(inside & has_target), (note,)
