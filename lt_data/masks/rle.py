"""The decoder of compressed run-length masks, and what their runs add up to, many masks at a time.

COCO writes run lengths as text: a number is a row of characters with five bits each (lowest first, 32 marks that more
follow, the last one's 16 the sign), and from the fourth run on it is the difference to the run before the last.
Evaluators read nonsense without a word; here it is found.

Source: ``rleToString`` of the COCO API (maskApi.c), which defines the form.

Shapes: D masks, R runs of all of them, n numbers in their texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lt_data.arrays import BoolArray, IntArray

Codes = npt.NDArray[np.uint8]

# texts at a time: few enough that the arrays stay in the processor's cache
_CHUNK: Final = 512
_FIRST, _LARGEST, _MORE = 48, 63, 32
# stands for a text with characters beyond ASCII, and is as unreadable
_FOREIGN: Final = b" "


class DecodedRuns(NamedTuple):
    """The runs of many masks; the first of a mask is of zeros, the second of ones, and so on in turn.

    Attributes:
        lengths: Pixels of each run, [R] int64.
        bounds: Where the runs of each mask begin, and the last ones end, [D + 1] int64.
        broken: Masks whose text is no run lengths; they have no runs here, [D].
    """

    lengths: IntArray
    bounds: IntArray
    broken: BoolArray


def decode_runs(texts: Sequence[bytes]) -> DecodedRuns:
    """Decodes compressed run lengths.

    A text is broken if it has a foreign character, breaks off within a number, or holds a negative run or a number of
    more than 35 bits, which no run has. The empty text is sound: it has no runs.

    Args:
        texts: D ``counts`` of compressed RLEs.
    """
    code, text_bounds = _codes(texts)
    broken = _unreadable(code, text_bounds)
    if broken.any():
        code, text_bounds = _codes([b"" if bad else text for bad, text in zip(broken.tolist(), texts, strict=True)])
    ends = np.flatnonzero(code < _MORE)
    bounds = np.searchsorted(ends, text_bounds)
    lengths = _undo_differences(_numbers(code, ends), bounds)
    if len(lengths) and lengths.min() < 0:
        return _without_negative_runs(DecodedRuns(lengths, bounds, broken))
    return DecodedRuns(lengths, bounds, broken)


def _codes(texts: Sequence[bytes]) -> tuple[Codes, IntArray]:
    """Six bits a character (more for one that may not be there), and where each text begins and the last ends."""
    bounds = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=bounds[1:])
    return np.frombuffer(b"".join(texts), np.uint8) - np.uint8(_FIRST), bounds


def _unreadable(code: Codes, bounds: IntArray) -> BoolArray:
    """Texts with a foreign character, without an end, or with a number that no run has, [D]."""
    unreadable = np.zeros(len(bounds) - 1, bool)
    some = np.diff(bounds) > 0
    unreadable[some] = code[bounds[1:][some] - 1] >= _MORE
    more = code >= _MORE
    # seven that say that more follow: 35 bits and no end
    pairs = more[:-1] & more[1:]
    long = pairs[:-5] & pairs[2:-3] & pairs[4:-1] & more[6:]
    bad = np.flatnonzero(long) if long.any() else np.empty(0, np.int64)
    if len(code) and code.max() > _LARGEST:
        bad = np.concatenate([bad, np.flatnonzero(code > _LARGEST)])
    unreadable[np.searchsorted(bounds, bad, side="right") - 1] = True
    return unreadable


def _numbers(code: Codes, ends: IntArray) -> IntArray:
    """The numbers that end at these characters, [n]."""
    small = code.astype(np.int16)
    values = (small & 31 ^ 16) - 16
    # nearly all have one or two characters
    before = small[:-1]
    np.add(values[1:] * 32, before & 31, out=values[1:], where=before >= _MORE)
    numbers = values[ends].astype(np.int64)
    rows = np.flatnonzero((before[1:] >= _MORE) & (before[:-1] >= _MORE) & (small[2:] < _MORE)) + 2
    if len(rows):
        numbers[np.searchsorted(ends, rows)] = _long_numbers(code, rows)
    return numbers


def _long_numbers(code: Codes, ends: IntArray) -> IntArray:
    numbers = (code[ends].astype(np.int64) ^ 16) - 16
    rows, place = np.arange(len(ends)), ends - 1
    while len(rows):
        numbers[rows] = (numbers[rows] << 5) | (code[place] & 31)
        longer = (place > 0) & (code[place - 1] >= _MORE)
        rows, place = rows[longer], place[longer] - 1
    return numbers


def _undo_differences(numbers: IntArray, bounds: IntArray) -> IntArray:
    """The runs that numbers stand for, [n]: each adds to the one two before it, but for the first of a mask.

    The running sums of every second number over all masks are the runs, once what came before the mask is taken off.
    """
    counts = np.diff(bounds)
    some = counts > 0
    first, counts = bounds[:-1][some], counts[some]
    lengths = numbers.copy()
    lengths[first] = 0
    for half in (0, 1):
        running = _running_sums(lengths[half::2])
        start, end = (first + 1 - half) // 2, (first + counts + 1 - half) // 2
        lengths[half::2] = running[1:] - np.repeat(running[start], end - start)
    lengths[first] = numbers[first]
    return lengths


def _without_negative_runs(decoded: DecodedRuns) -> DecodedRuns:
    """The same with masks that have a negative run called broken, and their runs left out."""
    lengths, bounds, broken = decoded
    counts = np.diff(bounds)
    negative = np.zeros(len(counts), bool)
    negative[np.searchsorted(bounds, np.flatnonzero(lengths < 0), side="right") - 1] = True
    kept = _running_sums(np.where(negative, 0, counts))
    return DecodedRuns(lengths[~np.repeat(negative, counts)], kept, broken | negative)


class Areas(NamedTuple):
    """What run lengths add up to.

    Attributes:
        inside: Pixels of the masks, [D] int64.
        pixels: Pixels of the masks' images, [D] int64; -1 where the text is empty or no run lengths.
    """

    inside: IntArray
    pixels: IntArray


def areas_of(texts: Sequence[str]) -> Areas:
    """Adds up the runs of masks.

    Args:
        texts: D ``counts`` of compressed RLEs.
    """
    inside, pixels = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    for start in range(0, len(texts), _CHUNK):
        part = slice(start, start + _CHUNK)
        inside[part], pixels[part] = _areas(decode_runs(_as_bytes(texts[part])))
    return Areas(inside, pixels)


def _areas(decoded: DecodedRuns) -> Areas:
    """Every second run of all masks lies inside or outside, depending on where its mask begins."""
    starts, ends = decoded.bounds[:-1], decoded.bounds[1:]
    sums = []
    for half in (0, 1):
        running = _running_sums(decoded.lengths[half::2])
        sums.append(running[(ends + 1 - half) // 2] - running[(starts + 1 - half) // 2])
    pixels = sums[0] + sums[1]
    pixels[starts == ends] = -1
    return Areas(np.where(starts % 2 == 0, sums[1], sums[0]), pixels)


def fills(counts: str, pixels: int) -> bool:
    """Whether compressed run lengths can be read and add up to so many pixels.

    Ask before pycocotools decodes a text that a user gave: it reads and writes beyond the end of one that breaks off.
    """
    return int(areas_of([counts]).pixels[0]) == pixels


def _as_bytes(texts: Sequence[str]) -> list[bytes]:
    if all(map(str.isascii, texts)):
        return list(map(str.encode, texts))
    return [text.encode() if text.isascii() else _FOREIGN for text in texts]


def _running_sums(values: IntArray) -> IntArray:
    """What stands before each value, and what all add up to; one more than there are values."""
    sums = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


class Runs(NamedTuple):
    """Pixels of many masks, counted down the columns of each.

    Attributes:
        start: First pixel of each run, [T] int64.
        end: The pixel after its last, [T] int64; beyond ``start``.
        bounds: Where the runs of each mask begin, and the last ones end, [D + 1] int64.
    """

    start: IntArray
    end: IntArray
    bounds: IntArray


def runs_of(texts: Sequence[bytes]) -> Runs:
    """Where the ones of masks are.

    Args:
        texts: D ``counts`` of compressed RLEs, as COCO's own encoder writes them; they are not checked.
    """
    lengths, bounds, _ = decode_runs(texts)
    counts = np.diff(bounds)
    done = _running_sums(lengths)
    end = done[1:] - np.repeat(done[bounds[:-1]], counts)
    place = np.arange(len(lengths)) - np.repeat(bounds[:-1], counts)
    of_ones = (place % 2 == 1) & (lengths > 0)
    before = _running_sums(of_ones)
    return Runs((end - lengths)[of_ones], end[of_ones], before[bounds])
