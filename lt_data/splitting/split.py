"""Splitting an annotation file into training and validation, or into folds: read ``split_annotations`` first.

Shapes: N images, A annotations, C categories, U units of images that stay together.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.annotations.findings import CROWDS_OR_OBJECTS
from lt_data.arrays import IntArray
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError, shown
from lt_data.files.writing import refuse_inputs_inside, refuse_unnamable
from lt_data.progress import SILENT, Progress
from lt_data.splitting.labels import Labels, find_labels
from lt_data.splitting.options import SplitOptions, check_split_options, share_of
from lt_data.splitting.output import SPLIT, check_split_output
from lt_data.splitting.result import Split, SplitRecord
from lt_data.splitting.stratify import stratify
from lt_data.splitting.units import Units, find_units
from lt_data.splitting.write import write_split


def split_annotations(
    source: Path | str,
    out: Path | str,
    *,
    options: SplitOptions,
    force: bool = False,
    progress: Progress = SILENT,
) -> SplitRecord:
    """Writes ``train.json``, ``val.json`` and ``split.json``, or a folder ``fold_0`` ... for each fold.

    Every image with all its annotations is on one side. As many categories as possible are on all sides, and each in
    the share of images that the side has; images without objects are shared out in the same way.

    Args:
        source: A COCO or LVIS annotation file, or a dataset directory.
        out: The folder to write.
        options: Share or folds, groups of images, seed.
        force: Replace what an earlier split wrote.
        progress: Told of each long step.

    Returns:
        What each side holds, as in ``split.json``.

    Raises:
        DataError: The file or an option cannot be used, or there are fewer groups of images than sides.
        OutputError: ``out`` holds something else, exists, or cannot be written.
    """
    source, out = annotations_path(Path(source)), Path(out)
    check_split_options(options)
    check_split_output(out, force=force)
    refuse_unnamable([source, out], SPLIT)
    refuse_inputs_inside(out, [source])
    progress.step(f"reading {source}")
    file = read_annotations(source, progress=progress)
    progress.step(f"splitting {len(file.image_ids):,} images")
    split = _split(file, options)
    progress.step(f"writing {out}")
    return write_split(split, out, force=force)


def _split(file: AnnotationFile, options: SplitOptions) -> Split:
    """Chooses the side of each image."""
    _refuse_nothing(file)
    units = find_units(file, options.group_by)
    _refuse_too_few(file, units, options)
    labels = find_labels(file, units.of_image)
    sizes = wanted_images(len(file.image_ids), options)
    sides = stratify(labels, sizes, seed=options.seed, first_trains=options.folds is None)
    of_image = np.array(sides, np.int64)[units.of_image]
    return Split(file, options, units, of_image, _units_by_category(labels))


def wanted_images(images: int, options: SplitOptions) -> list[int]:
    """Images that each side is to have: training and validation, or the folds; rounded, but one at least."""
    if options.val is None:
        assert options.folds is not None
        each, more = divmod(images, options.folds)
        return [each + (k < more) for k in range(options.folds)]
    val = min(max(round(share_of(options.val) * images), 1), images - 1)
    return [images - val, val]


def _refuse_nothing(file: AnnotationFile) -> None:
    if file.crowd.all():
        crowds = int(file.crowd.sum())
        why = f" ({crowds:,} annotations are crowds, which do not count; {CROWDS_OR_OBJECTS})" if crowds else ""
        raise DataError(f"{file.path}: no category has an instance{why}; give a file with annotated objects")


def _refuse_too_few(file: AnnotationFile, units: Units, options: SplitOptions) -> None:
    """Every side needs something."""
    images, needed = len(file.image_ids), options.folds or 2
    if images < needed:
        what = f"--folds {options.folds}" if options.folds else f"--val {options.val}"
        raise DataError(
            f"{file.path}: has {images:,} images, fewer than the {needed} sides of {what}; "
            "give more images, or ask for fewer sides"
        )
    if units.number >= needed:
        return
    if options.group_by is None:
        raise DataError(
            f"{file.path}: its {images:,} images name {units.number:,} files, and those of one file stay together, so "
            f"{needed} sides cannot be made; give every image its own file_name"
        )
    groups = "one group" if units.number == 1 else f"{units.number} groups"
    raise DataError(
        f"{file.path}: --group-by {shown(options.group_by)} puts all {images:,} images into {groups}, too few for "
        f"{needed} sides; group by something finer"
    )


def _units_by_category(labels: Labels) -> IntArray:
    """Units that hold an object of each category, ascending by id, shape [C]."""
    held = [category for row in labels.rows for category, _ in row]
    return np.bincount(held, minlength=labels.width)[: labels.categories].astype(np.int64)
