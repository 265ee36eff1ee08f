"""Results as other programs write them, turned into records that evaluation takes.

Image ids may be text: the ids of the annotation file, or the names of its images as ultralytics writes them. Masks may
be polygons, which become run lengths of the image's size. Whatever is read in another way than it is written is told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np

from lt_data.arrays import positions_of
from lt_train.evaluation.predictions.columns import Detections, Problem
from lt_train.evaluation.truth.columns import GroundTruth
from lt_train.evaluation.truth.masks import FAR, require_sizes

# a mask of an image that is not there, which is a problem of its own
_NO_MASK: Final[Mapping[str, Any]] = {"size": (0, 0), "counts": "0"}


class Turned(NamedTuple):
    """Records with numbers for image ids and run lengths for masks, what could not be turned, and what was."""

    rows: list[Any]
    problems: list[Problem]
    notes: list[str]


def turned(
    rows: Sequence[Any], truth: GroundTruth, *, make: Callable[..., Any], masks: bool, source: str, total: int
) -> Turned:
    """Turns records into those that evaluation takes.

    Args:
        rows: Records whose ``image_id`` may be text and whose ``segmentation`` may be polygons.
        truth: The annotations that they belong to.
        make: Makes a record of the fields of one.
        masks: Whether masks are read.
        source: What to call the predictions.
        total: Predictions given.

    Raises:
        DataError: Polygons are to be encoded, but images have no size.
    """
    known, images_told, problems = _images_of([row.image_id for row in rows], truth, source, total)
    kept = [(row, number) for row, number in zip(rows, known, strict=True) if number is not None]
    fields = [{name: getattr(row, name) for name in row.__struct_fields__} for row, _ in kept]
    for one, (_, number) in zip(fields, kept, strict=True):
        one["image_id"] = float(number)
    notes = images_told
    if masks:
        fields, more, told = _with_run_lengths(fields, truth, source, total)
        problems, notes = [*problems, *more], [*notes, *told]
    elif fields and "segmentation" in fields[0]:
        fields = [{**one, "segmentation": None} for one in fields]
    return Turned([make(**one) for one in fields], problems, notes)


def _images_of(
    given: Sequence[float | str], truth: GroundTruth, source: str, total: int
) -> tuple[list[int | None], list[str], list[Problem]]:
    """The number of each image, ``None`` where there is none; a line on file names, and one on unknown images."""
    own = _own_ids(truth)
    names: dict[int | str, int] = dict(_by_file_name(truth).items())
    names.update(_by_number(truth).items())
    keys = [value if isinstance(value, str) else int(value) for value in given]
    numbers: list[int | None] = []
    by_name = 0
    for key in keys:
        found = own.get(key)
        # numbers are ids of the file, known or not, unless its ids are text
        if found is None and (isinstance(key, str) or truth.image_names is not None):
            found = names.get(key)
            by_name += found is not None
        elif found is None:
            found = int(key)
        numbers.append(found)
    lost = [key for key, number in zip(keys, numbers, strict=True) if number is None]
    return numbers, _name_note(by_name, truth, source, total), _unknown(lost, truth, source, total)


def _own_ids(truth: GroundTruth) -> dict[int | str, int]:
    ids: list[int] = truth.image_ids.tolist()
    return dict(zip(truth.image_names or ids, ids, strict=True))


def _by_file_name(truth: GroundTruth) -> dict[str, int]:
    """Images by file name: the whole, without folders, without its ending; names that two images share are left out."""
    keys: list[set[str]] = []
    for name in truth.file_names:
        path = PurePosixPath(name.replace("\\", "/"))
        keys.append({name, path.name, path.stem} - {""})
    shared = Counter(key for of_image in keys for key in of_image)
    pairs = zip(keys, truth.image_ids.tolist(), strict=True)
    return {key: number for of_image, number in pairs for key in of_image if shared[key] == 1}


def _by_number(truth: GroundTruth) -> dict[int, int]:
    """Images whose file name is a number but for its ending, by that number."""
    pairs = [(int(key), number) for key, number in _by_file_name(truth).items() if key.isascii() and key.isdigit()]
    shared = Counter(key for key, _ in pairs)
    return {key: number for key, number in pairs if shared[key] == 1}


def _name_note(count: int, truth: GroundTruth, source: str, total: int) -> list[str]:
    if not count:
        return []
    return [
        f"{source}: {count:,} of {total:,} predictions have the name of an image file for image_id, as ultralytics "
        f"writes them; they are matched with file_name in {truth.source}"
    ]


def _unknown(lost: Sequence[int | str], truth: GroundTruth, source: str, total: int) -> list[Problem]:
    if not lost:
        return []
    shown = ", ".join(map(repr, list(dict.fromkeys(lost))[:3]))
    line = (
        f"{source}: {len(lost):,} of {total:,} predictions name an image that {truth.source} does not list: image_id "
        f"({shown}); write its id as {truth.source} has it, or its file name without the ending"
    )
    return [Problem("image", len(lost), line)]


def _with_run_lengths(
    fields: Sequence[dict[str, Any]], truth: GroundTruth, source: str, total: int
) -> tuple[list[dict[str, Any]], list[Problem], list[str]]:
    """Polygons as run lengths of the image's size; those that are none are left out."""
    polygons = [one for one in fields if isinstance(one["segmentation"], list)]
    if not polygons:
        return list(fields), [], []
    require_sizes(truth.image_sizes, truth.source)
    bad = [one for one in polygons if not _are_polygons(one["segmentation"])]
    wrong = {id(one) for one in bad}
    sizes = dict(zip(truth.image_ids.tolist(), truth.image_sizes.tolist(), strict=True))
    kept = [
        {**one, "segmentation": _encoded(one["segmentation"], sizes.get(int(one["image_id"])))}
        for one in fields
        if id(one) not in wrong
    ]
    note = (
        f"{source}: {len(polygons) - len(bad):,} of {total:,} predictions have polygons for a mask; they become run "
        f"lengths of the size that {truth.source} gives for the image"
    )
    return kept, _bad_polygons(bad, source, total), [note] if len(polygons) > len(bad) else []


def _are_polygons(given: Iterable[Sequence[float]]) -> bool:
    """Three points or more each, none so far away that drawing it overflows."""
    found = list(given)
    whole = all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in found)
    return bool(found) and whole and all(math.isfinite(v) and abs(v) <= FAR for polygon in found for v in polygon)


def _encoded(given: Any, size: Sequence[int] | None) -> Any:
    from pycocotools import mask as rle

    if not isinstance(given, list):
        return given
    if size is None:
        return _NO_MASK
    height, width = size
    merged = rle.merge(rle.frPyObjects(given, height, width))
    return {"size": (height, width), "counts": merged["counts"].decode("ascii")}


def _bad_polygons(bad: Sequence[Mapping[str, Any]], source: str, total: int) -> list[Problem]:
    if not bad:
        return []
    shown = ", ".join(f"{one['image_id']:.0f}" for one in bad[:3])
    line = (
        f"{source}: {len(bad):,} of {total:,} predictions have polygons that cannot be encoded (image ids {shown}); "
        "each polygon is x1, y1, x2, y2, ... of three points or more, in pixels"
    )
    return [Problem("mask", len(bad), line)]


def with_numbers_of_names(found: Detections, truth: GroundTruth, source: str) -> tuple[Detections, list[str]]:
    """Takes image ids for names of files if none of them is an id, but all are names: ``000139.jpg`` is 139 then.

    Returns:
        The detections with the ids of ``truth``, and a line that says so; as they are in every other case.
    """
    if not len(found) or truth.image_names is not None or (positions_of(found.images, truth.image_ids) >= 0).any():
        return found, []
    numbers = _by_number(truth)
    if not set(found.images.tolist()) <= numbers.keys():
        return found, []
    images = np.array([numbers[i] for i in found.images.tolist()], np.int64)
    return replace(found, images=images), _name_note(len(found), truth, source, len(found))
