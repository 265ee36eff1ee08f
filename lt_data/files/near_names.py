"""Files in an image folder that are called nearly as a missing image: what a user most likely meant."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote

# files of a folder that are looked at; a wrong folder may hold a whole disk
MOST_FILES: Final = 200_000
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")


def _without_suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def _without_spaces(name: str) -> str:
    return "/".join(part.strip() for part in name.split("/"))


# in this order: each takes what the one before it leaves
_DIFFERENCES: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("a backslash for '/'", lambda name: name.replace("\\", "/")),
    ("%20 and its like for characters", unquote),
    ("another Unicode form", lambda name: unicodedata.normalize("NFC", name)),
    ("upper and lower case", str.casefold),
    ("spaces around it", _without_spaces),
    ("another ending", _without_suffix),
    ("another folder", lambda name: name.rpartition("/")[2]),
)
# what must not differ, the surest first: ending and folder, then one of them
_LEVELS: Final = (("another ending", "another folder"), ("another folder",), ("another ending",))


class NearName(NamedTuple):
    """A file that is nearly called as an image.

    Attributes:
        name: Relative to the image folder, with ``/``.
        difference: What is different, for a message.
    """

    name: str
    difference: str


class NearNames:
    """Looks for near misses of names in a folder, which is listed once, when first asked.

    Args:
        folder: The image folder; what links in it lead to is not listed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_key: dict[tuple[str, ...], dict[str, list[str]]] | None = None

    def find(self, name: str) -> NearName | None:
        """The one file that differs from a name the least; ``None`` if there is none, or there are several."""
        if self._by_key is None:
            self._by_key = _listed(self._folder)
        for level, names in self._by_key.items():
            found = names.get(_key(name, level), [])
            if found:
                # of the very same name is a link that leads nowhere
                usable = len(found) == 1 and found[0] != name
                return NearName(found[0], _difference(name, found[0])) if usable else None
        return None


def _listed(folder: Path) -> dict[tuple[str, ...], dict[str, list[str]]]:
    """Names of the files in a folder and below by their keys, for every level."""
    names = list(islice(_names(folder), MOST_FILES))
    by_key: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for level in _LEVELS:
        of_level: dict[str, list[str]] = defaultdict(list)
        for name in names:
            of_level[_key(name, level)].append(name)
        by_key[level] = dict(of_level)
    return by_key


def _names(folder: Path) -> Iterator[str]:
    for root, inside, files in os.walk(folder):
        inside.sort()
        place = os.path.relpath(root, folder)
        for name in sorted(files):
            yield name if place == "." else f"{Path(place).as_posix()}/{name}"


def _key(name: str, kept: tuple[str, ...]) -> str:
    """A name without all that may differ but what is kept."""
    for what, without in _DIFFERENCES:
        if what not in kept:
            name = without(name)
    return name


def _difference(name: str, found: str) -> str:
    """The one difference, or each without which the two would not be the same."""
    alone = [what for what, without in _DIFFERENCES if without(name) == without(found)]
    needed = [what for what, _ in _DIFFERENCES if _key(name, (what,)) != _key(found, (what,))]
    return alone[0] if alone else ", ".join(needed) or "another spelling"
