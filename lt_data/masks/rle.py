"""Areas and runs of compressed run-length masks, and whether they can be read at all, many at a time.

COCO writes run lengths as text: a number is a row of characters with five bits each (lowest first, 32 marks that more
follow, the last one's 16 the sign), and from the fourth run on it is the difference to the run before the last.
Evaluators read nonsense without a word; here it is found.

Shapes: D masks, n numbers in a chunk of them.
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
_LARGE: Final = 2**62


class Areas(NamedTuple):
    """What run lengths add up to.

    Attributes:
        inside: Pixels of the masks, [D] int64.
        pixels: Pixels of the masks' images, [D] int64; -1 where the text is no run lengths.
    """

    inside: IntArray
    pixels: IntArray


def areas_of(texts: Sequence[str]) -> Areas:
    """Add up the runs of masks.

    Args:
        texts: D ``counts`` of compressed RLEs.
    """
    inside, pixels = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    for start in range(0, len(texts), _CHUNK):
        part = slice(start, start + _CHUNK)
        inside[part], pixels[part] = _areas(texts[part])
    return Areas(inside, pixels)


class Runs(NamedTuple):
    """Pixels of many masks, counted down the columns of each.

    Attributes:
        start: First pixel of each run, [T] int64.
        end: The pixel behind its last, [T] int64; beyond ``start``.
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
    code = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(_FIRST)
    ends = np.flatnonzero(code < _MORE)
    numbers = _numbers(code, ends)
    characters = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=characters[1:])
    first = np.searchsorted(ends, characters)
    counts = np.diff(first)
    lengths = _lengths(numbers, first[:-1], counts)
    done = np.concatenate([[0], np.cumsum(lengths)])
    end = done[1:] - np.repeat(done[first[:-1]], counts)
    place = np.arange(len(lengths)) - np.repeat(first[:-1], counts)
    of_ones = (place % 2 == 1) & (lengths > 0)
    before = np.concatenate([[0], np.cumsum(of_ones)])
    return Runs((end - lengths)[of_ones], end[of_ones], before[first])


def _lengths(numbers: IntArray, first: IntArray, counts: IntArray) -> IntArray:
    """The runs that the numbers of masks stand for: every second one adds to the one two before, but for the first."""
    some = counts > 0
    first, counts = first[some], counts[some]
    lengths = numbers.copy()
    lengths[first] = 0
    for half in (0, 1):
        running = np.concatenate([[0], np.cumsum(lengths[half::2])])
        start, end = (first + 1 - half) // 2, (first + counts + 1 - half) // 2
        lengths[half::2] = running[1:] - np.repeat(running[start], end - start)
    lengths[first] = numbers[first]
    return lengths


def _areas(texts: Sequence[str]) -> Areas:
    readable = [text if text.isascii() else "" for text in texts]
    code, bounds = _codes(readable)
    unreadable = _unreadable(code, bounds)
    if unreadable.any():
        readable = ["" if bad else text for bad, text in zip(unreadable.tolist(), readable, strict=True)]
        code, bounds = _codes(readable)
    inside, pixels = np.zeros(len(texts), np.int64), np.full(len(texts), -1)
    some = np.flatnonzero(np.diff(bounds))
    if len(some):
        ends = np.flatnonzero(code < _MORE)
        first = np.searchsorted(ends, bounds[some])
        inside[some], pixels[some] = _sums_of_runs(_numbers(code, ends), first)
    return Areas(inside, pixels)


def _codes(texts: Sequence[str]) -> tuple[Codes, IntArray]:
    """Six bits a character (more for one that may not be there), and where each text begins and the last ends."""
    bounds = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=bounds[1:])
    return np.frombuffer("".join(texts).encode("ascii"), np.uint8) - np.uint8(_FIRST), bounds


def _unreadable(code: Codes, bounds: IntArray) -> BoolArray:
    """Texts with a foreign character, without an end, or with a number that no run has, [D]."""
    unreadable = np.zeros(len(bounds) - 1, bool)
    some = np.diff(bounds) > 0
    unreadable[some] = code[bounds[1:][some] - 1] >= _MORE
    more = code >= _MORE
    # six that say that more follow: 30 bits and no end, no run is so long
    pairs = more[:-1] & more[1:]
    long = pairs[:-4] & pairs[2:-2] & pairs[4:]
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


def _sums_of_runs(numbers: IntArray, first: IntArray) -> tuple[IntArray, IntArray]:
    """Pixels inside and in all (-1 if a run is negative) of masks whose numbers begin at ``first``, [D] each.

    Every second number adds to the one two before it, but for the first of a mask, which stands alone. So the running
    sums of every second number over all masks are the runs, once what came before the mask is taken off.
    """
    alone = numbers[first]
    numbers[first] = 0
    ends = np.append(first[1:], len(numbers))
    sums, lowest = np.empty((2, len(first)), np.int64), alone.copy()
    for half in (0, 1):
        running = np.cumsum(numbers[half::2])
        start, end = (first + 1 - half) // 2, (ends + 1 - half) // 2
        base = np.where(start > 0, running[start - 1], 0) if len(running) else np.zeros_like(start)
        there = end > start
        # the last mask may have no number in this half: its place is behind the end
        summed = np.add.reduceat(np.append(running, 0), start) - base * (end - start)
        least = np.minimum.reduceat(np.append(running, _LARGE), start) - base
        sums[half] = np.where(there, summed, 0)
        lowest = np.where(there, np.minimum(lowest, least), lowest)
    even = np.where(first % 2 == 0, sums[0], sums[1])
    inside = sums.sum(axis=0) - even
    return inside, np.where(lowest < 0, -1, even + inside + alone)


# a run of more than 35 bits is none that an image could have
_MOST_CHARACTERS: Final = 7


def unpack_runs(texts: Sequence[bytes]) -> tuple[IntArray, IntArray, BoolArray]:
    """The numbers in compressed COCO run lengths.

    Each number is written in groups of five bits, lowest first, as characters from 48 on; bit 32 says that more follow
    and bit 16 of the last is the sign. From the fourth on it is the difference to the number two places before.

    Args:
        texts: K strings.

    Returns:
        The runs of all sound strings [R], how many each sound string has, and which of the K strings are broken.

    Source: ``rleToString`` of the COCO API (maskApi.c), which defines the form.
    """
    sizes = np.array([len(text) for text in texts], np.int64)
    # an open number at the end would run into the next string
    broken = np.array([bool(text) and bool((text[-1] - 48) & 32) for text in texts])
    kept = [text for text, bad in zip(texts, broken.tolist(), strict=True) if not bad]
    characters = np.frombuffer(b"".join(kept), np.uint8).astype(np.int64) - 48
    owner = np.repeat(np.flatnonzero(~broken), sizes[~broken])
    ends = np.flatnonzero((characters & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    widths = ends - starts + 1
    place = np.arange(len(characters)) - np.repeat(starts, widths)
    bits = (characters & 31) << (5 * np.minimum(place, _MOST_CHARACTERS))
    values = np.add.reduceat(bits, starts) if len(ends) else bits
    values = values - np.where(characters[ends] & 16, 1 << (5 * np.minimum(widths, _MOST_CHARACTERS)), 0)
    broken[owner[(characters < 0) | (characters > 63) | (place >= _MOST_CHARACTERS)]] = True
    lengths = np.bincount(owner[ends], minlength=len(texts))
    runs = _undo_differences(values, lengths)
    owner_of_run = np.repeat(np.arange(len(texts)), lengths)
    broken[owner_of_run[runs < 0]] = True
    return runs[~broken[owner_of_run]], lengths[~broken], broken


def fills(counts: str, pixels: int) -> bool:
    """Whether compressed run lengths can be read and add up to so many pixels.

    Ask before pycocotools decodes a text that a user gave: it reads and writes behind the end of one that breaks off.
    """
    if not counts.isascii():
        return False
    runs, _, broken = unpack_runs([counts.encode("ascii")])
    return not broken[0] and int(runs.sum()) == pixels


def _undo_differences(values: IntArray, lengths: IntArray) -> IntArray:
    """Each number plus those two, four, ... places before it in its string, the first left out."""
    start = np.cumsum(lengths) - lengths
    place = np.arange(len(values)) - np.repeat(start, lengths)
    result = values.copy()
    for chosen in (place % 2 == 1, (place % 2 == 0) & (place > 0)):
        sums = np.cumsum(np.where(chosen, values, 0))
        before = np.concatenate([[0], sums])[start]
        result[chosen] = (sums - np.repeat(before, lengths))[chosen]
    return result
