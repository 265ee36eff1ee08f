"""The files of a source and the images that they belong to; what is wrong with them goes to a list of findings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lt_data.annotations.findings import FindingList
from lt_data.errors import DataError
from lt_data.files.image_content import why_unreadable
from lt_data.files.pixels import Size, exif_turn, turned_size
from lt_data.importing.layout import ImageIndex
from lt_data.importing.options import Exif, ImportOptions, Kind
from lt_data.importing.source_file import SourceFile, SourceObject
from lt_data.importing.voc import VocFile
from lt_data.importing.yolo import YoloFile
from lt_data.progress import Progress

# bytes of an image file that show what else it is
_START: Final = 100


@dataclass(frozen=True)
class SourceImage:
    """An image: the file of its annotations, empty if it has none, its width and height, and its objects."""

    file: str
    size: Size
    objects: tuple[SourceObject, ...]


class Reading:
    """Reads files of annotations and images.

    Args:
        source: The folder of the files of annotations.
        images: That of the images.
        kind: Of the source.
        options: How to read it.
        index: The images that there are.
        log: Takes what is wrong.
    """

    def __init__(
        self, source: Path, images: Path, kind: Kind, options: ImportOptions, index: ImageIndex, log: FindingList
    ) -> None:
        self._source, self._images, self._kind = source, images, kind
        self._options, self._index, self._log = options, index, log

    def read(self, files: list[str], progress: Progress) -> dict[str, SourceImage]:
        """Images by name, in the order of the names; those that have no file of annotations too.

        Args:
            files: Relative to the source.
            progress: Told how many of them are read.
        """
        found: dict[str, SourceImage] = {}
        for number, file in enumerate(files, start=1):
            opened = self._open(file)
            name = None if opened is None else self._index.take(file, opened.named, self._log)
            size = None if name is None else self._size(name)
            if opened is not None and name is not None and size is not None:
                found[name] = SourceImage(file, size, tuple(self._objects(file, opened, name, size)))
            progress(number, len(files))
        for name in (name for name in self._index.names if name not in self._index.taken_by):
            self._log.add("LT706", name)
            if size := self._size(name):
                found[name] = SourceImage("", size, ())
        return dict(sorted(found.items()))

    def _open(self, file: str) -> SourceFile | None:
        try:
            content = (self._source / file).read_bytes()
            if self._kind == "voc":
                return VocFile(content, one_based=self._options.one_based)
            return YoloFile(content)
        except DataError as error:
            reason = str(error)
        except OSError as error:
            reason = error.strerror or str(error)
        self._log.add("LT701", f"{file}: {reason}")
        return None

    def _size(self, name: str) -> Size | None:
        try:
            return image_size(self._images / name, self._options.exif)
        except DataError as error:
            self._log.add("LT502", f"{name}: {error}")
            return None

    def _objects(self, file: str, opened: SourceFile, name: str, size: Size) -> Iterator[SourceObject]:
        stated = opened.size or size
        if stated != size:
            turned = " (turned)" if stated == size[::-1] else ""
            what = f"{size[0]} x {size[1]} px, {file} says {stated[0]} x {stated[1]}{turned}"
            self._log.add("LT503", f"{name}: {what}")
        for found in opened.objects(size, lambda code, text: self._log.add(code, f"{file} {text}")):
            if found.difficult and self._options.difficult == "drop":
                self._log.add("LT707", f"{file} {found.place}")
            else:
                yield found


def image_size(path: Path, exif: Exif) -> Size:
    """Width and height by the head of an image file.

    Args:
        path: The file.
        exif: Of the pixels as they are stored, or of the picture turned as EXIF says.

    Raises:
        DataError: It cannot be read, or is no image; without its name.
    """
    from PIL import Image as pillow

    try:
        # odd metadata is nothing to tell
        with warnings.catch_warnings(action="ignore"), pillow.open(path) as image:
            return turned_size(exif_turn(image) if exif == "apply" else 1, image.size)
    except OSError as error:
        if error.strerror:
            raise DataError(error.strerror) from None
        reason: Exception = error
    # decoders raise nearly anything on broken files
    except Exception as error:
        reason = error
    with path.open("rb") as handle:
        raise DataError(why_unreadable(reason, handle.read(_START)))
