"""Which images stay together: by folder, a field of the images, a part of their names.

A unit is what is never divided: the images of a group, or the images of one file where no groups are asked for.

Shapes: N images, U units.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple

import msgspec
import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.records import UNREADABLE
from lt_data.arrays import IntArray
from lt_data.errors import DataError, shown
from lt_data.files.image_files import normal_name

FOLDER: Final = "folder"
ROBOFLOW: Final = "roboflow"
# a name, or names with points between them for fields within fields; everything else is a regular expression
_FIELD: Final = re.compile(r"[^\W\d]\w*(\.\w+)*")
# Roboflow names the copies that it makes of photo.jpg photo_jpg.rf.<32 digits>.jpg
_COPY: Final = re.compile(r"(?:.*/)?(.+)\.rf\.[0-9A-Za-z]+\.\w+")
_ALLOWED: Final = (
    "allowed are folder, roboflow (copies of one photo), a field of the images, or a regular expression for file "
    "names whose first bracket is the group, for example '^(clip[0-9]+)_'"
)
_MOST_FIELDS: Final = 8


class Units(NamedTuple):
    """What is never divided.

    Attributes:
        of_image: Unit of each image, numbered from 0 as they first occur, shape [N].
        notes: What is odd about them, a line each.
    """

    of_image: IntArray
    notes: tuple[str, ...]

    @property
    def number(self) -> int:
        """U."""
        return int(self.of_image.max()) + 1 if len(self.of_image) else 0


def check_group_by(group_by: str) -> None:
    """Refuses a rule for groups that can fit no file, before anything is read.

    Raises:
        DataError: It is empty, or no regular expression.
    """
    if not group_by:
        raise DataError(f"--group-by: is empty; {_ALLOWED}")
    if not _FIELD.fullmatch(group_by):
        try:
            re.compile(group_by)
        except re.error as error:
            raise DataError(f"--group-by: {shown(group_by)} is no regular expression ({error}); {_ALLOWED}") from None


def find_units(file: AnnotationFile, group_by: str | None) -> Units:
    """The units of a file.

    Args:
        file: The annotation file.
        group_by: ``folder``: images of one folder; ``roboflow``: the copies that Roboflow made of one photo; a field
            of the image records (``a.b`` is field b within a); or a regular expression that is looked for in the file
            names: its first bracket is the group, else all that it finds. Without it, images that name one file.

    Raises:
        DataError: Images lack the field or a file name, or the expression is found in none.
    """
    if group_by is None:
        return _one_a_file(file)
    check_group_by(group_by)
    if group_by not in (FOLDER, ROBOFLOW) and _FIELD.fullmatch(group_by):
        return Units(_numbered(_field_values(file, group_by)), ())
    _refuse_nameless(file, group_by)
    if group_by == FOLDER:
        return Units(_numbered([str(PurePosixPath(normal_name(name)).parent) for name in file.file_names]), ())
    return _by_name(file, group_by)


def _one_a_file(file: AnnotationFile) -> Units:
    """Each image for itself, but those that name one file together: else it would be on several sides."""
    keys: list[Hashable] = [normal_name(name) if name else i for i, name in enumerate(file.file_names)]
    units = Units(_numbered(keys), ())
    notes = []
    if units.number < len(keys):
        notes.append(
            f"{file.path.name}: {len(keys):,} images name {units.number:,} files; images of one file stay together"
        )
    found = [match[1] for name in file.file_names if (match := _COPY.fullmatch(name))]
    if len(set(found)) < len(found):
        notes.append(
            f"{file.path.name}: {len(found):,} images are Roboflow's copies (.rf. names) of {len(set(found)):,} "
            "photos, and copies of one photo may lie on several sides; keep them together with --group-by roboflow"
        )
    return Units(units.of_image, tuple(notes))


def _by_name(file: AnnotationFile, group_by: str) -> Units:
    """Groups by what an expression finds in the names; an image without stays alone."""
    find = _COPY.fullmatch if group_by == ROBOFLOW else re.compile(group_by).search
    found = [find(name) for name in file.file_names]
    missing = found.count(None)
    if missing == len(found):
        example = shown(file.file_names[0]) if found else "none"
        raise DataError(
            f"{file.path}: --group-by {shown(group_by)} fits no file name (the first is {example}); {_ALLOWED}"
        )
    keys: list[Hashable] = []
    for row, match in enumerate(found):
        # a bracket that took no part has nothing to say, as no match has not
        text = None if match is None else match[1 if match.re.groups else 0]
        keys.append(row if text is None else text)
    alone = sum(isinstance(key, int) for key in keys)
    notes = (
        f"{file.path.name}: --group-by {shown(group_by)} fits {len(keys) - alone:,} of {len(keys):,} file names; "
        "each of the other images is a group of its own",
    )
    return Units(_numbered(keys), notes if alone else ())


def _refuse_nameless(file: AnnotationFile, group_by: str) -> None:
    if nameless := file.file_names.count(""):
        raise DataError(
            f"{file.path}: {nameless:,} images have no file_name, which --group-by {shown(group_by)} needs; "
            "give them one, or group by a field"
        )


def _field_values(file: AnnotationFile, field: str) -> list[bytes]:
    """What the images have in a field, as JSON.

    Raises:
        DataError: An image does not have it.
    """
    path = field.split(".")
    values = [_value(file, row, path) for row in range(len(file.image_ids))]
    missing = [row for row, value in enumerate(values) if value is None]
    if missing:
        row = missing[0]
        raise DataError(
            f"{file.path}: {len(missing):,} of {len(values):,} images have no field {shown(field)} for --group-by "
            f"(the first is id {file.image_ids[row]}, with {_fields(file, row)}); {_ALLOWED}"
        )
    return [value for value in values if value is not None]


def _value(file: AnnotationFile, row: int, path: Sequence[str]) -> bytes | None:
    """The value of a field of an image, spelled in one way; ``None`` where it is null or not there."""
    try:
        value = msgspec.json.decode(file.image_records[row])
    except UNREADABLE as error:
        raise DataError(f"{file.path}: images[{row}]: {error}; mend this record") from None
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return None if value is None else msgspec.json.encode(value, order="sorted")


def _fields(file: AnnotationFile, row: int) -> str:
    names = list(msgspec.json.decode(file.image_records[row], type=dict[str, msgspec.Raw]))
    return ", ".join(names[:_MOST_FIELDS]) + (", ..." if len(names) > _MOST_FIELDS else "")


def _numbered(keys: Sequence[Hashable]) -> IntArray:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
