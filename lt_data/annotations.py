"""COCO and LVIS annotation files as columns, with the untouched bytes of every record beside them.

One pass of a validating parser splits the file into members and records without decoding them; each record is then
decoded into the few fields that counting and sampling need. What is kept is written back byte for byte.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import numpy as np
import numpy.typing as npt

from lt_data.errors import DataError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

LARGEST_ID = 2**53


class _Image(msgspec.Struct):
    id: int
    width: int = 0
    height: int = 0
    file_name: str = ""
    coco_url: str = ""


class _Annotation(msgspec.Struct):
    id: int
    image_id: int
    category_id: int
    iscrowd: int | bool = 0
    area: float | None = None
    bbox: tuple[float, float, float, float] | None = None


class _Category(msgspec.Struct):
    id: int
    name: str = ""
    frequency: str | None = None
    image_count: int | None = None
    instance_count: int | None = None


class _Segmentation(msgspec.Struct):
    segmentation: Any = None


_Record = TypeVar("_Record", _Image, _Annotation, _Category)


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
        sha256: Hex digest of the file's bytes.
        members: Raw bytes of every top-level member, in file order.
        image_records: N raw image records, in file order.
        annotation_records: A raw annotation records, in file order.
        image_ids: Shape [N].
        image_sizes: Width and height in pixels (0 where the file has none), shape [N, 2].
        file_names: N names relative to the image folder; taken from ``coco_url`` where ``file_name`` is missing.
        annotation_ids: Shape [A].
        annotation_image_ids: Dataset image id of each annotation, shape [A].
        annotation_category_ids: Dataset category id of each annotation, shape [A].
        crowd: True for ``iscrowd`` annotations, shape [A].
        areas: px^2, NaN where missing, shape [A].
        boxes: x, y, width, height in pixels, NaN where missing, shape [A, 4].
        categories: The category list.
    """

    path: Path
    sha256: str
    members: dict[str, msgspec.Raw]
    image_records: list[msgspec.Raw]
    annotation_records: list[msgspec.Raw]
    image_ids: IntArray
    image_sizes: IntArray
    file_names: list[str]
    annotation_ids: IntArray
    annotation_image_ids: IntArray
    annotation_category_ids: IntArray
    crowd: BoolArray
    areas: FloatArray
    boxes: FloatArray
    categories: Categories

    def image_index(self) -> IntArray:
        """Position in ``image_ids`` of each annotation's image, shape [A]."""
        order = np.argsort(self.image_ids, kind="stable")
        return order[np.searchsorted(self.image_ids[order], self.annotation_image_ids)]

    def segmentation(self, index: int) -> Any:
        """The ``segmentation`` of annotation ``index`` as in the file: polygons, an RLE dict, or ``None``."""
        return _SEGMENTATION.decode(self.annotation_records[index]).segmentation


_SEGMENTATION = msgspec.json.Decoder(_Segmentation)


def read_annotations(path: Path) -> AnnotationFile:
    """Reads and checks a COCO or LVIS annotation file.

    Args:
        path: A JSON file with the members ``images``, ``annotations`` and ``categories``.

    Raises:
        DataError: The file is missing, not JSON, lacks a member, has a record with a wrong field, an id twice,
            or an annotation of an image or category that the file does not list.
    """
    path = Path(path)
    return parse_annotations(_map_file(path), path)


def parse_annotations(data: bytes | memoryview, path: Path) -> AnnotationFile:
    """The same for the bytes of a file that is in memory.

    Args:
        data: JSON in UTF-8; kept as long as the result is.
        path: What to call it.

    Raises:
        DataError: See :func:`read_annotations`.
    """
    members = _split_members(path, data)
    image_records = _records(path, members, "images")
    annotation_records = _records(path, members, "annotations")
    images = _decode(path, "images", image_records, _Image)
    categories = _read_categories(path, _records(path, members, "categories"))
    annotations = _decode(path, "annotations", annotation_records, _Annotation)
    nan = (float("nan"),) * 4
    file = AnnotationFile(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        members=members,
        image_records=image_records,
        annotation_records=annotation_records,
        image_ids=np.array([image.id for image in images], np.int64),
        image_sizes=np.array([(image.width, image.height) for image in images], np.int64).reshape(-1, 2),
        file_names=[_file_name(image) for image in images],
        annotation_ids=np.array([a.id for a in annotations], np.int64),
        annotation_image_ids=np.array([a.image_id for a in annotations], np.int64),
        annotation_category_ids=np.array([a.category_id for a in annotations], np.int64),
        crowd=np.array([bool(a.iscrowd) for a in annotations], bool),
        areas=np.array([a.area for a in annotations], np.float64),
        boxes=np.array([a.bbox or nan for a in annotations], np.float64).reshape(-1, 4),
        categories=categories,
    )
    problems = _reference_problems(file)
    if problems:
        raise DataError(problems)
    return file


def _map_file(path: Path) -> memoryview:
    """The file's bytes without a copy: pages come and go with the page cache."""
    try:
        with path.open("rb") as handle:
            if path.stat().st_size == 0:
                raise DataError(f"{path}: the file is empty; give a COCO or LVIS annotation file")
            return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a COCO or LVIS annotation file") from None


def _split_members(path: Path, data: bytes | memoryview) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a JSON object ({error}); give a COCO or LVIS annotation file") from None


def _records(path: Path, members: dict[str, msgspec.Raw], key: str) -> list[msgspec.Raw]:
    if key not in members:
        found = ", ".join(members) or "none"
        raise DataError(f"{path}: member '{key}' is missing (found: {found}); a COCO or LVIS file has it")
    try:
        return msgspec.json.decode(members[key], type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: member '{key}' is not a list ({error})") from None


def _decode(path: Path, key: str, records: Sequence[msgspec.Raw], kind: type[_Record]) -> list[_Record]:
    decoder = msgspec.json.Decoder(kind)
    decoded: list[_Record] = []
    try:
        for record in records:
            decoded.append(decoder.decode(record))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {key}[{len(decoded)}]: {error}; mend this record") from None
    _check_ids(path, key, [record.id for record in decoded])
    return decoded


def _check_ids(path: Path, key: str, ids: list[int]) -> None:
    too_large = [i for i in ids if not -LARGEST_ID <= i <= LARGEST_ID]
    if too_large:
        raise DataError(f"{path}: {key}: id {too_large[0]} is beyond 2^53, which JSON readers do not keep exactly")
    if len(set(ids)) != len(ids):
        values, counts = np.unique(np.array(ids, np.int64), return_counts=True)
        twice = values[counts > 1]
        raise DataError(
            f"{path}: {key}: {len(twice)} ids occur more than once ({_examples(twice)}); ids must be unique"
        )


def _read_categories(path: Path, records: Sequence[msgspec.Raw]) -> Categories:
    rows = _decode(path, "categories", records, _Category)
    if not rows:
        raise DataError(f"{path}: categories: the list is empty; at least one category is needed")
    frequencies = [row.frequency for row in rows if row.frequency in ("r", "c", "f")]
    return Categories(
        ids=np.array([row.id for row in rows], np.int64),
        names=tuple(row.name or str(row.id) for row in rows),
        frequencies=tuple(frequencies) if len(frequencies) == len(rows) else None,
        header_instances=np.array([-1 if r.instance_count is None else r.instance_count for r in rows], np.int64),
    )


def _file_name(image: _Image) -> str:
    """LVIS v1 names its images only by ``coco_url``, whose last part is the file."""
    return image.file_name or PurePosixPath(urlsplit(image.coco_url).path).name


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
                f"({_examples(np.unique(used[lost]))}); add the missing records or remove these annotations"
            )
    return problems


def _examples(values: IntArray, most: int = 3) -> str:
    shown = ", ".join(str(v) for v in values[:most].tolist())
    return shown + (", ..." if len(values) > most else "")


def write_subset(file: AnnotationFile, path: Path, *, images: BoolArray, annotations: BoolArray) -> None:
    """Writes the chosen images and annotations; every record and every other member keeps its bytes.

    Args:
        file: Where the records come from.
        path: The file to write; one record a line.
        images: Images to keep, shape [N].
        annotations: Annotations to keep, shape [A].
    """
    chosen = {
        "images": [file.image_records[i] for i in np.flatnonzero(images)],
        "annotations": [file.annotation_records[i] for i in np.flatnonzero(annotations)],
    }
    with path.open("wb") as out:
        for number, (key, raw) in enumerate(file.members.items()):
            out.write(b"{" if number == 0 else b",\n")
            out.write(msgspec.json.encode(key) + b": ")
            if key in chosen:
                out.write(b"[" + b",\n".join(bytes(record) for record in chosen[key]) + b"]")
            else:
                out.write(bytes(raw))
        out.write(b"}\n")
