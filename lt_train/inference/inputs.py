"""What a caller gives to look at, as pixels: files, Pillow images, arrays and tensors; all else is refused in a line.

Shapes: H, W rows and columns of the image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lt_data.errors import DataError
from lt_data.files.image_content import why_unreadable
from lt_data.files.pixels import ImageReading, as_rgb
from lt_train.data.images import read_image

ImageInput: TypeAlias = str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8] | Tensor

ALLOWED = (
    "allowed are the path of an image, a Pillow image, a uint8 array [H, W, 3] in RGB or [H, W] in gray, and a uint8 "
    "tensor [3, H, W] in RGB"
)
_WHOLE = "whole numbers from 0 to 255"


def is_one_image(given: object) -> bool:
    """Whether something is an image, and not several of them; what is neither is refused.

    Raises:
        DataError: It is neither.
    """
    if isinstance(given, str | os.PathLike | Image.Image | np.ndarray | Tensor):
        return True
    if isinstance(given, Set):
        raise DataError(f"images: got a {type(given).__name__}, which has no order; give a list")
    if not isinstance(given, Iterable) or isinstance(given, bytes | bytearray | memoryview | Mapping):
        raise DataError(f"images: got {_kind(given)}; {ALLOWED}, or a list of them")
    return False


def path_of(given: object) -> Path | None:
    """The path that an image was given as, if it was."""
    if isinstance(given, str | os.PathLike) and isinstance(text := os.fspath(given), str):
        return Path(text)
    return None


def pixels_of(given: object, reading: ImageReading, where: str) -> Tensor:
    """The uint8 RGB pixels [3, H, W] of an image; they share no memory with what was given.

    Args:
        given: See ``ImageInput``.
        reading: How files and Pillow images are read.
        where: What to call it in a message; a file is called by its path.

    Raises:
        DataError: It is no image, cannot be read, or could mean several things.
    """
    path = path_of(given)
    if path is not None:
        return _of_file(path, reading)
    if isinstance(given, Image.Image):
        return _of_pillow(given, reading, where)
    if isinstance(given, np.ndarray):
        return _of_array(given, where)
    if isinstance(given, Tensor):
        return _of_tensor(given, where)
    raise DataError(f"{where}: got {_kind(given)}; {ALLOWED}")


def _of_file(path: Path, reading: ImageReading) -> Tensor:
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give its images, for example sorted(Path('{path}').glob('*.jpg'))")
    if not path.is_file():
        raise DataError(f"{path}: no such image; a relative path starts at {Path.cwd()}")
    return read_image(path, (0, 0), reading)


def _of_pillow(image: Image.Image, reading: ImageReading, where: str) -> Tensor:
    try:
        pixels = np.array(as_rgb(image, reading))
    except DataError as error:
        raise DataError(f"{where}: {line}" for line in error.problems) from None
    # a file that Pillow opened is read only now
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: not a readable image ({why_unreadable(error, b'')})") from None
    return _from_rows(pixels, where)


def _of_array(array: npt.NDArray[Any], where: str) -> Tensor:
    got = f"{where}: got an array of {array.dtype} {list(array.shape)}"
    if array.dtype != np.uint8:
        raise DataError(f"{got}; needed is uint8, {_WHOLE}{_way_to_uint8(array.dtype.kind)}")
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1):
        array = np.broadcast_to(array.reshape(*array.shape[:2], 1), (*array.shape[:2], 3))
    if array.ndim != 3 or array.shape[2] != 3:
        raise DataError(f"{got}; needed is [H, W, 3] in RGB or [H, W] in gray{_way_to_rgb(array.shape)}")
    return _from_rows(np.array(array), where)


def _of_tensor(tensor: Tensor, where: str) -> Tensor:
    kind = str(tensor.dtype).removeprefix("torch.")
    got = f"{where}: got a tensor of {kind} {list(tensor.shape)}"
    if tensor.dtype != torch.uint8:
        raise DataError(f"{got}; needed is uint8, {_WHOLE}{_way_to_uint8('f' if tensor.is_floating_point() else '')}")
    if tensor.ndim == 2 or (tensor.ndim == 3 and tensor.shape[0] == 1):
        tensor = tensor.reshape(1, *tensor.shape[-2:]).expand(3, -1, -1)
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        fix = ", for example tensor.permute(2, 0, 1)" if tensor.ndim == 3 and tensor.shape[2] == 3 else ""
        fix = "; a batch is given as list(batch)" if tensor.ndim == 4 else fix
        raise DataError(f"{got}; needed is [3, H, W] in RGB or [H, W] in gray{fix}")
    pixels = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return _with_pixels(pixels, where)


def _from_rows(pixels: npt.NDArray[np.uint8], where: str) -> Tensor:
    """[H, W, 3] -> [3, H, W] without another copy."""
    return _with_pixels(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1), where)


def _with_pixels(image: Tensor, where: str) -> Tensor:
    if not image.numel():
        raise DataError(f"{where}: the image is {image.shape[2]} x {image.shape[1]} pixels; give one that has any")
    return image


def _way_to_uint8(kind: str) -> str:
    """How an array becomes uint8, as far as its type says what it means."""
    return "; if it is 0 to 1, give (255 * image).round() as uint8" if kind == "f" else ""


def _way_to_rgb(shape: tuple[int, ...]) -> str:
    """How an array of another shape becomes one of rows, columns and three channels."""
    if len(shape) == 4:
        return "; several images are given as list(array)"
    if len(shape) == 3 and shape[0] == 3:
        return "; the channels come last: array.transpose(1, 2, 0)"
    return "; without the fourth channel it is array[..., :3]" if len(shape) == 3 and shape[2] == 4 else ""


def _kind(given: object) -> str:
    """What something is, for a message."""
    return "nothing (None)" if given is None else f"a value of type {type(given).__name__}"
