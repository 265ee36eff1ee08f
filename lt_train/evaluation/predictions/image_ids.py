"""Which image a prediction means: by the ids of the annotation file, or by the names of its image files.

Programs write numbers where a file has text, text where it has numbers, and names of files (ultralytics) instead of
ids. All predictions of a file are read in one way; whatever is not an id as the file has it is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from lt_data.arrays import sorted_unique
from lt_train.evaluation.predictions.columns import Detections, Problem
from lt_train.evaluation.truth.columns import GroundTruth

Key = int | str

# digits of a number that 64 bits hold
_MOST_DIGITS: Final = 18


class MatchedImages(NamedTuple):
    """The number of each image (``None`` where there is none), remarks, what is doubtful, and unknown images."""

    numbers: list[int | None]
    notes: list[str]
    warnings: list[str]
    problems: list[Problem]


class _Readings(NamedTuple):
    """Images of those keys that can be read as an id, and of those that can be read as the name of a file."""

    ids: Mapping[Key, int]
    names: Mapping[Key, int]


def match_images(given: Sequence[float | str], truth: GroundTruth, source: str, total: int) -> MatchedImages:
    """Finds the image of each prediction.

    Args:
        given: Numbers or texts of the predictions.
        truth: The annotations that they belong to.
        source: What to call the predictions.
        total: Predictions in all.
    """
    keys = [value if isinstance(value, str) else int(value) for value in given]
    uses = Counter(keys)
    both = _readings(uses, truth)
    by_name, found = _chosen(uses, both, truth)
    lost = [key for key in keys if key not in found]
    return MatchedImages(
        [found.get(key) for key in keys],
        [
            *_name_note(sum(uses[key] for key in by_name), truth, source, total),
            *_kind_note({key: uses[key] for key in found.keys() - by_name}, truth, source, total),
        ],
        _doubt(uses, both, found, truth, source),
        _unknown(lost, truth, source, total),
    )


def match_numbers(found: Detections, truth: GroundTruth, source: str) -> tuple[Detections, list[str], list[str]]:
    """Takes image ids for names of files if some are no ids, but all are names: ``000139.jpg`` is 139 then.

    Args:
        found: Detections whose image ids are numbers.
        truth: The annotations, whose ids are numbers too.
        source: What to call the predictions.

    Returns:
        The detections with the ids of ``truth``, a line that says so, and one where ids and names contradict.
    """
    if not len(found) or truth.image_names is not None:
        return found, [], []
    distinct: list[Key] = list(sorted_unique(found.images).tolist())
    both = _readings(distinct, truth)
    by_name, numbers = _chosen(distinct, both, truth)
    if by_name:
        images = np.array([numbers[i] for i in found.images.tolist()], np.int64)
        return replace(found, images=images), _name_note(len(found), truth, source, len(found)), []
    if not _contradict(both, distinct):
        return found, [], []
    return found, [], _doubt(Counter(found.images.tolist()), both, numbers, truth, source)


def _readings(keys: Iterable[Key], truth: GroundTruth) -> _Readings:
    ids = _ids(truth)
    files = _by_file_name(truth)
    numbers = _by_number(files)
    as_ids, as_names = {}, {}
    for key in keys:
        number = ids.get(_unquoted(key, truth))
        name = files.get(key) if isinstance(key, str) else numbers.get(key)
        if number is not None:
            as_ids[key] = number
        if name is not None:
            as_names[key] = name
    return _Readings(as_ids, as_names)


def _chosen(keys: Iterable[Key], both: _Readings, truth: GroundTruth) -> tuple[set[Key], dict[Key, int]]:
    """The keys that are read as names, and the image of each key that has one.

    The reading that holds for all keys is right: of two the ids, but for texts beside ids that are numbers, which are
    names first. Where none holds for all, each key is what it can be.
    """
    keys = list(keys)
    texts = truth.image_names is None and any(isinstance(key, str) for key in keys)
    order = (both.names, both.ids) if texts else (both.ids, both.names)
    whole = next((reading for reading in order if all(key in reading for key in keys)), None)
    if whole is not None:
        return set(keys) if whole is both.names else set(), dict(whole)
    first, second = order
    found = {key: first.get(key, second.get(key)) for key in keys}
    if truth.image_names is None:
        # where a text is the name of a file, a number is one too: ultralytics writes 7 for 7.jpg
        all_names = any(isinstance(key, str) for key in both.names)
        # whether an id is known is looked at later
        found |= {key: both.names.get(key) if all_names else key for key in keys if isinstance(key, int)}
    known = {key: number for key, number in found.items() if number is not None}
    named = {key for key in known if key in both.names and (first is both.names or key not in both.ids)}
    return named, known


def _ids(truth: GroundTruth) -> dict[Key, int]:
    """Images by their ids as the file has them, and by the number that a text writes, if no other text writes it."""
    numbers: list[int] = truth.image_ids.tolist()
    if truth.image_names is None:
        return dict(zip(numbers, numbers, strict=True))
    own: dict[Key, int] = dict(zip(truth.image_names, numbers, strict=True))
    return own | _by_number(own)


def _unquoted(key: Key, truth: GroundTruth) -> Key:
    """A number for a text that writes one, if ids are numbers."""
    return int(key) if isinstance(key, str) and truth.image_names is None and _is_number(key) else key


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _by_file_name(truth: GroundTruth) -> dict[Key, int]:
    """Images by file name: the whole, without folders, without its ending; names that two images share are left out."""
    keys: list[set[str]] = []
    for name in truth.file_names:
        last = name.replace("\\", "/").rpartition("/")[2]
        dot = last.rfind(".")
        keys.append({name, last, last[:dot] if dot > 0 else last} - {""})
    shared = Counter(key for of_image in keys for key in of_image)
    pairs = zip(keys, truth.image_ids.tolist(), strict=True)
    return {key: number for of_image, number in pairs for key in of_image if shared[key] == 1}


def _by_number(by_text: Mapping[Key, int]) -> dict[Key, int]:
    """Images whose text is a number, by that number; numbers that two texts write are left out."""
    pairs = [(int(key), number) for key, number in by_text.items() if isinstance(key, str) and _is_number(key)]
    shared = Counter(key for key, _ in pairs)
    return {key: number for key, number in pairs if shared[key] == 1}


def _contradict(both: _Readings, keys: Iterable[Key]) -> list[Key]:
    """Keys that mean one image as ids and another as names, if all keys could be either."""
    keys = list(keys)
    if not all(key in both.ids and key in both.names for key in keys):
        return []
    return [key for key in keys if both.ids[key] != both.names[key]]


def _doubt(
    uses: Mapping[Key, int], both: _Readings, found: Mapping[Key, int], truth: GroundTruth, source: str
) -> list[str]:
    other = _contradict(both, uses)
    if not other:
        return []
    count, total = sum(uses[key] for key in other), sum(uses.values())
    taken, meant = ("ids", "names of files") if found[other[0]] == both.ids[other[0]] else ("names of files", "ids")
    return [
        f"{source}: image_id of {count:,} of {total:,} predictions is the id of one image of {truth.source} and the "
        f"file name of another ({', '.join(map(repr, other[:3]))}); they are taken for {taken}. If they are {meant}, "
        f"write the ids as {truth.source} has them"
    ]


def _name_note(count: int, truth: GroundTruth, source: str, total: int) -> list[str]:
    if not count:
        return []
    return [
        f"{source}: {count:,} of {total:,} predictions have the name of an image file for image_id, as ultralytics "
        f"writes them; they are matched with file_name in {truth.source}"
    ]


def _kind_note(uses: Mapping[Key, int], truth: GroundTruth, source: str, total: int) -> list[str]:
    """A line on numbers that the annotations have as text, or the other way round."""
    written, there = ("text", "numbers") if truth.image_names is None else ("numbers", "text")
    count = sum(n for key, n in uses.items() if isinstance(key, str) == (truth.image_names is None))
    if not count:
        return []
    return [
        f"{source}: {count:,} of {total:,} predictions have {written} for image_id where {truth.source} has {there}; "
        "they are matched by the number"
    ]


def _unknown(lost: Sequence[Key], truth: GroundTruth, source: str, total: int) -> list[Problem]:
    if not lost:
        return []
    shown = ", ".join(map(repr, list(dict.fromkeys(lost))[:3]))
    ids = truth.image_names or truth.image_ids.tolist()
    example = f" ({'text' if truth.image_names else 'a number'} such as {ids[0]!r})" if ids else ""
    line = (
        f"{source}: {len(lost):,} of {total:,} predictions name an image that {truth.source} does not list: image_id "
        f"({shown}); write its id as {truth.source} has it{example}, or its file name without the ending"
    )
    return [Problem("image", len(lost), line)]
