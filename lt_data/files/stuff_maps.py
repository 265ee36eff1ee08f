"""Stuff maps of COCO-Stuff ("stuffthingmaps"): PNG files in which every pixel has the label of what it shows.

A pixel is the number of a label less 1, 0 for a person to 181, or 255 where nothing is labelled. An archive of the
COCO stuff challenge ("stuff_annotations") has other files, whose things are all one label and whose colours are in a
palette: what Pillow gives of them are other numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from lt_data.errors import DataError

UNLABELLED: Final = 255
# the largest label less 1
MOST: Final = 181
# differing values that a message names
SHOWN: Final = 3


def read_stuff_map(path: Path, *, width: int, height: int) -> npt.NDArray[np.uint8]:
    """The labels of an image, [H, W].

    Args:
        path: The PNG file.
        width: Of the image, in pixels.
        height: Of the image, in pixels.

    Raises:
        DataError: The file cannot be read, is of another kind or size, or has other values.
    """
    needed = "needed is one channel of 0..181, and 255 for unlabelled, as in COCO-Stuff's stuffthingmaps_trainval2017"
    try:
        with Image.open(path) as image:
            if image.mode != "L":
                kind = {"P": "has a palette", "RGB": "has three channels", "RGBA": "has four channels"}
                what = kind.get(image.mode, f"is of Pillow's mode {image.mode}")
                raise DataError(f"{path}: {what}, as the pixel maps of the COCO stuff challenge have; {needed}")
            if image.size != (width, height):
                raise DataError(
                    f"{path}: is {image.size[0]} x {image.size[1]} pixels, its image is {width} x {height}; give the "
                    "maps of these images"
                )
            labels = np.array(image)
    # decoders raise nearly anything on broken files
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path}: not a readable PNG ({reason})") from None
    wrong = np.unique(labels[(labels > MOST) & (labels != UNLABELLED)])
    if len(wrong):
        shown = ", ".join(map(str, wrong[:SHOWN].tolist()))
        raise DataError(f"{path}: has values {shown}; {needed}")
    return labels


def stuff_path(folder: Path, image: Path) -> Path:
    """The stuff map of an image: the PNG file of its name without folders and suffix."""
    return folder / f"{image.stem}.png"


def check_stuff_maps(folder: Path, images: Sequence[Path]) -> None:
    """Refuses a folder that has not a map for each image; the maps are looked at when they are read.

    Args:
        folder: Where the maps are.
        images: The image files.

    Raises:
        DataError: The folder cannot be read, a map is missing, or two images would have the same one.
    """
    try:
        present = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); data.train.stuff is a folder of PNGs") from None
    names = [stuff_path(folder, image).name for image in images]
    missing = [name for name in names if name not in present]
    if missing:
        some = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        raise DataError(
            f"{folder}: {len(missing):,} of {len(names):,} stuff maps are missing ({some}); "
            "each image needs a PNG with the name of its file, or set model.semantic=none"
        )
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(
            f"{folder}: {twice} would be the stuff map of several images, which differ in their folders alone; give "
            "image files names of their own"
        )
