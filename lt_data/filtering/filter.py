"""Writing a part of an annotation file: read ``filter_annotations`` first.

Shapes: N images, A annotations, C categories.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.annotations.records import UNREADABLE
from lt_data.annotations.subset import Edit, removals, with_values, write_subset
from lt_data.arrays import BoolArray, IntArray
from lt_data.build.lvis_fields import rewritten
from lt_data.checks.image_lists import NEGATIVE, NOT_EXHAUSTIVE
from lt_data.counts.categories import CategoryCounts, category_image_pairs
from lt_data.dataset.names import annotations_path
from lt_data.files.writing import check_output_file, write_whole
from lt_data.filtering.choose import Choice, choose, dropped_names
from lt_data.filtering.options import FilterOptions
from lt_data.groups import frequency_of
from lt_data.progress import SILENT, Progress

FILTER_SCHEMA: Final = 1
_MOST_NAMED: Final = 10


@dataclass(frozen=True)
class FilterReport:
    """What a filter kept and dropped.

    Attributes:
        out: The file that was written.
        images: Images in it.
        annotations: Annotations in it.
        categories: Categories in it.
        dropped_images: How many images are not.
        dropped_annotations: How many annotations are not, by reason.
        dropped_categories: Names of the categories that are not.
        rewritten: Fields of LVIS that say something else than in the input, as they say what the file holds.
    """

    out: Path
    images: int
    annotations: int
    categories: int
    dropped_images: int
    dropped_annotations: dict[str, int]
    dropped_categories: tuple[str, ...]
    rewritten: tuple[str, ...]


def filter_annotations(
    path: Path | str,
    out: Path | str,
    options: FilterOptions | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> FilterReport:
    """Writes the chosen images, categories and annotations of a file; every kept record keeps its bytes.

    The exceptions are those of a subset of an LVIS file: counts and frequencies say what is left, lists of images name
    no dropped category, and an image that lost objects of a kept category lists it as not exhaustive.

    Args:
        path: A COCO or LVIS file, or a dataset directory.
        out: The file to write, ``.json``.
        options: What to keep.
        force: Replace the file if it is there.
        progress: Told of bytes.

    Raises:
        DataError: The file cannot be read, an option names what it does not have, or nothing would be left.
        OutputError: The file cannot be written, or is there already.
    """
    path, out, options = annotations_path(Path(path)), Path(out), options or FilterOptions()
    check_output_file(out, force=force, inputs=[path], suffixes=(".json",))
    file = read_annotations(path, progress=progress)
    choice = choose(file, options)
    counts = _counts(file, choice)
    # of a category that is dropped nothing is told
    instances = ~file.crowd & choice.categories[file.category_index()]
    changed = rewritten(file, counts, images=choice.images, kept=choice.annotations & ~file.crowd, instances=instances)
    gone = removals(file.data, file.category_records, ~choice.categories)
    edits = _outside(changed.edits, gone)
    records = {**changed.images, **_without_dropped(file, choice, changed.images)}
    write_whole(
        out,
        lambda work: write_subset(
            file,
            work,
            images=choice.images,
            annotations=choice.annotations,
            image_records=records,
            edits=[*gone, *edits],
        ),
        make_folder=True,
        advice="choose another --out",
    )
    return FilterReport(
        out=out,
        images=int(choice.images.sum()),
        annotations=int(choice.annotations.sum()),
        categories=int(choice.categories.sum()),
        dropped_images=int((~choice.images).sum()),
        dropped_annotations={reason: count for reason, count in choice.dropped.items() if count},
        dropped_categories=tuple(dropped_names(file.categories.names, choice.categories)),
        rewritten=(*(changed.fields if edits else ()), *((NEGATIVE, NOT_EXHAUSTIVE) if records else ())),
    )


def _outside(edits: Sequence[Edit], gone: Sequence[Edit]) -> list[Edit]:
    return [edit for edit in edits if not any(cut.first <= edit.first < cut.end for cut in gone)]


def _counts(file: AnnotationFile, choice: Choice) -> CategoryCounts:
    """Objects and images of each category in what is kept, of the dropped ones too."""
    ids = np.sort(file.categories.ids)
    kept = choice.annotations & ~file.crowd
    rows, _ = category_image_pairs(file, ids, kept)
    images = np.bincount(rows, minlength=len(ids)).astype(np.int64)
    instances: IntArray = np.bincount(np.searchsorted(ids, file.annotation_category_ids[kept]), minlength=len(ids))
    names = dict(zip(file.categories.ids.tolist(), file.categories.names, strict=True))
    return CategoryCounts(
        category_ids=ids,
        names=tuple(names[i] for i in ids.tolist()),
        instances=instances.astype(np.int64),
        images=images,
        frequencies=tuple(frequency_of(int(n)) for n in images),
        frequency_source="counted",
        total_images=int(choice.images.sum()),
    )


def _without_dropped(
    file: AnnotationFile, choice: Choice, changed: Mapping[int, msgspec.Raw]
) -> dict[int, msgspec.Raw]:
    """Records of kept images whose lists name dropped categories, without these.

    Args:
        file: What is filtered.
        choice: What is kept.
        changed: Records that are others already, by row.
    """
    gone = set(file.categories.ids[~choice.categories].tolist())
    rows: BoolArray = choice.images if gone else np.zeros(len(choice.images), bool)
    records = {}
    for row in np.flatnonzero(rows).tolist():
        record = changed.get(row, file.image_records[row])
        try:
            fields = msgspec.json.decode(record)
        except UNREADABLE:
            continue
        lists = {key: fields[key] for key in (NEGATIVE, NOT_EXHAUSTIVE) if isinstance(fields.get(key), list)}
        values = {key: [i for i in ids if i not in gone] for key, ids in lists.items() if any(i in gone for i in ids)}
        if values:
            records[row] = msgspec.Raw(with_values(record, values))
    return records


def format_filter(report: FilterReport, style: str = "table") -> str:
    """A report as text: ``table`` or ``json``."""
    return {"table": _as_table, "json": _as_json}[style](report)


def _as_json(report: FilterReport) -> str:
    content = {
        "schema": FILTER_SCHEMA,
        "file": report.out.name,
        "images": report.images,
        "annotations": report.annotations,
        "categories": report.categories,
        "dropped": {
            "images": report.dropped_images,
            "annotations": report.dropped_annotations,
            "categories": list(report.dropped_categories),
        },
        "rewritten": list(report.rewritten),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_table(report: FilterReport) -> str:
    lines = [f"dropped {report.dropped_images:,} images"] if report.dropped_images else []
    lines += [f"dropped {count:,} annotations {reason}" for reason, count in report.dropped_annotations.items()]
    if names := report.dropped_categories:
        more = ", ..." if len(names) > _MOST_NAMED else ""
        lines.append(f"dropped {len(names):,} categories: {', '.join(names[:_MOST_NAMED])}{more}")
    if report.rewritten:
        lines.append(f"written anew, as they say what the file holds: {', '.join(report.rewritten)}")
    lines.append(
        f"{report.out.name}: {report.images:,} images, {report.annotations:,} annotations, "
        f"{report.categories:,} categories"
    )
    return "\n".join(lines)
