"""A trained model on images that may have no annotations: a standard results file, a table, the images, pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from lt_data.annotations.category_ids import CategoryIds
from lt_data.arrays import FloatArray
from lt_data.counts.categories import CategoryCounts
from lt_data.errors import DataError, OutputError
from lt_data.files.image_files import normal_name
from lt_data.files.writing import refuse_inputs_inside, replacing_directory, write_csv
from lt_data.groups import group_name_of
from lt_data.terminal import Bar
from lt_train.data.images import read_image
from lt_train.evaluation import Detections, write_results
from lt_train.inference.detect import FoundById, Trained, detect, load_trained
from lt_train.inference.kept import Kept
from lt_train.inference.wanted import Wanted, images_below, listed_images
from lt_train.processes import Processes, run_together
from lt_train.report.annotated import annotated_records
from lt_train.report.detection_picture import plot_detections
from lt_train.runs.directory import RunDir

RESULTS, TABLE, IMAGES, PICTURES = "predictions.json", "predictions.csv", "images.json", "pictures"
COLUMNS = (*("image_id", "file_name", "category_id", "category", "group", "score", "x", "y", "width", "height"),)


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


def predict_images(
    run: Path | str,
    images: Path | str,
    out: Path | str,
    *,
    checkpoint: str = "last",
    annotations: Path | str | None = None,
    only: Sequence[str] = (),
    min_score: float = 0.0,
    class_agnostic_nms: float | None = None,
    pictures: int = 50,
    score_threshold: float = 0.5,
    device: str | None = None,
    force: bool = False,
) -> Predicted | None:
    """Detects objects in images, in one process or in those that torchrun started.

    Writes ``predictions.json`` (COCO results with the dataset's category ids, every detection of the model unless
    asked otherwise), ``predictions.csv`` (the same without masks, with the names of images, categories and groups),
    ``images.json`` (COCO lists of the images and categories that they refer to) and ``pictures``.

    Args:
        run: The run directory.
        images: An image, or a folder: then all images in it and below it, by name. Ids are 1, 2, ... in this order.
        out: The directory to write.
        checkpoint: ``last`` or ``best``.
        annotations: A COCO or LVIS file whose images, with their ids, are looked at; it needs no annotations.
            ``images`` is then its image folder. What is annotated stands beside what was found in the pictures.
        only: Names, ids or patterns of names of the images to look at; all unless given.
        min_score: Lowest score of a record, 0 to 1.
        class_agnostic_nms: IoU of boxes above which the weaker of two goes, whatever their classes; within a class the
            model has done that.
        pictures: How many pictures to draw at most, of the first images.
        score_threshold: Detections below it are left out of the pictures, not of the results.
        device: Device, the recipe's unless given; several processes have a GPU each where it leaves the choice.
        force: Replace predictions that exist; nothing else is ever replaced.

    Returns:
        What was written; ``None`` in all processes but the first.

    Raises:
        DataError: The run, the checkpoint or the annotation file cannot be used, no image can be read, or there is no
            such image as one of ``only``.
        RecipeError: A number is out of range.
        OutputError: The output exists or cannot be written.
    """
    run, images, out = Path(run), Path(images), Path(out)
    listed = None if annotations is None else Path(annotations)
    kept = Kept(min_score, class_agnostic_nms)
    check = partial(_check_output, out, force=force, inputs=[run, images, *([listed] if listed else [])])

    def work(processes: Processes) -> tuple[Trained, Wanted, FoundById] | None:
        check()
        trained = load_trained(RunDir(run), checkpoint, device=device, processes=processes)
        wanted = _wanted(images, listed, out, trained, only)
        found = _detected(trained, wanted, kept, processes)
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
        _write_lists(directory, detections, wanted, found, trained)
        where = directory / PICTURES
        drawn = _draw(where, wanted, found, trained, most=pictures, score_threshold=score_threshold)
    notes = (*wanted.notes, *_weak(detections.scores, drawn, score_threshold))
    return Predicted(out, len(found.images), len(detections), drawn, unreadable, notes)


def _weak(scores: FloatArray, drawn: int, threshold: float) -> Iterator[str]:
    """Why no picture shows anything, if none does."""
    if drawn and len(scores) and scores.max() < threshold:
        yield f"pictures show scores from {threshold:g} on, the highest is {scores.max():.2g}; lower --score-threshold"


def _write_lists(directory: Path, detections: Detections, wanted: Wanted, found: FoundById, trained: Trained) -> None:
    """What was found as standard results, as a table, and the images and categories that both refer to."""
    write_results(directory / RESULTS, detections)
    write_csv(directory / TABLE, COLUMNS, _table(wanted, found, trained))
    (directory / IMAGES).write_text(_image_file(wanted, found, trained.counts), encoding="utf-8")


def _wanted(images: Path, listed: Path | None, out: Path, trained: Trained, only: Sequence[str]) -> Wanted:
    """The images to look at; ``listed`` is the annotation file that lists them, if there is one."""
    reading = trained.recipe.data.reading
    if listed is None:
        return images_below(images, out, only, reading)
    return listed_images(images, listed, trained.counts, only, reading)


def _detected(trained: Trained, wanted: Wanted, kept: Kept, processes: Processes) -> FoundById | None:
    """What all processes found in the images that can be read; at the first one."""
    return detect(
        trained.model,
        wanted.images,
        trained.recipe,
        category_ids=CategoryIds(trained.counts.category_ids.tolist()),
        processes=processes,
        skip_unreadable=True,
        kept=kept,
        label="predicting",
    )


def _check_output(out: Path, *, force: bool, inputs: Sequence[Path]) -> None:
    """Refuses an output directory that would lose something."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out}: is no directory; choose another --out")
    there = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    foreign = [name for name in there if name not in (RESULTS, TABLE, IMAGES, PICTURES)]
    if foreign or (there and not (out / RESULTS).is_file()):
        raise OutputError(
            f"{out}: holds files that are no predictions ({', '.join((foreign or there)[:3])}), so it is never "
            "replaced; choose another --out"
        )
    if there and not force:
        raise OutputError(f"{out}: holds predictions; choose another --out, or replace them with --force")
    if there:
        refuse_inputs_inside(out, inputs)


def _table(wanted: Wanted, found: FoundById, trained: Trained) -> Iterator[tuple[object, ...]]:
    """A row for each detection, in the order of the results."""
    names, group_of = _names(trained.counts), group_name_of(trained.groups)
    for image_id, image in found.images.items():
        for record in image.detections.records():
            category_id = record["category_id"]
            yield (
                image_id,
                wanted.names[image_id],
                category_id,
                names[category_id],
                group_of[category_id],
                record["score"],
                *record["bbox"],
            )


def _names(counts: CategoryCounts) -> dict[int, str]:
    """Category names by dataset id."""
    return dict(zip(counts.category_ids.tolist(), counts.names, strict=True))


def _image_file(wanted: Wanted, found: FoundById, counts: CategoryCounts) -> str:
    """Images and categories that the results refer to, as COCO lists them; one record a line."""
    images: list[dict[str, Any]] = [
        {"id": image_id, "file_name": wanted.names[image_id], "width": image.width, "height": image.height}
        for image_id, image in found.images.items()
    ]
    categories: list[dict[str, Any]] = [
        {"id": category_id, "name": name} for category_id, name in _names(counts).items()
    ]
    lists = [
        f'"{key}": [\n' + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]"
        for key, records in (("images", images), ("categories", categories))
    ]
    return "{" + ",\n".join(lists) + "}\n"


def _draw(
    folder: Path,
    wanted: Wanted,
    found: FoundById,
    trained: Trained,
    *,
    most: int,
    score_threshold: float,
) -> int:
    """Draws the first ``most`` images with their detections from ``score_threshold`` on; how many."""
    image_ids = list(found.images)[:most]
    names = _names(trained.counts)
    paths = dict(zip(wanted.images.ids.tolist(), wanted.images.paths, strict=True))
    group_of = group_name_of(trained.groups)
    files = picture_names({image_id: wanted.names[image_id] for image_id in image_ids})
    with Bar("drawing") as bar:
        for row, (image_id, name) in enumerate(zip(image_ids, files, strict=True)):
            image = found.images[image_id]
            pixels = read_image(paths[image_id], (image.width, image.height), wanted.images.reading)
            plot_detections(
                folder / name,
                pixels.permute(1, 2, 0).numpy(),
                list(image.detections.records()),
                names=names,
                group_of=group_of,
                groups=[group.name for group in trained.groups],
                threshold=score_threshold,
                truth=_annotated(wanted, image_id, (image.height, image.width)),
            )
            bar(row + 1, len(image_ids))
    return len(image_ids)


def _annotated(wanted: Wanted, image_id: int, size: tuple[int, int]) -> list[dict[str, Any]] | None:
    """What is annotated in an image; ``None`` where no image has annotations, as in test sets."""
    if wanted.file is None or not len(wanted.file.annotation_ids):
        return None
    return annotated_records(wanted.file, wanted.rows[image_id], size)


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
