"""Image files as 8-bit RGB: what becomes of more than 8 bits a pixel, and of pictures that EXIF says are turned.

Pillow's own conversion cuts 16-bit and 32-bit values off at 255, and floats of 0..1 at 0: such images would be blank.
Here they are scaled by a range that is the same for every image, never by an image's own values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from lt_data.arrays import FloatArray
from lt_data.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Range = tuple[float, float]
Size = tuple[int, int]

# EXIF tag of how the camera was held, and the values for which height and width change places
_ORIENTATION: Final = 0x0112
_SIDEWAYS: Final = (5, 6, 7, 8)
# formats that have at most 16 bits a sample, whatever type Pillow takes for them
_SIXTEEN_BITS: Final = ("PNG", "PPM")


@dataclass(frozen=True)
class ImageReading:
    """How image files are read.

    Attributes:
        image_range: Values that become 0 and 255 in images of more than 8 bits; ``None`` for those of the type: 0 and
            65535 for 16 bits, 0 and 1 for floats.
        exif: ``ignore`` takes pixels as they are stored, ``apply`` turns and mirrors them as EXIF says.
    """

    image_range: Range | None = None
    exif: Literal["ignore", "apply"] = "ignore"


AS_STORED: Final = ImageReading()


def parse_range(value: Any) -> Range | None:
    """The range that was asked for: ``None`` for ``auto``, else two numbers as a list or as the text LOW,HIGH.

    Raises:
        DataError: Anything else.
    """
    if value == "auto":
        return None
    try:
        low, high = (float(part) for part in (value.split(",") if isinstance(value, str) else value))
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError(
            f"got {value!r}; allowed are auto and two numbers LOW,HIGH, the values that become 0 and 255 in images of "
            "more than 8 bits, for example 0,4095"
        )
    return low, high


def as_rgb(image: Image, reading: ImageReading = AS_STORED, size: Size = (0, 0)) -> Image:
    """The pixels of an opened image file as an RGB image of 8 bits.

    Args:
        image: As Pillow opened it.
        reading: How to read it.
        size: Width and height in its record, 0 where unknown.

    Raises:
        DataError: It holds values whose range nothing says; without the file's name.
    """
    turn = exif_turn(image) if reading.exif == "apply" else 1
    stored = image.size
    rgb = _scaled(image, reading.image_range) if is_deep(image) else image.convert("RGB")
    return _turned(rgb, turn) if turn != 1 and not is_of_stored_pixels(turn, stored, size) else rgb


def is_deep(image: Image) -> bool:
    """Whether a pixel is a number of 16 or 32 bits or a float: gray images all."""
    return image.mode == "F" or image.mode.startswith("I")


def exif_turn(image: Image) -> int:
    """How EXIF says the picture is turned or mirrored: 1 for not at all, to 8.

    TIFF files count as upright, since Pillow turns them by itself. In a PNG file only what stands in front of the
    pixels is read.
    """
    if image.format == "TIFF" or (
        image.format == "PNG" and not {"exif", "Raw profile type exif"} & {str(key) for key in image.info}
    ):
        return 1
    value = image.getexif().get(_ORIENTATION, 1)
    return int(value) if value in range(2, 9) else 1


def is_of_stored_pixels(turn: int, stored: Size, size: Size) -> bool:
    """Whether the record's size shows that its boxes are of the stored pixels: those of the turned picture differ.

    Args:
        turn: See :func:`exif_turn`.
        stored: Width and height of the pixels as they are stored.
        size: Width and height in the record, 0 where unknown.
    """
    return turn in _SIDEWAYS and size == stored and stored[0] != stored[1]


def turned_size(turn: int, stored: Size) -> Size:
    """Width and height of the picture that is turned as EXIF says."""
    return (stored[1], stored[0]) if turn in _SIDEWAYS else stored


def wrong_size(actual: Size, size: Size, turn: int = 1) -> str:
    """What to say of pixels that are of another size than their record, and why if EXIF turns them.

    Args:
        actual: Width and height of the pixels.
        size: Width and height in the record.
        turn: How the pixels would have to be turned, see :func:`exif_turn`.
    """
    text = f"the image is {actual[0]} x {actual[1]} pixels, its annotation says {size[0]} x {size[1]}"
    if turn == 1 or turned_size(turn, actual) != size:
        return text
    return f"{text}, which it is once turned by its EXIF orientation; use data.exif=apply"


def deep_kind(image: Image) -> str:
    """What a pixel of more than 8 bits is."""
    if image.mode == "F":
        return "floats"
    return "16-bit gray" if _known_range(image) else "32-bit integers"


def deep_values(image: Image) -> FloatArray:
    """The numbers of an image of more than 8 bits a pixel, [H, W].

    Raises:
        DataError: Some are not finite; without the file's name.
    """
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("floats that are not all finite; write real numbers, or save images of 8 bits")
    return values


def range_of(image: Image, values: FloatArray, given: Range | None = None) -> Range:
    """The values that become 0 and 255 in an image of more than 8 bits.

    Args:
        image: As Pillow opened it.
        values: Its numbers.
        given: The range that was asked for, if one was.

    Raises:
        DataError: Nothing says; without the file's name.
    """
    known = given or _known_range(image)
    low, high = float(values.min()), float(values.max())
    if known is None or (given is None and image.mode == "F" and (low < 0 or high > 1)):
        allowed = "" if known is None else " (0 to 1 needs no range)"
        raise DataError(
            f"{deep_kind(image)} from {low:g} to {high:g}, and nothing says which values are black and white{allowed}; "
            "say so with data.image_range=LOW,HIGH, or save images of 8 bits"
        )
    return known


def _known_range(image: Image) -> Range | None:
    if image.mode == "F":
        return 0.0, 1.0
    return (0.0, 65535.0) if image.mode != "I" or image.format in _SIXTEEN_BITS else None


def _scaled(image: Image, given: Range | None) -> Image:
    from PIL import Image as pillow

    values = deep_values(image)
    low, high = range_of(image, values, given)
    share = np.clip((values - low) / (high - low), 0, 1)
    return pillow.fromarray(np.rint(255 * share).astype(np.uint8)).convert("RGB")


def _turned(image: Image, turn: int) -> Image:
    from PIL.Image import Transpose

    ways = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(ways[turn])
