"""A trained model on images that may have no annotations: a standard results file, the list of images, pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from lt_data.annotations.category_ids import CategoryIds
from lt_data.annotations.file import AnnotationFile, parse_annotations
from lt_data.annotations.same_categories import check_same_categories
from lt_data.counts.categories import CategoryCounts
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError, OutputError, one_line
from lt_data.files.image_files import normal_name
from lt_data.files.image_survey import survey_images
from lt_data.files.pixels import ImageReading
from lt_data.files.reading import map_file, stamp_of
from lt_data.files.writing import refuse_inputs_inside, replacing_directory
from lt_data.groups import group_name_of
from lt_data.terminal import Bar
from lt_train.data.images import read_image
from lt_train.evaluation import write_results
from lt_train.inference.detect import Found, ImageList, Trained, detect, load_trained
from lt_train.processes import Processes, run_together
from lt_train.report.detection_picture import plot_detections
from lt_train.runs.directory import RunDir

RESULTS, IMAGES, PICTURES = "predictions.json", "images.json", "pictures"
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Predicted:
    """What :func:`predict_images` wrote.

    Attributes:
        out: The directory.
        images: Images that were read.
        detections: Records in ``predictions.json``.
        pictures: Pictures drawn.
        unreadable: Images that could not be read, one line each.
        notes: How images were found and which files were left out, one line each.
    """

    out: Path
    images: int
    detections: int
    pictures: int
    unreadable: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line for people."""
        return f"{self.images:,} images, {self.detections:,} detections, {self.pictures:,} pictures"


@dataclass(frozen=True)
class _Wanted:
    """Images to look at, with their names below the image folder; one line for each name that cannot be written.

    Notes say how the images were found and what was left out.
    """

    images: ImageList
    names: dict[int, str]
    unreadable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def predict_images(
    run: Path,
    images: Path,
    out: Path,
    *,
    checkpoint: str = "last",
    annotations: Path | None = None,
    pictures: int = 50,
    score_threshold: float = 0.5,
    device: str | None = None,
    force: bool = False,
) -> Predicted | None:
    """Detects objects in images, in one process or in those that torchrun started.

    Writes ``predictions.json`` (COCO results with the dataset's category ids, every detection of the model),
    ``images.json`` (COCO lists of the images and categories that they refer to) and ``pictures``.

    Args:
        run: The run directory.
        images: An image, or a folder: then all images in it and below it, by name. Ids are 1, 2, ... in this order.
        out: The directory to write.
        checkpoint: ``last`` or ``best``.
        annotations: A COCO or LVIS file whose images, with their ids, are looked at; it needs no annotations.
            ``images`` is then its image folder.
        pictures: How many pictures to draw at most, of the first images.
        score_threshold: Detections below it are left out of the pictures, not of the results.
        device: Device, the recipe's unless given; several processes have a GPU each where it leaves the choice.
        force: Replace predictions that exist; nothing else is ever replaced.

    Returns:
        What was written; ``None`` in all processes but the first.

    Raises:
        DataError: The run, the checkpoint or the annotation file cannot be used, or no image can be read.
        OutputError: The output exists or cannot be written.
    """

    def check() -> None:
        _check_output(out, force=force, inputs=[run, images, *([annotations] if annotations else [])])

    def work(processes: Processes) -> tuple[Trained, _Wanted, Found] | None:
        check()
        trained = load_trained(RunDir(run), checkpoint, device=device, processes=processes)
        wanted = _listed(images, annotations, trained.counts) if annotations else _files(images, out)
        wanted = _read_as(wanted, images, trained.recipe.data.reading)
        found = _detected(trained, wanted, processes)
        return None if found is None else (trained, wanted, found)

    done = run_together(work)
    if done is None:
        return None
    trained, wanted, found = done
    unreadable = (*wanted.unreadable, *found.unreadable.values())
    if not found.images:
        raise DataError(unreadable)
    detections = found.detections()
    with replacing_directory(out, force=force, check=check) as directory:
        write_results(directory / RESULTS, detections)
        (directory / IMAGES).write_text(_image_file(wanted, found, trained.counts), encoding="utf-8")
        drawn = _draw(
            directory / PICTURES, wanted, found, trained,
            most=pictures, score_threshold=score_threshold,
        )  # fmt: skip
    return Predicted(out, len(found.images), len(detections), drawn, unreadable, wanted.notes)


def _detected(trained: Trained, wanted: _Wanted, processes: Processes) -> Found | None:
    """What all processes found in the images that can be read; at the first one."""
    return detect(
        trained.model,
        wanted.images,
        trained.recipe,
        category_ids=CategoryIds(trained.counts.category_ids.tolist()),
        processes=processes,
        skip_unreadable=True,
        label="predicting",
    )


def _check_output(out: Path, *, force: bool, inputs: Sequence[Path]) -> None:
    """Refuses an output directory that would lose something."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out}: is no directory; choose another --out")
    there = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    foreign = [name for name in there if name not in (RESULTS, IMAGES, PICTURES)]
    if foreign or (there and not (out / RESULTS).is_file()):
        raise OutputError(
            f"{out}: holds files that are no predictions ({', '.join((foreign or there)[:3])}), so it is never "
            "replaced; choose another --out"
        )
    if there and not force:
        raise OutputError(f"{out}: holds predictions; choose another --out, or replace them with --force")
    if there:
        refuse_inputs_inside(out, inputs)


def _read_as(wanted: _Wanted, folder: Path, reading: ImageReading) -> _Wanted:
    """The same, to be read as the run's images were, with notes on what is odd about them.

    Which cannot be read is found with the detections, one by one.
    """
    images = replace(wanted.images, reading=reading)
    notes = survey_images(str(folder), images.paths, images.sizes, reading).notes
    return replace(wanted, images=images, notes=(*wanted.notes, *notes))


def _files(images: Path, out: Path) -> _Wanted:
    """An image, or all images of a folder and below it, by name."""
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
    ids = np.arange(1, len(names) + 1)
    listed = ImageList(ids, [folder / name for name in names], np.zeros((len(names), 2), np.int64))
    return _Wanted(listed, dict(zip(ids.tolist(), names, strict=True)), unreadable, notes)


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


def _listed(images: Path, annotations: Path, counts: CategoryCounts) -> _Wanted:
    """The images of an annotation file whose categories are those of the training file."""
    file = _read_images(annotations_path(annotations))
    if not len(file.image_ids):
        raise DataError(f"{file.path}: lists no image; there is nothing to predict")
    found = file.find_images(images)
    listed = ImageList(file.image_ids, found.paths, file.image_sizes)
    check_same_categories(file, counts.category_ids, counts.names, other="the training file")
    return _Wanted(listed, dict(zip(file.image_ids.tolist(), file.file_names, strict=True)), notes=found.notes)


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


def _image_file(wanted: _Wanted, found: Found, counts: CategoryCounts) -> str:
    """Images and categories that the results refer to, as COCO lists them; one record a line."""
    images: list[dict[str, Any]] = [
        {"id": image_id, "file_name": wanted.names[image_id], "width": image.width, "height": image.height}
        for image_id, image in found.images.items()
    ]
    categories: list[dict[str, Any]] = [
        {"id": category_id, "name": name}
        for category_id, name in zip(counts.category_ids.tolist(), counts.names, strict=True)
    ]
    lists = [
        f'"{key}": [\n' + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]"
        for key, records in (("images", images), ("categories", categories))
    ]
    return "{" + ",\n".join(lists) + "}\n"


def _draw(
    folder: Path,
    wanted: _Wanted,
    found: Found,
    trained: Trained,
    *,
    most: int,
    score_threshold: float,
) -> int:
    """Draws the first ``most`` images with their detections from ``score_threshold`` on; how many."""
    image_ids = list(found.images)[:most]
    names = dict(zip(trained.counts.category_ids.tolist(), trained.counts.names, strict=True))
    paths = dict(zip(wanted.images.ids.tolist(), wanted.images.paths, strict=True))
    group_of = group_name_of(trained.groups)
    files = picture_names({image_id: wanted.names[image_id] for image_id in image_ids})
    with Bar("drawing") as bar:
        for row, (image_id, name) in enumerate(zip(image_ids, files, strict=True)):
            image = found.images[image_id]
            strong = image.detections.take(image.detections.scores >= score_threshold)
            pixels = read_image(paths[image_id], (image.width, image.height), wanted.images.reading)
            plot_detections(
                folder / name,
                pixels.permute(1, 2, 0).numpy(),
                list(strong.records()),
                names=names,
                group_of=group_of,
                groups=[group.name for group in trained.groups],
            )
            bar(row + 1, len(image_ids))
    return len(image_ids)


def picture_names(names: Mapping[int, str]) -> list[str]:
    """Names of pictures of images, by image id: ``.png`` after the image's name.

    No two are the same, nor is one a folder of another, whether or not the disk tells capitals apart: what would be
    gets the image id too.
    """
    normal = {image_id: normal_name(name) for image_id, name in names.items()}
    taken = {str(folder).casefold() for name in normal.values() for folder in PurePosixPath(name).parents}
    pictures = []
    for image_id, name in normal.items():
        picture = f"{name}.png"
        while picture.casefold() in taken:
            picture = f"{picture.removesuffix('.png')}.{image_id}.png"
        taken.add(picture.casefold())
        pictures.append(picture)
    return pictures
