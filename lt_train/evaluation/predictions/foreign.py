"""Results as other programs write them, turned into records that evaluation takes.

Image ids may be text: the ids of the annotation file, or the names of its images as ultralytics writes them. Masks may
be polygons, which become run lengths of the image's size. Whatever is read in another way than it is written is told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
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
    numbers, notes, problems = _images_of([row.image_id for row in rows], truth, source, total)
    kept = [(row, number) for row, number in zip(rows, numbers, strict=True) if number is not None]
    encoder = _Encoder(truth) if masks else None
    records, bad = [], []
    for row, number in kept:
        fields = {name: getattr(row, name) for name in row.__struct_fields__}
        fields["image_id"] = float(number)
        if "segmentation" in fields:
            fields["segmentation"] = None if encoder is None else encoder.run_lengths(fields["segmentation"], number)
        if encoder is not None and fields["segmentation"] is None:
            bad.append(number)
        else:
            records.append(make(**fields))
    if encoder is not None:
        notes = [*notes, *encoder.notes(source, total)]
    return Turned(records, [*problems, *_bad_polygons(bad, source, total)], notes)


def _images_of(
    given: Sequence[float | str], truth: GroundTruth, source: str, total: int
) -> tuple[list[int | None], list[str], list[Problem]]:
    """The number of each image, ``None`` where there is none; a line on file names, and one on unknown images."""
    own = _own_ids(truth)
    names: dict[int | str, int] = dict(_by_file_name(truth).items())
    names.update(_by_number(truth).items())
    keys = [value if isinstance(value, str) else int(value) for value in given]
    # where one id is the name of a file, a number is one too: ultralytics writes 7 for 7.jpg
    all_names = truth.image_names is not None or any(isinstance(key, str) for key in keys)
    numbers: list[int | None] = []
    by_name = 0
    for key in keys:
        if isinstance(key, int) and not all_names:
            numbers.append(key)
            continue
        found = own.get(key) if isinstance(key, str) else None
        if found is None:
            found = names.get(key)
            by_name += found is not None
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


class _Encoder:
    """Turns polygons into run lengths of their image's size, and counts them."""

    def __init__(self, truth: GroundTruth) -> None:
        self._truth = truth
        self._encoded = 0

    @cached_property
    def _sizes(self) -> dict[int, list[int]]:
        """Height and width of each image."""
        require_sizes(self._truth.image_sizes, self._truth.source)
        return dict(zip(self._truth.image_ids.tolist(), self._truth.image_sizes.tolist(), strict=True))

    def run_lengths(self, mask: Any, image_id: int) -> Any:
        """Run lengths as they are, polygons encoded; ``None`` for polygons that cannot be drawn."""
        from pycocotools import mask as rle

        if not isinstance(mask, list):
            return mask
        if not _are_polygons(mask):
            return None
        self._encoded += 1
        if image_id not in self._sizes:
            return _NO_MASK
        height, width = self._sizes[image_id]
        merged = rle.merge(rle.frPyObjects(mask, height, width))
        return {"size": (height, width), "counts": merged["counts"].decode("ascii")}

    def notes(self, source: str, total: int) -> list[str]:
        """A line, if any were polygons."""
        if not self._encoded:
            return []
        return [
            f"{source}: {self._encoded:,} of {total:,} predictions have polygons for a mask; they become run lengths "
            f"of the size that {self._truth.source} gives for the image"
        ]


def _are_polygons(found: Sequence[Sequence[float]]) -> bool:
    """Three points or more each, none so far away that drawing it overflows."""
    whole = all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in found)
    return bool(found) and whole and all(math.isfinite(v) and abs(v) <= FAR for polygon in found for v in polygon)


def _bad_polygons(bad: Sequence[int], source: str, total: int) -> list[Problem]:
    if not bad:
        return []
    shown = ", ".join(map(str, bad[:3]))
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
