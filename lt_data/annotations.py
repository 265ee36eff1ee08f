"""COCO and LVIS annotation files as columns, with the untouched bytes of every record beside them.

A validating parser goes over the file once and decodes the few fields that counting and choosing need into columns.
Where every record begins and ends, boxes and areas follow when they are asked for. What is kept is written back byte
for byte.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import mmap
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from lt_data.annotation_records import (
    CHUNK,
    UNREADABLE,
    Bytes,
    CategoryRecord,
    Columns,
    Progress,
    SegmentationRecord,
    check_unique,
    decode_typed,
    examples,
    span_of,
    split_records,
    without_cycle_collection,
)
from lt_data.errors import DataError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

_SEGMENTATION = msgspec.json.Decoder(SegmentationRecord)


@dataclass(frozen=True)
class Categories:
    """The category list of a file, in file order.

    Attributes:
        ids: Dataset ids, shape [C].
        names: C names; a category without a name is called by its id.
        frequencies: LVIS ``frequency`` field (r, c, f), or ``None`` unless every category has one.
        header_instances: LVIS ``instance_count`` fields, shape [C], -1 where missing.
    """

    ids: IntArray
    names: tuple[str, ...]
    frequencies: tuple[str, ...] | None
    header_instances: IntArray


@dataclass(frozen=True)
class AnnotationFile:
    """A COCO or LVIS annotation file, read once.

    Attributes:
        path: Where it was read from.
        data: The file's bytes.
        image_ids: Shape [N].
        image_sizes: Width and height in pixels (0 where the file has none), shape [N, 2].
        file_names: N names relative to the image folder; taken from ``coco_url`` where ``file_name`` is missing.
        annotation_ids: Shape [A].
        annotation_image_ids: Dataset image id of each annotation, shape [A].
        annotation_category_ids: Dataset category id of each annotation, shape [A].
        crowd: True for ``iscrowd`` annotations, shape [A].
        categories: The category list.
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

    @property
    def image_records(self) -> list[msgspec.Raw]:
        """N raw image records, in file order."""
        return self._records["images"]

    @property
    def annotation_records(self) -> list[msgspec.Raw]:
        """A raw annotation records, in file order."""
        return self._records["annotations"]

    @cached_property
    def _records(self) -> dict[str, list[msgspec.Raw]]:
        """Where every record begins and ends; one more pass over the file, when first asked for."""
        with without_cycle_collection():
            return split_records(self.path, self.data)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the file's bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def areas(self) -> FloatArray:
        """Areas in px^2, NaN where missing, shape [A]; decoded when first asked for.

        Raises:
            DataError: A record has an area or a box of a wrong type.
        """
        return self._geometry[0]

    @property
    def boxes(self) -> FloatArray:
        """Boxes as x, y, width, height in pixels, NaN where missing, shape [A, 4]; decoded when first asked for.

        Raises:
            DataError: As for ``areas``.
        """
        return self._geometry[1]

    @cached_property
    def _geometry(self) -> tuple[FloatArray, FloatArray]:
        with without_cycle_collection():
            return Columns(self.path, self.data, "annotations", self.annotation_records).geometry()

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
        order = np.argsort(self.image_ids, kind="stable")
        return order[np.searchsorted(self.image_ids[order], self.annotation_image_ids)]

    def segmentation(self, index: int) -> Any:
        """The ``segmentation`` of annotation ``index`` as in the file: polygons, an RLE dict, or ``None``.

        Raises:
            DataError: It holds a number or text that cannot be read.
        """
        try:
            return _SEGMENTATION.decode(self.annotation_records[index]).segmentation
        except UNREADABLE as error:
            raise DataError(f"{self.path}: annotations[{index}]: {error}; mend this record") from None


def read_annotations(path: Path, *, progress: Progress | None = None) -> AnnotationFile:
    """Reads and checks a COCO or LVIS annotation file.

    Args:
        path: A JSON file with the members ``images``, ``annotations`` and ``categories``.
        progress: Called with the bytes done and the bytes in all.

    Raises:
        DataError: The file is missing, not JSON, lacks a member, has a record with a wrong field, an id twice,
            or an annotation of an image or category that the file does not list.
    """
    path = Path(path)
    return parse_annotations(_map_file(path), path, progress=progress)


def parse_annotations(data: Bytes, path: Path, *, progress: Progress | None = None) -> AnnotationFile:
    """The same for the bytes of a file that is in memory.

    Args:
        data: JSON in UTF-8; kept as long as the result is.
        path: What to call it.
        progress: As above.

    Raises:
        DataError: See :func:`read_annotations`.
    """
    with without_cycle_collection():
        records: dict[str, list[Any]] = decode_typed(data) or dict(split_records(path, data))
        if progress is not None:
            progress(len(data), len(data))
        file = AnnotationFile(
            path=path,
            data=data,
            categories=_read_categories(path, data, records["categories"]),
            **Columns(path, data, "images", records["images"]).images(),
            **Columns(path, data, "annotations", records["annotations"]).annotations(),
        )
    problems = _reference_problems(file)
    if problems:
        raise DataError(problems)
    return file


def _map_file(path: Path) -> Bytes:
    """The file's bytes; a plain file is mapped, so that its pages come and go with the page cache."""
    try:
        with path.open("rb") as handle:
            if path.stat().st_size == 0:
                raise DataError(f"{path}: the file is empty; give a COCO or LVIS annotation file")
            if path.suffix.lower() == ".gz":
                return gzip.decompress(handle.read())
            if path.suffix.lower() == ".zip":
                return _only_member(path)
            return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
    # zipfile raises RuntimeError where it needs a password or cannot unpack
    except (EOFError, RuntimeError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole {path.suffix} file ({error})") from None
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}); give a COCO or LVIS annotation file") from None


def _only_member(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if not name.endswith("/")]
        if len(members) != 1:
            raise DataError(f"{path}: holds {len(members)} files; give a .zip with one annotation file, or unpack it")
        return archive.read(members[0])


def _read_categories(path: Path, data: Bytes, records: Sequence[Any]) -> Categories:
    columns = Columns(path, data, "categories", records)
    rows = [row for _, chunk in columns.chunks(CategoryRecord) for row in chunk]
    if not rows:
        raise DataError(f"{path}: categories: the list is empty; at least one category is needed")
    ids = columns.ids_of(rows)
    check_unique(path, "categories", ids)
    counts = [row.instance_count for row in rows]
    frequencies = [row.frequency for row in rows if row.frequency in ("r", "c", "f")]
    return Categories(
        ids=ids,
        names=tuple(row.name or str(row.id) for row in rows),
        frequencies=tuple(frequencies) if len(frequencies) == len(rows) else None,
        # a count that does not fit is wrong as well when it is cut
        header_instances=np.array([-1 if n is None else min(max(n, 1 - 2**63), 2**63 - 1) for n in counts], np.int64),
    )


def _reference_problems(file: AnnotationFile) -> list[str]:
    """One line for annotations of unknown images, one for unknown categories."""
    problems = []
    for key, used, known in (
        ("image_id", file.annotation_image_ids, file.image_ids),
        ("category_id", file.annotation_category_ids, file.categories.ids),
    ):
        lost = ~np.isin(used, known)
        if lost.any():
            problems.append(
                f"{file.path}: annotations: {int(lost.sum())} have a {key} that the file does not list "
                f"({examples(np.unique(used[lost]))}); add the missing records or remove these annotations"
            )
    return problems


def write_subset(
    file: AnnotationFile,
    path: Path,
    *,
    images: BoolArray,
    annotations: BoolArray,
    ignored: BoolArray | None = None,
) -> None:
    """Writes the chosen images and annotations; all other bytes of the file, and those of every record, stay.

    Args:
        file: Where the records come from.
        path: The file to write; one record a line.
        images: Images to keep, shape [N].
        annotations: Annotations to keep, shape [A].
        ignored: Annotations to keep as ``iscrowd: 1``, shape [A]; only that field of theirs changes.
    """
    kept = annotations if ignored is None else annotations | ignored
    as_crowd = np.zeros(len(kept), bool) if ignored is None else ignored & ~file.crowd
    chosen = [
        (file.image_records, [file.image_records[i] for i in np.flatnonzero(images)]),
        (file.annotation_records, [_record(file, i, as_crowd) for i in np.flatnonzero(kept).tolist()]),
    ]
    spans = [(*span_of(file.data, records), written) for records, written in chosen if records]
    done = 0
    with path.open("wb") as out:
        for start, end, written in sorted(spans, key=lambda span: span[0]):
            out.write(file.data[done:start])
            _write_records(out, written)
            done = end
        out.write(file.data[done:])


def _record(file: AnnotationFile, index: int, as_crowd: BoolArray) -> msgspec.Raw:
    """The record's own bytes, or the same with ``iscrowd: 1``."""
    record = file.annotation_records[index]
    if not as_crowd[index]:
        return record
    fields = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    return msgspec.Raw(msgspec.json.encode({**fields, "iscrowd": 1}))


def _write_records(out: BinaryIO, records: Sequence[msgspec.Raw]) -> None:
    for start in range(0, len(records), CHUNK):
        out.write(b",\n" if start else b"")
        out.write(b",\n".join(records[start : start + CHUNK]))
