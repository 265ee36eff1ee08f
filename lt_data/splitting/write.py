"""The files of a split, and what ``split.json`` says of them.

Shapes: N images, C categories, K sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from lt_data.annotations.subset import write_subset
from lt_data.arrays import BoolArray
from lt_data.build.lvis_fields import category_edits
from lt_data.counts.categories import CategoryCounts, category_image_pairs, count_categories
from lt_data.dataset.record import Input
from lt_data.files.writing import replacing_directory, sha256_of, write_json
from lt_data.splitting.options import share_of
from lt_data.splitting.output import SPLIT, TRAIN, VAL, check_split_output
from lt_data.splitting.result import (
    METHOD,
    ORDER,
    SPLIT_SCHEMA,
    CategoryRow,
    Lacking,
    Side,
    Split,
    SplitRecord,
    SplitRule,
)

# share of the wanted images by which validation may miss them in silence
_FAR_OFF: Final = 0.25


def write_split(split: Split, out: Path, *, force: bool = False) -> SplitRecord:
    """Writes all files of a split, or none if a step fails.

    Args:
        split: The side of each image.
        out: The folder.
        force: Replace what an earlier split wrote.

    Returns:
        What ``split.json`` holds.

    Raises:
        OutputError: The folder exists, or cannot be written.
    """

    def check() -> None:
        check_split_output(out, force=force)

    whole = count_categories(split.file)
    with replacing_directory(out, force=force, check=check) as work:
        fields: set[str] = set()
        for name, images in _files(split).items():
            path = work / name
            path.parent.mkdir(exist_ok=True)
            fields.update(_write_side(split, whole, images, path))
        digests = {name: sha256_of(work / name) for name in _files(split)}
        record = _record(split, whole, sorted(fields), digests)
        write_json(work / SPLIT, record.content())
    return record


def _files(split: Split) -> dict[str, BoolArray]:
    """Images [N] of each file to write."""
    if split.options.folds is None:
        return {TRAIN: split.images_on(0), VAL: split.images_on(1)}
    return {
        f"{fold}/{name}": split.images_on(k) == (name == VAL)
        for k, fold in enumerate(split.side_names)
        for name in (TRAIN, VAL)
    }


def _write_side(split: Split, whole: CategoryCounts, images: BoolArray, path: Path) -> tuple[str, ...]:
    """Writes a file of a split; returns the fields of categories that state the counts of it, not of the input."""
    file = split.file
    stated = file.categories.states_counts
    fields, edits = category_edits(file, _counts_of(split, whole, images)) if stated else ((), ())
    write_subset(file, path, images=images, annotations=images[file.image_index()], edits=edits)
    return fields


def _counts_of(split: Split, whole: CategoryCounts, images: BoolArray) -> CategoryCounts:
    """Counts of some images, in the rows of the whole file's."""
    file, ids = split.file, whole.category_ids
    kept = ~file.crowd & images[file.image_index()]
    row, _ = category_image_pairs(file, ids, kept)
    instances = np.bincount(np.searchsorted(ids, file.annotation_category_ids[kept]), minlength=len(ids))
    return replace(whole, instances=instances, images=np.bincount(row, minlength=len(ids)))


def _record(split: Split, whole: CategoryCounts, fields: list[str], digests: dict[str, str]) -> SplitRecord:
    options, file = split.options, split.file
    counts = [_counts_of(split, whole, split.images_on(k)) for k in range(len(split.side_names))]
    return SplitRecord(
        schema=SPLIT_SCHEMA,
        input=Input(file.path.name, file.sha256),
        rule=SplitRule(
            method=METHOD,
            order=ORDER,
            val=None if options.val is None else str(options.val),
            folds=None if options.folds is None else int(options.folds),
            group_by=options.group_by,
            groups=split.units.number,
            rewritten_category_fields=fields,
        ),
        seed=int(options.seed),
        sides=[_side(split, k, each) for k, each in enumerate(counts)],
        not_on_all_sides=_lacking(split, counts),
        notes=[*split.units.notes, *_other_share(split)],
        files=digests,
        categories=_category_rows(split, counts),
    )


def _other_share(split: Split) -> Iterator[str]:
    """Where groups of images are so large that validation is far from the share that was asked for."""
    images, largest = len(split.file.image_ids), int(np.bincount(split.units.of_image).max())
    if split.options.val is None or largest == 1:
        return
    wanted, there = float(share_of(split.options.val)), int(split.images_on(1).sum()) / images
    if abs(there - wanted) > _FAR_OFF * wanted:
        yield (
            f"validation has {there:.1%} of the images instead of {wanted:.1%}: images that stay together are not "
            f"parted, and up to {largest:,} of {images:,} do; group them by something finer, or try another --seed"
        )


def _side(split: Split, k: int, counts: CategoryCounts) -> Side:
    file, images = split.file, split.images_on(k)
    here = images[file.image_index()]
    used = np.unique(file.image_index()[here & ~file.crowd])
    count = int(images.sum())
    return Side(
        name=split.side_names[k],
        images=count,
        share=count / len(images),
        images_without_instances=count - len(used),
        instances=int(counts.instances.sum()),
        crowds=int((here & file.crowd).sum()),
        categories=int((counts.instances > 0).sum()),
    )


def _category_rows(split: Split, counts: list[CategoryCounts]) -> list[CategoryRow]:
    names = split.side_names
    return [
        CategoryRow(
            category_id=category_id,
            name=counts[0].names[row],
            images={name: int(each.images[row]) for name, each in zip(names, counts, strict=True)},
            instances={name: int(each.instances[row]) for name, each in zip(names, counts, strict=True)},
        )
        for row, category_id in enumerate(counts[0].category_ids.tolist())
    ]


def _lacking(split: Split, counts: list[CategoryCounts]) -> list[Lacking]:
    """Categories that a side has none of, ascending by id."""
    found = []
    for row, category_id in enumerate(counts[0].category_ids.tolist()):
        sides = [name for name, each in zip(split.side_names, counts, strict=True) if not each.images[row]]
        if sides:
            why = _why(split, int(split.units_by_category[row]), len(counts))
            found.append(Lacking(category_id, counts[0].names[row], sides, why))
    return found


def _why(split: Split, units: int, sides: int) -> str:
    """Why a category with so many units is not on all sides."""
    what = "image" if split.options.group_by is None else "group"
    if units < sides:
        return "no instance" if not units else f"{units} {what}{'s' if units > 1 else ''} only"
    return f"its {units} {what}s hold others that are needed where they lie, or have no room"
