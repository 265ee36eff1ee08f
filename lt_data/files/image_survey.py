"""A look at the images of a data set before they are used: more than 8 bits a pixel, turned or mirrored pictures.

At most 200 files, evenly spread, are opened; pixels are decoded only of those with more than 8 bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from lt_data.arrays import IntArray
from lt_data.errors import DataError
from lt_data.files.pixels import (
    ImageReading,
    Range,
    deep_kind,
    deep_values,
    exif_turn,
    is_deep,
    is_of_stored_pixels,
    range_of,
    turned_size,
    wrong_size,
)

if TYPE_CHECKING:
    from PIL.Image import Image

MOST: Final = 200
SHOWN: Final = 3
# images whose values span less than this share of their range come out nearly of one colour
SMALL_SHARE: Final = 1 / 8


@dataclass
class _Deep:
    """Images of more than 8 bits of one kind: how many, their range, their smallest and largest value."""

    wanted: Range
    count: int = 0
    low: float = np.inf
    high: float = -np.inf


@dataclass
class _Seen:
    """What the images that were looked at have in common."""

    looked_at: int = 0
    turned: list[Path] = field(default_factory=list)
    as_stored: int = 0
    deep: dict[str, _Deep] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Survey(NamedTuple):
    """What was seen.

    Attributes:
        notes: Lines on what a user should know.
        problems: Images that cannot be read so (nothing says their range, or their record is of the turned picture), a
            line for each of the first three.
    """

    notes: tuple[str, ...]
    problems: tuple[str, ...]


def survey_images(name: str, paths: Sequence[Path], sizes: IntArray, reading: ImageReading) -> Survey:
    """Looks at what a user should know of the images before they are trained on or predicted.

    Args:
        name: What to call them: their folder.
        paths: N files.
        sizes: Widths and heights in their records, 0 where unknown, [N, 2].
        reading: How they are going to be read.
    """
    seen, count = _Seen(), len(paths)
    rows = range(count) if count <= MOST else [count * i // MOST for i in range(MOST)]
    for row in rows:
        _look_at(paths[row], (int(sizes[row, 0]), int(sizes[row, 1])), reading, seen)
    among = f"{name}: {{}} of {seen.looked_at:,} images" + (f" looked at (of {count:,})" if count > MOST else "")
    notes = (*_range_lines(seen, among), *_turned_line(seen, reading, among))
    return Survey(notes, tuple(seen.problems[:SHOWN]))


def spans_little(low: float, high: float, wanted: Range) -> bool:
    """Whether values from ``low`` to ``high`` use less than an eighth of a range."""
    used = min(high, wanted[1]) - max(low, wanted[0])
    return used < SMALL_SHARE * (wanted[1] - wanted[0])


def range_advice(high: float) -> str:
    """A range to try, from the largest value that was seen: of whole numbers the fewest bits that hold it."""
    return f"data.image_range=0,{high:g}" if high < 1 else f"data.image_range=0,{2 ** int(high).bit_length() - 1}"


def _look_at(path: Path, size: tuple[int, int], reading: ImageReading, seen: _Seen) -> None:
    from PIL import Image as pillow

    seen.looked_at += 1
    try:
        # odd metadata is nothing to tell
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pillow.open(path) as image:
                turn = exif_turn(image)
                if turn != 1:
                    seen.turned.append(path)
                    seen.as_stored += is_of_stored_pixels(turn, image.size, size)
                    if reading.exif == "ignore" and size == turned_size(turn, image.size) != image.size:
                        seen.problems.append(f"{path}: {wrong_size(image.size, size, turn)}")
                if is_deep(image):
                    _add_values(image, reading, seen)
    except DataError as error:
        seen.problems += [f"{path}: {line}" for line in error.problems]
    # what cannot be read is told by whoever needs it
    except Exception:
        return


def _add_values(image: Image, reading: ImageReading, seen: _Seen) -> None:
    values = deep_values(image)
    kind, wanted = deep_kind(image), range_of(image, values, reading.image_range)
    deep = seen.deep.setdefault(kind, _Deep(wanted))
    deep.count += 1
    deep.low, deep.high = min(deep.low, float(values.min())), max(deep.high, float(values.max()))


def _range_lines(seen: _Seen, among: str) -> Iterator[str]:
    for kind, deep in sorted(seen.deep.items()):
        if spans_little(deep.low, deep.high, deep.wanted):
            low, high = deep.wanted
            yield (
                f"{among.format(f'{deep.count:,}')} are {kind} with values of {deep.low:g} to {deep.high:g}, less than "
                f"an eighth of {low:g} to {high:g}, which becomes 0 to 255: they come out nearly of one colour; give "
                f"their range, for example {range_advice(deep.high)}"
            )


def _turned_line(seen: _Seen, reading: ImageReading, among: str) -> tuple[str, ...]:
    if not seen.turned:
        return ()
    line = f"{among.format(f'{len(seen.turned):,}')} are turned or mirrored by EXIF (first {seen.turned[0].name})"
    if reading.exif == "ignore":
        return (f"{line}; data.exif=ignore takes the pixels as they are stored, where boxes must be drawn on these",)
    kept = f" but {seen.as_stored:,} whose record has the size as stored" if seen.as_stored else ""
    return (f"{line}; data.exif=apply turns them{kept}",)
