"""COCO and LVIS annotation files as columns, with the untouched bytes of every record beside them.

A validating parser goes over the file once and decodes the few fields that counting and choosing need into columns.
Where every record begins and ends, boxes and areas follow when they are asked for. What is kept is written back byte
for byte.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lt_data.annotations.loose import decode_loosely, without_not_finite
from lt_data.annotations.problems import structural_problems
from lt_data.annotations.records import (
    UNREADABLE,
    CategoryRecord,
    Geometry,
    Records,
    SegmentationRecord,
    UrlRecord,
    annotation_columns,
    decode_records,
    geometry,
    image_columns,
    split_records,
    whole,
    without_cycle_collection,
)
from lt_data.arrays import BoolArray, FloatArray, IntArray, all_distinct, positions_of
from lt_data.errors import DataError
from lt_data.files.image_files import FoundImages, find_images
from lt_data.files.reading import Bytes, FileStamp, check_unchanged, map_file, stamp_of
from lt_data.progress import Progress

_SEGMENTATION = msgspec.json.Decoder(SegmentationRecord)
_URL = msgspec.json.Decoder(UrlRecord)


@dataclass(frozen=True)
class Categories:
    """The category list of a file, in file order.

    Attributes:
        ids: Dataset ids, shape [C].
        names: C names; a category without a name is called by its id.
        frequencies: LVIS ``frequency`` field (r, c, f), or ``None`` unless every category has one.
        header_instances: LVIS ``instance_count`` fields, shape [C], -1 where missing.
        states_counts: Whether any category has a frequency or counts of its own, as LVIS has them.
        without_frequency: Categories without r, c or f in a file in which any has a frequency, whatever it is.
    """

    ids: IntArray
    names: tuple[str, ...]
    frequencies: tuple[str, ...] | None
    header_instances: IntArray
    states_counts: bool = False
    without_frequency: int = 0


@dataclass(frozen=True)
class AnnotationFile:
    """A COCO or LVIS annotation file, read once.

    Attributes:
        path: Where it was read from.
        data: The file's bytes.
        image_ids: Shape [N]; 1..N where the file's own are text.
        image_sizes: Width and height in pixels (0 where the file has none), shape [N, 2].
        file_names: N names relative to the image folder; taken from ``coco_url`` where ``file_name`` is missing.
        annotation_ids: Shape [A].
        annotation_image_ids: Dataset image id of each annotation, shape [A].
        annotation_category_ids: Dataset category id of each annotation, shape [A].
        crowd: True for ``iscrowd`` annotations, shape [A].
        categories: The category list.
        stamp: Of the file at ``path`` before it was read; ``None`` where the bytes did not come from there.
        image_names: The N image ids of a file that has text for them, else ``None``.
    """

    path: Path
    data: Bytes
    image_ids: IntArray
    image_sizes: IntArray
    file_names: list[str]
    annotation_ids: IntArray
    annotation_image_ids: IntArray
    annotation_category_ids: IntArray
    crowd: BoolArray
    categories: Categories
    stamp: FileStamp | None = None
    image_names: tuple[str, ...] | None = None

    def written_image_ids(self) -> list[int] | list[str]:
        """The N image ids as they stand in the file: numbers, or texts where ``image_names`` has them."""
        return self.image_ids.tolist() if self.image_names is None else list(self.image_names)

    def check_unchanged(self) -> None:
        """Refuses what was read if someone has written into the file since; bytes that were unpacked cannot change.

        Raises:
            DataError: The file is another than when it was read.
        """
        if isinstance(self.data, memoryview):
            check_unchanged(self.path, self.stamp)

    @property
    def image_records(self) -> list[msgspec.Raw]:
        """N raw image records, in file order."""
        return self._records["images"]

    @property
    def annotation_records(self) -> list[msgspec.Raw]:
        """A raw annotation records, in file order."""
        return self._records["annotations"]

    @property
    def category_records(self) -> list[msgspec.Raw]:
        """C raw category records, in file order."""
        return self._records["categories"]

    @cached_property
    def _records(self) -> dict[str, list[msgspec.Raw]]:
        """Where every record begins and ends; one more pass over the file, when first asked for."""
        try:
            with without_cycle_collection():
                return split_records(self.path, self.data)
        except DataError as error:
            raise self._explained(error) from None

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the file's bytes.

        Raises:
            DataError: The file was written to since it was read.
        """
        digest = hashlib.sha256(self.data).hexdigest()
        self.check_unchanged()
        return digest

    @property
    def areas(self) -> FloatArray:
        """Areas in px^2, NaN where missing, shape [A]; decoded when first asked for.

        Raises:
            DataError: A record has an area or a box of a wrong type.
        """
        return self._geometry.areas

    @property
    def boxes(self) -> FloatArray:
        """Boxes as x, y, width, height in pixels, NaN where missing, shape [A, 4]; decoded when first asked for.

        Raises:
            DataError: As for ``areas``.
        """
        return self._geometry.boxes

    @property
    def ignored(self) -> BoolArray:
        """Annotations whose field ``ignore`` is 1, shape [A]; COCO's tools do not read it, nor does anything here.

        Raises:
            DataError: As for ``areas``.
        """
        return self._geometry.ignored

    @cached_property
    def _geometry(self) -> Geometry:
        try:
            with without_cycle_collection():
                return geometry(self.path, self.data, self.annotation_records)
        except DataError as error:
            raise self._explained(error) from None

    def _explained(self, error: DataError) -> DataError:
        self.check_unchanged()
        return _explained(error, self.path, self.data)

    @cached_property
    def members(self) -> dict[str, msgspec.Raw]:
        """Raw bytes of every top-level member, in file order; one more pass over the file.

        Raises:
            DataError: The name of a member is not UTF-8.
        """
        try:
            return msgspec.json.decode(self.data, type=dict[str, msgspec.Raw])
        except UNREADABLE as error:
            raise DataError(f"{self.path}: a member cannot be read ({error}); write the file in UTF-8") from None

    def image_index(self) -> IntArray:
        """Position in ``image_ids`` of each annotation's image, shape [A]."""
        return self._image_index

    @cached_property
    def _image_index(self) -> IntArray:
        return positions_of(self.annotation_image_ids, self.image_ids)

    def category_index(self) -> IntArray:
        """Position in ``categories.ids`` of each annotation's category, shape [A]."""
        return self._category_index

    @cached_property
    def _category_index(self) -> IntArray:
        return positions_of(self.annotation_category_ids, self.categories.ids)

    def find_images(self, folder: Path, rows: Sequence[int] | None = None) -> FoundImages:
        """The files of images, by the lookup that every command shares.

        Args:
            folder: The image folder.
            rows: Positions of the images; all in file order unless given.

        Raises:
            DataError: The folder is missing, a name would leave it, or files are missing.
        """
        chosen = range(len(self.file_names)) if rows is None else rows
        return find_images(folder, [self.file_names[row] for row in chosen], url_of=lambda i: self._url(chosen[i]))

    def _url(self, row: int) -> str:
        url = _URL.decode(self.image_records[row]).coco_url
        return url if isinstance(url, str) else ""

    def segmentation(self, index: int) -> Any:
        """The ``segmentation`` of annotation ``index`` as in the file: polygons, an RLE dict, or ``None``.

        Raises:
            DataError: It holds a number or text that cannot be read.
        """
        try:
            return _SEGMENTATION.decode(self.annotation_records[index]).segmentation
        except UNREADABLE as error:
            raise DataError(f"{self.path}: annotations[{index}]: {error}; mend this record") from None


def read_annotations(
    path: Path | str, *, only_matched: bool = False, progress: Progress | None = None
) -> AnnotationFile:
    """Reads and checks a COCO or LVIS annotation file.

    Fields beside the ids that are of a wrong type count as missing; whoever needs them refuses that.

    Args:
        path: A JSON file with the members ``images``, ``annotations`` and ``categories``; may be ``.gz`` or ``.zip``.
        only_matched: For counts and evaluation, which only ask which annotation belongs to which image: image ids may
            be text then, annotation ids and equal category records may repeat, and NaN or Infinity may stand in fields
            beside the ids.
        progress: Called with the bytes read and the bytes in all.

    Raises:
        DataError: The file is missing, not JSON, lacks a member, has a record with an id that cannot be used, an id
            twice, or an annotation of an image or category that the file does not list; one line a problem, the same
            as ``lt-data check`` says. A member that occurs twice is refused when the records are first asked for.
    """
    path = Path(path)
    stamp = stamp_of(path)
    return parse_annotations(map_file(path, progress), path, only_matched=only_matched, stamp=stamp)


def parse_annotations(
    data: Bytes, path: Path, *, only_matched: bool = False, stamp: FileStamp | None = None
) -> AnnotationFile:
    """The same for the bytes of a file that is in memory.

    Args:
        data: JSON in UTF-8; kept as long as the result is.
        path: What to call it.
        only_matched: See :func:`read_annotations`.
        stamp: Of the file that ``data`` maps, taken before.

    Raises:
        DataError: See :func:`read_annotations`.
    """
    try:
        with without_cycle_collection():
            file = _parse(data, path, stamp, only_matched=only_matched)
            _refuse_broken_ids(file, only_matched=only_matched)
    except DataError as error:
        check_unchanged(path, stamp)
        raise _explained(error, path, data, only_matched=only_matched) from None
    file.check_unchanged()
    return file


def _parse(data: Bytes, path: Path, stamp: FileStamp | None, *, only_matched: bool) -> AnnotationFile:
    records, names = _decode(path, data, only_matched=only_matched)
    images, annotations = image_columns(records.images), annotation_columns(records.annotations)
    return AnnotationFile(
        path=path,
        data=data,
        image_ids=images.ids,
        image_sizes=images.sizes,
        file_names=images.names,
        annotation_ids=annotations.ids,
        annotation_image_ids=annotations.image_ids,
        annotation_category_ids=annotations.category_ids,
        crowd=annotations.crowd,
        categories=_categories(_once(records.categories) if only_matched else records.categories),
        stamp=stamp,
        image_names=names,
    )


def _decode(path: Path, data: Bytes, *, only_matched: bool) -> tuple[Records, tuple[str, ...] | None]:
    """The records, fast where they are as most files have them, and the image ids that are text."""
    try:
        return decode_records(path, data), None
    except DataError:
        # who copies or measures records finds NaN in them later, and refuses it
        return decode_loosely(path, without_not_finite(data) if only_matched else data)


def _refuse_broken_ids(file: AnnotationFile, *, only_matched: bool) -> None:
    path = file.path
    if file.image_names is not None and not only_matched:
        raise DataError(f"{path}: images: ids are text; give each image a number")
    distinct = [("images", file.image_ids), ("categories", file.categories.ids)]
    distinct += [] if only_matched else [("annotations", file.annotation_ids)]
    for key, ids in distinct:
        if not all_distinct(ids):
            raise DataError(f"{path}: {key}: an id occurs more than once; ids must be unique")
    if not len(file.categories.ids):
        raise DataError(f"{path}: categories: the list is empty; at least one category is needed")
    if (file.image_index() < 0).any() or (file.category_index() < 0).any():
        raise DataError(f"{path}: annotations: an image_id or category_id is not listed; add it, or remove them")


def _explained(error: DataError, path: Path, data: Bytes, *, only_matched: bool = False) -> DataError:
    """What ``lt-data check`` finds in the file that could not be read."""
    return DataError(structural_problems(path, data, only_matched=only_matched) or error.problems)


def _once(rows: Sequence[CategoryRecord]) -> list[CategoryRecord]:
    """Equal records once, as VIA repeats them; what differs under one id stays, and is refused."""
    first: dict[float, CategoryRecord] = {}
    return [row for row in rows if first.setdefault(row.id, row) is row or first[row.id] != row]


def _categories(rows: Sequence[CategoryRecord]) -> Categories:
    counts = [row.instance_count for row in rows]
    frequencies = [row.frequency for row in rows if row.frequency in ("r", "c", "f")]
    states_frequency = any(row.frequency is not None for row in rows)
    return Categories(
        ids=np.array([row.id for row in rows], np.int64),
        names=tuple(row.name or str(int(row.id)) for row in rows),
        frequencies=tuple(frequencies) if len(frequencies) == len(rows) else None,
        header_instances=np.array([-1 if n is None else whole(n) for n in counts], np.int64),
        states_counts=any((row.frequency, row.image_count, row.instance_count) != (None,) * 3 for row in rows),
        without_frequency=len(rows) - len(frequencies) if states_frequency else 0,
    )
