"""Image files against their records: missing, unreadable, of another size.

The header gives the size. Whether the rest is whole is told by the decoder's own check and, for JPEG, by the marker at
its end; only a file without that marker is decoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lt_data.annotations.findings import FindingList, shown
from lt_data.annotations.lists import FileColumns, leaves_folder
from lt_data.errors import DataError
from lt_data.files.image_files import find_images
from lt_data.progress import Progress

_JPEG_END: Final = b"\xff\xd9"
# cameras append bytes after the end marker
_TAIL: Final = 65536


def check_image_files(file: FileColumns, folder: Path, log: FindingList, progress: Progress | None = None) -> None:
    """Looks at the file of every image.

    Args:
        file: The annotation file's columns.
        folder: The image folder.
        log: Takes what is wrong.
        progress: Called with the images done and the images in all.

    Raises:
        DataError: There is no such folder.
    """
    find_images(folder, [])
    sizes = file.images.sizes
    count = len(file.images.names)
    with warnings.catch_warnings():
        # odd metadata is no finding
        warnings.simplefilter("ignore")
        for row, name in enumerate(file.images.names):
            if name and not leaves_folder(name):
                size = int(sizes[row, 0]), int(sizes[row, 1])
                for code, text in _problems(folder, name, file.images.urls[row], size):
                    log.add(code, f"{file.image(row)}: {shown(name)}{text}")
            if progress is not None:
                progress(row + 1, count)


def _problems(folder: Path, name: str, url: str, size: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """Codes and explanations of what is wrong with a file; ``size`` is width and height, 0 where not known."""
    try:
        (path,), notes = find_images(folder, [name], url_of=lambda _: url)
    except (DataError, OSError):
        yield "LT501", " (write '/' for the backslash)" if "\\" in name else ""
        return
    if notes:
        yield "LT506", f": {shown(path.relative_to(folder).as_posix())}"
    try:
        actual = image_size(path)
    except DataError as error:
        yield "LT502", f": {error}"
        return
    if min(size) > 0 and size != actual:
        turned = " (turned: see its EXIF orientation)" if size == actual[::-1] else ""
        yield "LT503", f": {actual[0]} x {actual[1]} px, the record says {size[0]} x {size[1]}{turned}"


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file that is whole, as far as that can be told without decoding it.

    Raises:
        DataError: The file cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            size, kind = image.size, image.format
            image.verify()
        if kind == "JPEG" and not _has_jpeg_end(path):
            with Image.open(path) as image:
                image.load()
    # decoders raise nearly anything on broken files
    except Exception as error:
        raise DataError(f"{type(error).__name__}: {error}") from None
    return size


def _has_jpeg_end(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(0, 2)
        handle.seek(max(handle.tell() - _TAIL, 0))
        return _JPEG_END in handle.read()
