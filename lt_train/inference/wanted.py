"""Which images to look at: a file, a folder, or the images of an annotation file; all of them, or some by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
import numpy as np

from lt_data.annotations.file import AnnotationFile, parse_annotations
from lt_data.annotations.same_categories import check_same_categories
from lt_data.counts.categories import CategoryCounts
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError, one_line, shown
from lt_data.files.image_survey import survey_images
from lt_data.files.pixels import ImageReading
from lt_data.files.reading import map_file, stamp_of
from lt_data.pictures.show import close_names
from lt_train.inference.detect import ImageList

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Wanted:
    """Images to look at, with their names below the image folder; one line for each name that cannot be written.

    Attributes:
        images: The images.
        names: File name of each by image id.
        unreadable: One line for each file whose name cannot be written.
        notes: How the images were found and what was left out.
        file: The annotation file that lists them; ``None`` without one.
        rows: Position of each image in that file by image id.
    """

    images: ImageList
    names: dict[int, str]
    unreadable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    file: AnnotationFile | None = None
    rows: dict[int, int] = field(default_factory=dict)


def listed_images(
    images: Path, annotations: Path, counts: CategoryCounts, only: Sequence[str], reading: ImageReading
) -> Wanted:
    """The images of an annotation file whose categories are those of the training file.

    Args:
        images: The image folder.
        annotations: The file, or a dataset directory; it needs no annotations.
        counts: Counts of the training file.
        only: See :func:`chosen_rows`; all images if empty.
        reading: How images are read.

    Raises:
        DataError: The file cannot be used or has other categories, an image is missing, or a choice names none.
    """
    file = _read_images(annotations_path(annotations))
    if not len(file.image_ids):
        raise DataError(f"{file.path}: lists no image; there is nothing to predict")
    rows = chosen_rows(file.file_names, file.image_ids.tolist(), only, str(file.path))
    found = file.find_images(images, rows)
    check_same_categories(file, counts.category_ids, counts.names, other="the training file")
    ids = file.image_ids[rows]
    listed = ImageList(ids, found.paths, file.image_sizes[rows])
    names = dict(zip(ids.tolist(), [file.file_names[row] for row in rows], strict=True))
    wanted = Wanted(listed, names, notes=found.notes, file=file, rows=dict(zip(ids.tolist(), rows, strict=True)))
    return _read_as(wanted, images, reading)


def images_below(images: Path, out: Path, only: Sequence[str], reading: ImageReading) -> Wanted:
    """An image, or all images of a folder and below it, by name; numbered from 1, whichever are chosen.

    Args:
        images: The image or the folder.
        out: A folder that is not looked into.
        only: See :func:`chosen_rows`; all images if empty.
        reading: How images are read.

    Raises:
        DataError: There is no image, no image whose name can be written, or a choice names none.
    """
    notes: tuple[str, ...] = ()
    if images.is_file():
        names, folder = [images.name], images.parent
    elif images.is_dir():
        below = sorted(_names_below(images, out))
        names, folder = [name for name in below if _is_image(name)], images
        notes = _skipped(images, [name for name in below if not _is_image(name)])
    else:
        raise DataError(f"{images}: no such image or folder")
    if not names:
        raise DataError([f"{images}: no image in it or below it; images end in {', '.join(SUFFIXES)}", *notes])
    unreadable = tuple(_not_unicode(folder, name) for name in names if not _is_unicode(name))
    names = [name for name in names if _is_unicode(name)]
    if not names:
        raise DataError(unreadable)
    rows = chosen_rows(names, list(range(1, len(names) + 1)), only, str(images))
    if only:
        unreadable, notes = (), ()
    ids, chosen = np.array(rows, np.int64) + 1, [names[row] for row in rows]
    listed = ImageList(ids, [folder / name for name in chosen], np.zeros((len(chosen), 2), np.int64))
    wanted = Wanted(listed, dict(zip(ids.tolist(), chosen, strict=True)), unreadable, notes)
    return _read_as(wanted, images, reading)


def chosen_rows(names: Sequence[str], ids: Sequence[int], only: Sequence[str], where: str) -> list[int]:
    """Positions of the images that were asked for, in the order of the list.

    Args:
        names: Names of the images.
        ids: Their ids.
        only: Each the name of images, or else the id of one, or else a pattern of names with ``*``, ``?`` or ``[...]``.
            All images if empty.
        where: What to call the list in a message.

    Raises:
        DataError: One line for each that no image answers to.
    """
    if not only:
        return list(range(len(names)))
    rows, problems = set[int](), []
    of_id = {str(image_id): [row] for row, image_id in enumerate(ids)}
    for text in only:
        found = [row for row, name in enumerate(names) if name == text] or of_id.get(text, [])
        found = found or [row for row, name in enumerate(names) if fnmatchcase(name, text)]
        rows.update(found)
        if not found:
            near = close_names(names, text) or names[:3]
            problems.append(
                f"--only {shown(text)}: no image of {where} has this name or number ({len(names):,} images); names are "
                f"relative to the image folder, for example {', '.join(near)}"
            )
    if problems:
        raise DataError(problems)
    return sorted(rows)


def _read_as(wanted: Wanted, folder: Path, reading: ImageReading) -> Wanted:
    """The same, to be read as the run's images were, with notes on what is odd about them.

    Which cannot be read is found with the detections, one by one.
    """
    images = replace(wanted.images, reading=reading)
    notes = survey_images(str(folder), images.paths, images.sizes, reading).notes
    return replace(wanted, images=images, notes=(*wanted.notes, *notes))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _skipped(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    """A line on the files of a folder that were not looked at, if there are any."""
    if not names:
        return ()
    first = _as_text(", ".join(names[:3]) + ", ..." * (len(names) > 3))
    line = f"{folder}: {len(names):,} files are no images by their names and were skipped ({first})"
    return (one_line(f"{line}; images end in {', '.join(SUFFIXES)}, others can be given one by one"),)


def _as_text(name: str) -> str:
    """The name of a file as it can be printed, whatever bytes it holds."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_unicode(name: str) -> bool:
    """Whether the name of a file, as the system gives it, can be written into JSON."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _not_unicode(folder: Path, name: str) -> str:
    return one_line(
        f"{_as_text(str(folder / name))}: the file name is not UTF-8, so no results file can name it; rename the file"
    )


def _names_below(folder: Path, out: Path) -> Iterator[str]:
    """Files by their name from the folder, with ``/``; hidden ones and those in ``out`` are left out."""
    for path, folders, files in os.walk(folder):
        here = Path(path)
        folders[:] = [name for name in folders if not name.startswith(".") and (here / name).resolve() != out.resolve()]
        for name in files:
            if not name.startswith("."):
                yield (here / name).relative_to(folder).as_posix()


def _read_images(path: Path) -> AnnotationFile:
    """An annotation file; one without annotations, as test sets come, has none."""
    stamp, data = stamp_of(path), map_file(path)
    try:
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        # the reader says what is wrong
        return parse_annotations(data, path, stamp=stamp)
    if "annotations" in members:
        return parse_annotations(data, path, stamp=stamp)
    return parse_annotations(msgspec.json.encode({**members, "annotations": []}), path)
