"""What one file of annotations holds, whatever its format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from lt_data.files.pixels import Size

Corners = tuple[float, float, float, float]
# called with a code of LT7 and what is wrong, without the file's name
Tell = Callable[[str, str], None]


@dataclass(frozen=True)
class SourceObject:
    """An object.

    Attributes:
        place: Where it stands, such as ``line 3``.
        label: What the file calls its class: a name in VOC, a number in YOLO.
        corners: Left, top, right and lower edge in pixels.
        difficult: Whether it is marked so.
    """

    place: str
    label: str
    corners: Corners
    difficult: bool = False


class SourceFile(Protocol):
    """A file that was read.

    Attributes:
        named: The image file that it names; ``None`` if it names none.
        size: Width and height of the image that it states; ``None`` if it states none.
    """

    @property
    def named(self) -> str | None:
        """See the class."""

    @property
    def size(self) -> Size | None:
        """See the class."""

    def objects(self, size: Size, tell: Tell) -> Iterator[SourceObject]:
        """The objects in the order of the file.

        Args:
            size: Width and height of the image.
            tell: Called for each object that cannot be read.
        """


def is_box(corners: Corners) -> bool:
    """Whether edges are numbers in order; a box without an area is one, which the check of the result tells."""
    left, top, right, lower = corners
    return all(map(math.isfinite, corners)) and left <= right and top <= lower
