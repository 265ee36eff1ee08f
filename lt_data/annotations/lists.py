"""Ids, references, names and header fields of the three lists of an annotation file.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PureWindowsPath
from typing import Final

import numpy as np

from lt_data.annotations.findings import FindingList, shown
from lt_data.annotations.lenient import NO_ID, NO_SIDE, AnnotationColumns, CategoryColumns, ImageColumns
from lt_data.arrays import BoolArray, IntArray
from lt_data.groups import FREQUENCY_NAMES, frequency_of

# px; beyond it no program addresses pixels
LARGEST_SIDE: Final = 2**31 - 1


@dataclass(frozen=True)
class FileColumns:
    """The three lists of a file.

    ``missing`` names those that the file does not have, ``image_names`` are the texts that image ids 1, 2, ... stand
    for, if they are text.
    """

    images: ImageColumns
    annotations: AnnotationColumns
    categories: CategoryColumns
    missing: frozenset[str]
    image_names: tuple[str, ...] = ()

    def annotation(self, row: int) -> str:
        """What to call an annotation."""
        return _record("annotations", row, self.annotations.ids)

    def image(self, row: int) -> str:
        """What to call an image."""
        return f"images[{row}]" + (f" (id {self.image_id(i)})" if (i := int(self.images.ids[row])) != NO_ID else "")

    def image_id(self, number: int) -> str:
        """An image id as the file has it."""
        return shown(self.image_names[number - 1]) if self.image_names else str(number)

    def category(self, row: int) -> str:
        """What to call a category."""
        name = self.categories.names[row]
        return _record("categories", row, self.categories.ids) + (f" {shown(name)}" if name else "")


def _record(key: str, row: int, ids: IntArray) -> str:
    known = f" (id {ids[row]})" if ids[row] != NO_ID else ""
    return f"{key}[{row}]{known}"


def check_lists(file: FileColumns, log: FindingList) -> None:
    """Everything that needs no pixel coordinates."""
    differing = _differing_categories(file.categories)
    _check_ids("images", file.images.ids, lambda _: "LT101", log, file.image_id)
    _check_ids("annotations", file.annotations.ids, lambda _: "LT102", log)
    _check_ids("categories", file.categories.ids, lambda i: "LT103" if i in differing else "LT111", log)
    _check_references(file, log)
    _check_images(file, log)
    _check_categories(file, log)
    _check_use(file, log)


def _differing_categories(categories: CategoryColumns) -> set[int]:
    """Ids under which there are records that differ; VIA repeats equal ones."""
    first: dict[int, tuple[object, ...]] = {}
    differing = set()
    records = zip(
        *(categories.names, categories.supercategories, categories.frequencies),
        *(categories.image_counts.tolist(), categories.instance_counts.tolist()),
        strict=True,
    )
    for number, record in zip(categories.ids.tolist(), records, strict=True):
        if first.setdefault(number, record) != record:
            differing.add(number)
    return differing


def _check_ids(
    key: str, ids: IntArray, code_of: Callable[[int], str], log: FindingList, text: Callable[[int], str] = str
) -> None:
    """Ids that occur more than once, by the code that each has then; 0 and gaps."""
    rows = np.flatnonzero(ids != NO_ID)
    known, first, counts = np.unique(ids[rows], return_index=True, return_counts=True)

    def places(row: int) -> str:
        equal = np.flatnonzero(ids == ids[row])
        more = ", ..." if len(equal) > 3 else ""
        return f"id {text(int(ids[row]))}: {', '.join(f'{key}[{i}]' for i in equal[:3])}{more}"

    for row in np.sort(rows[first[counts > 1]]).tolist():
        log.add_many(code_of(int(ids[row])), [row], places)
    if not len(known):
        return
    if known[0] == 0:
        log.add("LT108" if key == "annotations" else "LT106", f"{key}[{rows[first[0]]}] (id 0)")
    unused = int(known[-1]) - int(known[0]) + 1 - len(known)
    # one that cannot be used would fill a gap
    if unused and NO_ID not in ids:
        log.add("LT107", f"{key}: {unused:,} of {known[0]}..{known[-1]} are not used")


def _check_references(file: FileColumns, log: FindingList) -> None:
    """Only against lists that are there and whose ids are all usable; an unusable id has its own finding."""
    lists: list[tuple[str, str, IntArray, str, IntArray, Callable[[int], str]]] = [
        ("LT104", "image_id", file.annotations.image_ids, "images", file.images.ids, file.image_id),
        ("LT105", "category_id", file.annotations.category_ids, "categories", file.categories.ids, str),
    ]
    for code, key, used, member, known, text in lists:
        if member not in file.missing and NO_ID not in known:
            lost = np.flatnonzero((used != NO_ID) & ~np.isin(used, known))
            if code == "LT105" and (shift := shift_of(used[used != NO_ID], known)):
                listed, given = (f"{ids.min()}..{ids.max()}" for ids in (known, used[used != NO_ID]))
                log.add("LT110", f"listed are {listed}, used {given}: {shift:+d} on every category_id would fit")
                continue
            log.add_many(code, lost, partial(_reference, file, key, used, text))


def _reference(file: FileColumns, key: str, used: IntArray, text: Callable[[int], str], row: int) -> str:
    return f"{file.annotation(row)}: {key} {text(int(used[row]))}"


def shift_of(used: IntArray, listed: IntArray) -> int:
    """The -1 or +1 that would make listed ids of all used ones, if some are not listed as they are; else 0.

    Args:
        used: Category ids of annotations, at least two different ones if there is to be an answer.
        listed: Ids of the categories.
    """
    return next(iter(moves_that_fit(used, listed)), 0)


def moves_that_fit(used: IntArray, listed: IntArray) -> list[int]:
    """The same for those who write it: both of -1 and +1 where either would do."""
    distinct = np.unique(used)
    if len(distinct) < 2 or np.isin(distinct, listed).all():
        return []
    return [shift for shift in (-1, 1) if np.isin(distinct + shift, listed).all()]


def leaves_folder(name: str) -> bool:
    """Whether a file name points out of the folder that it is relative to, on any system."""
    pure = PureWindowsPath(name)
    return bool(pure.anchor) or ".." in pure.parts


def _check_images(file: FileColumns, log: FindingList) -> None:
    names = file.images.names
    by_name: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        by_name[name].append(row)
    log.add_many("LT203", by_name.pop("", []), file.image)
    log.add_many(
        "LT201",
        [rows for rows in by_name.values() if len(rows) > 1],
        lambda rows: f"{shown(names[rows[0]])}: {', '.join(file.image(row) for row in rows[:3])}",
    )
    leaving = [rows[0] for name, rows in by_name.items() if leaves_folder(name)]
    log.add_many("LT202", leaving, lambda row: f"{file.image(row)}: {shown(names[row])}")
    sizes = file.images.sizes
    unusable = ((sizes <= 0) | (sizes > LARGEST_SIDE)).any(1) & (sizes != NO_SIDE).all(1)
    without = np.flatnonzero(unusable)
    log.add_many("LT204", without, lambda row: f"{file.image(row)}: width {sizes[row, 0]}, height {sizes[row, 1]}")


def _check_categories(file: FileColumns, log: FindingList) -> None:
    categories = file.categories
    if not len(categories.ids) and "categories" not in file.missing:
        log.add("LT005", "categories: []")
    by_name: dict[str, list[int]] = defaultdict(list)
    first: dict[tuple[int, str], int] = {}
    for row, (number, name) in enumerate(zip(categories.ids.tolist(), categories.names, strict=True)):
        # a record that is repeated has a finding of its own
        if number == NO_ID or first.setdefault((number, name), row) == row:
            by_name[name].append(row)
    log.add_many("LT206", by_name.pop("", []), file.category)
    log.add_many(
        "LT205",
        # records of one id have their own finding
        [rows for rows in by_name.values() if len(rows) > 1 and len(set(categories.ids[rows].tolist())) > 1],
        lambda rows: ", ".join(file.category(row) for row in rows[:3]),
    )


def _check_use(file: FileColumns, log: FindingList) -> None:
    """What is used how often, and whether the header fields of LVIS say the same.

    Nothing is said of what follows only from ids that cannot be used, which have their own finding.
    """
    annotations, crowd = file.annotations, file.annotations.crowd
    log.add_many("LT209", np.flatnonzero(crowd), file.annotation)
    _check_stated_frequencies(file, log)
    if "annotations" in file.missing:
        return
    if NO_ID not in annotations.image_ids:
        unused = (file.images.ids != NO_ID) & ~np.isin(file.images.ids, annotations.image_ids)
        log.add_many("LT208", np.flatnonzero(unused), file.image)
    used = annotations.category_ids
    if NO_ID in used or NO_ID in annotations.image_ids or shift_of(used, file.categories.ids):
        return
    instances, images = counts_of(file)
    # of a file without any object it follows for all of them
    if not crowd.all():
        log.add_many("LT207", np.flatnonzero((instances == 0) & (file.categories.ids != NO_ID)), partial(_unused, file))
    _check_header(file, instances, images, log)
    _check_frequencies(file, images, log)


def _unused(file: FileColumns, row: int) -> str:
    """A category that no object has, and whether that is because it only groups the others."""
    root = ": the supercategory of all others, as Roboflow writes it" if is_root(file.categories, row) else ""
    return file.category(row) + root


def is_root(categories: CategoryColumns, row: int) -> bool:
    """Whether a category is the supercategory of all others."""
    others = [parent for i, parent in enumerate(categories.supercategories) if i != row]
    return bool(others) and all(parent == categories.names[row] for parent in others)


def counts_of(file: FileColumns) -> tuple[IntArray, IntArray]:
    """Non-crowd instances and images of every category, in file order, shape [C] each."""
    kept = ~file.annotations.crowd
    pairs = np.stack([file.annotations.category_ids[kept], file.annotations.image_ids[kept]], 1)
    instances = _occurrences(file.categories.ids, pairs[:, 0])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs = pairs[order]
    new: BoolArray = np.ones(len(pairs), bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(1)
    return instances, _occurrences(file.categories.ids, pairs[new, 0])


def _occurrences(values: IntArray, among: IntArray) -> IntArray:
    """How often each value occurs, shape of ``values``."""
    among = np.sort(among)
    return np.searchsorted(among, values, "right") - np.searchsorted(among, values, "left")


def _check_header(file: FileColumns, instances: IntArray, images: IntArray, log: FindingList) -> None:
    stated_instances, stated_images = file.categories.instance_counts, file.categories.image_counts
    wrong_instances = (stated_instances != NO_ID) & (stated_instances != instances)
    wrong_images = (stated_images != NO_ID) & (stated_images != images)

    def describe(row: int) -> str:
        parts = []
        if wrong_instances[row]:
            parts.append(f"instance_count {stated_instances[row]}, counted {instances[row]}")
        if wrong_images[row]:
            parts.append(f"image_count {stated_images[row]}, counted {images[row]}")
        return f"{file.category(row)}: {'; '.join(parts)}"

    log.add_many("LT210", np.flatnonzero(wrong_instances | wrong_images), describe)


def _check_stated_frequencies(file: FileColumns, log: FindingList) -> None:
    stated: Sequence[str | None] = file.categories.frequencies
    if all(frequency is None for frequency in stated):
        return
    unknown = [row for row, frequency in enumerate(stated) if frequency not in FREQUENCY_NAMES]
    log.add_many("LT212", unknown, lambda row: f"{file.category(row)}: frequency {shown(stated[row])}")


def _check_frequencies(file: FileColumns, images: IntArray, log: FindingList) -> None:
    """A validation file of LVIS states the frequencies of the training file: to differ is no mistake by itself."""
    stated: Sequence[str | None] = file.categories.frequencies
    rows = range(len(stated))
    counted = [frequency_of(int(n)) for n in images]
    other = [row for row in rows if stated[row] in FREQUENCY_NAMES and stated[row] != counted[row]]
    log.add_many(
        "LT211",
        other,
        lambda row: f"{file.category(row)}: frequency {stated[row]}, by {images[row]} images {counted[row]}",
    )
