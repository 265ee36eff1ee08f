"""Image files against their records: missing, unreadable, of another size, with pixels that training sees otherwise.

The header gives the size. Whether the rest is whole is told by the decoder's own check and, for JPEG, by the marker at
its end; only a file without that marker is decoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lt_data.annotations.findings import FindingList, shown
from lt_data.annotations.lenient import UNREADABLE_NAME
from lt_data.annotations.lists import FileColumns, leaves_folder
from lt_data.errors import DataError
from lt_data.files.image_content import not_an_image
from lt_data.files.image_files import check_folder, find_image
from lt_data.files.image_survey import spans_little
from lt_data.files.near_names import NearNames
from lt_data.files.pixels import Size, deep_kind, deep_values, exif_turn, is_deep, range_of, turned_size
from lt_data.progress import Progress

if TYPE_CHECKING:
    from PIL.Image import Image

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
    check_folder(folder)
    sizes = file.images.sizes
    count, has_broken_texts = len(file.images.names), log.has("LT003")
    near = NearNames(folder)
    with warnings.catch_warnings():
        # odd metadata is no finding
        warnings.simplefilter("ignore")
        for row, name in enumerate(file.images.names):
            # LT003 has named what is no name
            if name and not leaves_folder(name) and not (has_broken_texts and UNREADABLE_NAME in name):
                size = int(sizes[row, 0]), int(sizes[row, 1])
                for code, text in _problems(folder, near, name, file.images.urls[row], size):
                    log.add(code, f"{file.image(row)}: {shown(name)}{text}")
            if progress is not None:
                progress(row + 1, count)


def _problems(folder: Path, near: NearNames, name: str, url: str, size: Size) -> Iterator[tuple[str, str]]:
    """Codes and explanations of what is wrong with a file; ``size`` is width and height, 0 where not known."""
    found = find_image(folder, name, url)
    if found is None:
        yield _missing(near, name)
        return
    path = found.path
    if not found.as_given:
        yield "LT506", f": {shown(path.relative_to(folder).as_posix())}"
    try:
        actual = image_size(path)
    except DataError as error:
        yield "LT502", f": {error}"
        return
    turn, unusual = _unusual(path)
    yield from unusual
    if min(size) > 0 and size != actual:
        turned = ""
        if size == actual[::-1]:
            by_exif = turned_size(turn, actual) == size
            turned = " (turned: see its EXIF orientation; data.exif=apply reads it so)" if by_exif else " (turned)"
        yield "LT503", f": {actual[0]} x {actual[1]} px, the record says {size[0]} x {size[1]}{turned}"


def _missing(near: NearNames, name: str) -> tuple[str, str]:
    """A file that is not there, or called nearly so."""
    other = near.find(name)
    if other is not None:
        return "LT507", f": {shown(other.name)} ({other.difference})"
    return "LT501", " (write '/' for the backslash)" if "\\" in name else ""


def _unusual(path: Path) -> tuple[int, list[tuple[str, str]]]:
    """How EXIF turns an image, and what training does not see as a viewer shows it."""
    from PIL import Image as pillow

    found = []
    with pillow.open(path) as image:
        turn = exif_turn(image)
        if turn != 1:
            found.append(("LT505", f": EXIF orientation {turn}"))
        if is_deep(image):
            found.append(("LT504", f": {_values(image)}"))
    return turn, found


def _values(image: Image) -> str:
    """What numbers an image of more than 8 bits holds, and whether training can make sense of them."""
    try:
        values = deep_values(image)
        low, high, wanted = float(values.min()), float(values.max()), range_of(image, values)
    except DataError as error:
        return str(error)
    text = f"{deep_kind(image)}, values of {low:g} to {high:g}"
    if not spans_little(low, high, wanted):
        return text
    return f"{text}, less than an eighth of {wanted[0]:g} to {wanted[1]:g}"


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file that is whole, as far as that can be told without decoding it.

    Raises:
        DataError: The file cannot be read.
    """
    from PIL import Image as pillow
    from PIL import UnidentifiedImageError

    try:
        with pillow.open(path) as image:
            size, kind = image.size, image.format
            image.verify()
        if kind == "JPEG" and not _has_jpeg_end(path):
            with pillow.open(path) as image:
                image.load()
    except UnidentifiedImageError:
        with path.open("rb") as handle:
            raise DataError(not_an_image(handle.read(100))) from None
    # decoders raise nearly anything on broken files
    except Exception as error:
        raise DataError(str(error) or type(error).__name__) from None
    return size


def _has_jpeg_end(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(0, 2)
        handle.seek(max(handle.tell() - _TAIL, 0))
        return _JPEG_END in handle.read()
