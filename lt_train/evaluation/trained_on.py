"""The counts of a training set beside the annotations that are measured: of the same classes, and of other images.

Shapes: C categories of the training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.arrays import BoolArray, IntArray, examples
from lt_data.checks.twins import name_key
from lt_data.counts.categories import CategoryCounts, count_categories
from lt_data.counts.training import load_train_counts
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError

Match = Literal["ids", "names"]

_SHOWN = 3
# share of the categories that may have other names: a renamed class is no other data set
_FEW_NAMES: Final = 0.05


def match_counts(
    counts: CategoryCounts, file: AnnotationFile, *, source: str, match: Match | None = None
) -> tuple[CategoryCounts, tuple[str, ...]]:
    """Counts of a training set by the category ids of the annotations that are measured.

    Args:
        counts: Of the training set.
        file: What is measured.
        source: Where the counts come from, for messages.
        match: ``ids``: a category is that of the same id; ``names``: it is that of the same name, whatever its id.
            Case, spaces, ``_`` and ``-`` are no difference. If not given, ids whose names are the same, but for a few.

    Returns:
        The counts, and lines if names differ, ids look like labels, or categories of the file have no counts.

    Raises:
        DataError: No category is shared; unless ``ids`` is given, names differ; by ``names``, a name occurs twice.
    """
    if match is not None and match not in get_args(Match):
        raise DataError(f"--match: got '{match}'; allowed are {', '.join(get_args(Match))}")
    if match == "names":
        counts, warnings = _by_name(counts, file, source), []
    else:
        _refuse_other_ids(counts, file, source)
        warnings = [*_other_names(counts, file, source, agreed=match is not None), *_labels(counts, file, source)]
    without = np.flatnonzero(~np.isin(file.categories.ids, counts.category_ids))
    if not len(without):
        return counts, tuple(warnings)
    names = ", ".join(repr(file.categories.names[row]) for row in without[:_SHOWN].tolist())
    more = ", ..." if len(without) > _SHOWN else ""
    return counts, (
        *warnings,
        f"{len(without):,} of {len(file.categories.ids):,} categories of {file.path.name} are not in {source} "
        f"({names}{more}): they are in no group",
    )


def _refuse_other_ids(counts: CategoryCounts, file: AnnotationFile, source: str) -> None:
    """Refuses counts that would leave every group empty."""
    ours, theirs = file.categories.ids, counts.category_ids
    if not np.isin(ours, theirs).any():
        shown = [", ".join(map(str, ids[:3].tolist())) for ids in (theirs, ours)]
        raise DataError(
            f"--train-counts {source}: has none of the category ids of {file.path} ({shown[0]}, ... there; {shown[1]}, "
            "... here), so they may be labels or ids of another data set; write the ids of the annotation file, or "
            "match by --match names"
        )


def _shared_names(counts: CategoryCounts, file: AnnotationFile) -> list[tuple[int, str, str]]:
    """Id, name there and name here of the categories that have a name on both sides."""
    here = dict(_named(file.categories.ids, file.categories.names))
    return [(i, name, here[i]) for i, name in _named(counts.category_ids, counts.names) if i in here]


def _other_names(counts: CategoryCounts, file: AnnotationFile, source: str, *, agreed: bool) -> list[str]:
    """Refuses counts of other classes that have the same ids; a line where few differ, or the ids were asked for."""
    shared = _shared_names(counts, file)
    other = [row for row in shared if name_key(row[1]) != name_key(row[2])]
    if not other:
        return []
    shown = "; ".join(f"id {i}: {theirs!r} there, {ours!r} here" for i, theirs, ours in other[:_SHOWN])
    line = (
        f"--train-counts {source}: {len(other):,} of {len(shared):,} categories have other names than in {file.path} "
        f"({shown})"
    )
    if agreed or len(other) <= _FEW_NAMES * len(shared):
        return [f"{line}; they are matched by their ids"]
    raise DataError(
        f"{line}, so the ids are of other classes; give counts of the same categories, match by --match names, or say "
        "--match ids if they were only renamed"
    )


def _labels(counts: CategoryCounts, file: AnnotationFile, source: str) -> list[str]:
    """A line if ids without names are numbered through and some are none of the file's: labels of a model are so."""
    ids = np.sort(counts.category_ids)
    extra = ids[~np.isin(ids, file.categories.ids)]
    numbered = ids[0] in (0, 1) and ids[-1] - ids[0] == len(ids) - 1
    if not len(extra) or not numbered or _shared_names(counts, file):
        return []
    return [
        f"--train-counts {source}: has {len(extra):,} ids that {file.path.name} lacks ({examples(extra)}), and its ids "
        f"are {ids[0]}..{ids[-1]}: they look like labels, so that counts are those of other classes; write the ids of "
        "the annotation file"
    ]


def load_training(path: Path) -> tuple[CategoryCounts, AnnotationFile | None]:
    """Counts of a training set, and its annotations unless it is a CSV.

    Args:
        path: A dataset directory, an annotation file, or a CSV of counts.

    Raises:
        DataError: The path cannot be read; see :func:`lt_data.counts.training.load_train_counts`.
    """
    if path.suffix.lower() == ".csv":
        return load_train_counts(path), None
    file = read_annotations(annotations_path(path), only_matched=True)
    return count_categories(file), file


def trained_images_note(trained: AnnotationFile | None, file: AnnotationFile, source: str) -> tuple[str, ...]:
    """A line if what is measured was trained on: the file itself, a copy, or images with the same id, name and size.

    Args:
        trained: The annotations that were trained on, if they are known.
        file: What is measured.
        source: What to call the training set.
    """
    if trained is None:
        return ()
    if len(trained.data) == len(file.data) and trained.sha256 == file.sha256:
        line = (
            f"--train-counts {source} is the file that is measured, or a copy: it was trained on, or its counts are not"
        )
        return (f"{line} those of the training set",)
    known = _images(trained)
    shared = [name for image in _images(file) if image in known and (name := image[1])]
    if not shared:
        return ()
    return (
        f"--train-counts {source}: {len(shared):,} of {len(file.image_ids):,} images of {file.path.name} have id, name "
        f"and size of images trained on ({shared[0]!r}, ...); if they are the same, figures of them say nothing about "
        "new images",
    )


def _images(file: AnnotationFile) -> dict[tuple[int | str, str, int, int], None]:
    """Id, file name without folders, width and height of each image, in file order."""
    names = (name.replace("\\", "/").rpartition("/")[2] for name in file.file_names)
    sizes = (tuple(size) for size in file.image_sizes.tolist())
    return dict.fromkeys((i, name, *size) for i, name, size in zip(file.written_image_ids(), names, sizes, strict=True))


def _named(ids: IntArray, names: Sequence[str]) -> list[tuple[int, str]]:
    """Ids and names of the categories that have a name: one without is called by its id."""
    return [(i, name) for i, name in zip(ids.tolist(), names, strict=True) if name != str(i)]


def _by_name(counts: CategoryCounts, file: AnnotationFile, source: str) -> CategoryCounts:
    """The counts under the ids that their names have in the file; other categories are left out."""
    ids = _ids_by_name(file.categories.ids, file.categories.names, str(file.path))
    theirs = _ids_by_name(counts.category_ids, counts.names, f"--train-counts {source}")
    found = np.array([ids.get(name_key(name), -1) for name in counts.names], np.int64)
    kept: BoolArray = np.array([name_key(name) in ids for name in counts.names], bool)
    if not kept.any():
        raise DataError(
            f"--train-counts {source}: has none of the {len(ids):,} category names of {file.path} "
            f"({', '.join(map(repr, list(theirs)[:_SHOWN])) or 'no names'} there); write the annotation file's names"
        )
    order = np.flatnonzero(kept)[np.argsort(found[kept], kind="stable")]
    return replace(
        counts,
        category_ids=found[order],
        names=tuple(counts.names[row] for row in order.tolist()),
        instances=counts.instances[order],
        images=counts.images[order],
        frequencies=tuple(counts.frequencies[row] for row in order.tolist()),
    )


def _ids_by_name(ids: IntArray, names: Sequence[str], where: str) -> dict[str, int]:
    named = _named(ids, names)
    found = {name_key(name): i for i, name in named}
    if len(found) < len(named):
        twice = next(name for i, name in named if found[name_key(name)] != i)
        raise DataError(f"{where}: --match names: {twice!r} is the name of two categories; match by ids")
    return found
