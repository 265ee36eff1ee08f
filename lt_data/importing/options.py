"""What an import may be told about the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["voc", "yolo"]
Difficult = Literal["crowd", "drop", "keep"]
Exif = Literal["ignore", "apply"]

# how the files of annotations of each kind end
SUFFIXES: Final[dict[Kind, str]] = {"voc": ".xml", "yolo": ".txt"}


@dataclass(frozen=True)
class ImportOptions:
    """How a source is read.

    Attributes:
        one_based: The first pixel of a row is 1, and ``xmax`` and ``ymax`` are pixels of the object, as in the files of
            Pascal VOC itself; else coordinates are edges counted from 0. VOC only.
        difficult: What becomes of objects marked difficult: regions that training and evaluation ignore (``iscrowd``),
            nothing, or objects like others. VOC only.
        exif: Whether boxes are of the pixels as they are stored, or of the picture turned as EXIF says: the size of an
            image is taken accordingly.
    """

    one_based: bool = False
    difficult: Difficult = "crowd"
    exif: Exif = "ignore"
