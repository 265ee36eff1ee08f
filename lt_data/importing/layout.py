"""Which image a file of annotations belongs to: the one that lies in the image folder as it does in the source.

``chips/a.xml`` belongs to ``chips/a.jpg``. Where a folder of the source is called ``labels`` or ``Annotations``, the
one called ``images`` or ``JPEGImages`` beside it is looked into too, as these formats lay out their folders. Nothing
else is guessed: an image of another folder with the same name may be another picture.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from lt_data.annotations.findings import FindingList, shown
from lt_data.errors import DataError

# a folder of annotations, and that of its images
_TWINS: Final = (("labels", "images"), ("annotations", "images"), ("Annotations", "JPEGImages"))
_LABELS: Final = "labels"
# what macOS packs beside the files of an archive
_NO_CONTENT: Final = "__MACOSX"


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Files of a folder and its subfolders, relative to it with ``/``, in the order of their names' characters.

    Hidden files and folders are left out, and links to folders are not followed.

    Raises:
        DataError: There is no such folder, or one in it cannot be listed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder of the files")

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions") from None

    found = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and name != _NO_CONTENT]
        here = Path(place).relative_to(folder)
        found += [
            (here / name).as_posix() for name in names if not name.startswith(".") and name.lower().endswith(suffixes)
        ]
    return sorted(found)


def annotation_files(source: Path, suffix: str, without: Path | None) -> list[str]:
    """The files of annotations in a source: all with that ending, or those below folders called ``labels`` if any are.

    Args:
        source: The folder.
        suffix: How they end.
        without: The file of names, which is none of them.

    Raises:
        DataError: There are none.
    """
    found = files_below(source, (suffix,))
    if without is not None:
        found = [name for name in found if (source / name).resolve() != without.resolve()]
    below_labels = [name for name in found if suffix == ".txt" and _LABELS in PurePosixPath(name).parts[:-1]]
    if not found:
        raise DataError(f"{source}: no {suffix} files of annotations in it; give the folder that holds them")
    return below_labels or found


class ImageIndex:
    """The images of a folder, each of which one file of annotations may take.

    Args:
        names: Relative to the folder, with ``/``.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.taken_by: dict[str, str] = {}
        self._known = frozenset(names)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self._by_stem[_stem(name)].append(name)

    def take(self, file: str, named: str | None, log: FindingList) -> str | None:
        """The image of a file of annotations; ``None`` if there is not exactly one, which the log is told.

        Args:
            file: Relative to the source.
            named: The image that it names, if it names one: of two that have its own name it says which, and it is
                taken where none has.
            log: Takes what is wrong.
        """
        images = self._of_own_name(file)
        by_name = self._of_given_name(file, named)
        if images and by_name and not set(by_name) & set(images):
            log.add("LT705", f"{file}: names {shown(named)} while {images[0]} is there too")
            return None
        images = by_name or images
        if not images:
            log.add("LT704", f"{file}{'' if named is None else f': it names {shown(named)}'}")
            return None
        if len(images) > 1:
            log.add("LT705", f"{file}: could be of {' and '.join(images[:3])}")
            return None
        if other := self.taken_by.get(images[0]):
            log.add("LT705", f"{images[0]}: of {other} and {file}")
            return None
        self.taken_by[images[0]] = file
        return images[0]

    def _of_own_name(self, file: str) -> list[str]:
        return next((found for place in _places(file) if (found := self._by_stem.get(_stem(place)))), [])

    def _of_given_name(self, file: str, named: str | None) -> list[str]:
        """Only the last part of a name is taken: programs write folders of the machine that they ran on."""
        if named is None:
            return []
        last = PureWindowsPath(named).name
        paths = (str(PurePosixPath(place).with_name(last)) for place in _places(file) if last not in ("", ".", ".."))
        return next(([path] for path in paths if path in self._known), [])


def _places(file: str) -> Iterator[str]:
    """Where the image of a file may lie, but for its ending: as the file, then in the folder of images beside."""
    yield file
    *folders, name = PurePosixPath(file).parts
    for own, images in _TWINS:
        if own in folders:
            last = len(folders) - 1 - folders[::-1].index(own)
            yield "/".join((*folders[:last], images, *folders[last + 1 :], name))


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
