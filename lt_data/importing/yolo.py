"""YOLO: one text file an image, one object a line: class, centre x, centre y, width, height as shares of the image.

``globox`` turns a line into a box in pixels; it takes any text for a class and does not say which line is wrong, so
what a line must be is checked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lt_data.annotations.findings import shown
from lt_data.errors import DataError
from lt_data.files.pixels import Size
from lt_data.importing.source_file import SourceObject, Tell, is_box

_FIELDS: Final = 5
_CLASS: Final = re.compile(r"[0-9]{1,9}")
# share of the image by which rounding and boxes at its edge may lie outside 0..1
_SLACK: Final = 0.01


class YoloFile:
    """One text file, which names no image and states no size.

    Args:
        content: Its bytes.

    Raises:
        DataError: It is no text in UTF-8; without the file's name.
    """

    named: str | None = None
    size: Size | None = None

    def __init__(self, content: bytes) -> None:
        try:
            self._lines = content.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise DataError("no text in UTF-8") from None

    def objects(self, size: Size, tell: Tell) -> Iterator[SourceObject]:
        """Its lines that are not empty."""
        for number, line in enumerate(self._lines, start=1):
            if not line.strip():
                continue
            place = f"line {number}"
            found = _object(place, line, size)
            if isinstance(found, SourceObject):
                yield found
            else:
                tell("LT702", f"{place}: {found}")


def _object(place: str, line: str, size: Size) -> SourceObject | str:
    """The object of a line, or what is wrong with it."""
    from globox import BoundingBox, BoxFormat, ParsingError

    fields = line.split()
    if len(fields) != _FIELDS:
        return f"{shown(line)} has {len(fields)} numbers, not {_FIELDS}: outlines and scores are not read"
    if not _CLASS.fullmatch(fields[0]):
        return f"{shown(line)} has no class number in front"
    try:
        shares = [float(field) for field in fields[1:]]
        box = BoundingBox.from_txt(line, box_format=BoxFormat.XYWH, relative=True, image_size=size)
    # AssertionError: a negative width or height, or what is no number
    except (ParsingError, ValueError, AssertionError):
        return f"{shown(line)}: not four numbers, or a negative width or height"
    if not is_box(box.ltrb) or not all(-_SLACK <= share <= 1 + _SLACK for share in shares):
        return f"{shown(line)}: not shares of the image, 0 to 1"
    return SourceObject(place, str(int(fields[0])), box.ltrb)
