"""Image files as tensors, and the size that a detector sees them in."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lt_data.errors import DataError
from lt_data.files.image_content import why_unreadable
from lt_data.files.pixels import AS_STORED, ImageReading, Size, as_rgb, exif_turn, wrong_size
from lt_train.data.mask_runs import MaskRuns
from lt_train.data.target import Target

# how a whole JPEG ends; what is cut off goes to the decoder that refuses it
_END_OF_JPEG = b"\xff\xd9"
# EXIF tag of how a camera was held, and its value for upright
_ORIENTATION, _UPRIGHT = 0x0112, 1


def read_image(path: Path, size: npt.ArrayLike, reading: ImageReading = AS_STORED) -> Tensor:
    """An image as uint8 RGB [3, H, W].

    Args:
        path: The file.
        size: Width and height that the annotations claim; 0 where unknown.
        reading: How to read it.

    Raises:
        DataError: The file is no image, or has another size.
    """
    width, height = (int(v) for v in np.asarray(size))
    content = b""
    try:
        content = path.read_bytes()
        pixels = decode_image(content, reading, (width, height))
    except DataError as error:
        raise DataError(f"{path}: {line}" for line in error.problems) from None
    # decoders raise nearly anything on broken files
    except Exception as error:
        raise DataError(f"{path}: not a readable image ({why_unreadable(error, content)})") from None
    if width and height and tuple(pixels.shape[1:]) != (height, width):
        with Image.open(io.BytesIO(content)) as image:
            turn = exif_turn(image) if reading.exif == "ignore" else 1
        raise DataError(f"{path}: {wrong_size((pixels.shape[2], pixels.shape[1]), (width, height), turn)}")
    return pixels


def decode_image(content: bytes, reading: ImageReading = AS_STORED, size: Size = (0, 0)) -> Tensor:
    """The uint8 RGB pixels [3, H, W] of an image file; broken files raise whatever the decoder does.

    Whole gray and colour JPEGs by torchcodec where it is installed (the same pixels sooner), all else by Pillow.
    Unless asked for, nothing is turned by its EXIF orientation: boxes are of the pixels as they are stored, which
    torchvision reads too.

    Args:
        content: The file's bytes.
        reading: How to read it.
        size: Width and height that the annotations claim, 0 where unknown.
    """
    with Image.open(io.BytesIO(content)) as image:
        decode = fast_jpeg_decoder()
        if decode and _suits_fast_decoder(image) and content.endswith(_END_OF_JPEG):
            return decode(content)
        pixels = np.array(as_rgb(image, reading, size))
    # a copy with the channels in front would take a third of the time of decoding
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _suits_fast_decoder(image: Image.Image) -> bool:
    """A gray or colour JPEG that torchcodec would not turn."""
    suits = image.format == "JPEG" and image.mode in ("RGB", "L")
    return suits and image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT


@cache
def fast_jpeg_decoder() -> Callable[[bytes], Tensor] | None:
    """Torchcodec's decoder of JPEGs to uint8 RGB [3, H, W], or ``None`` where it is not installed or does not fit."""
    try:
        decode: Any = import_module("torchcodec.decoders").decode_jpeg
    # a build for another PyTorch fails in its own ways
    except (ImportError, OSError, RuntimeError):
        return None
    return partial(decode, mode="RGB")


def as_input(image: Tensor, device: torch.device) -> Tensor:
    """A uint8 image [3, H, W] as a detector takes it: float32 in 0..1, on a device."""
    return image.to(device, non_blocking=True).float().div_(255)


def resized_size(height: int, width: int, short_side: int, max_size: int) -> tuple[int, int]:
    """Height and width of an image in the size that a detector sees, as torchvision's transform computes it.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        short_side: Wanted short side in pixels.
        max_size: Largest long side in pixels.
    """
    scale = min(short_side / min(height, width), max_size / max(height, width))
    # a side of a very long image must not vanish
    return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))


def on_device(target: Target, device: torch.device) -> Target:
    """A target whose tensors and runs are on the device."""
    kinds = (Tensor, MaskRuns)
    moved = {k: v.to(device, non_blocking=True) if isinstance(v, kinds) else v for k, v in target.items()}
    return cast(Target, moved)
