"""One row per class: how often it was trained on, how often it is in the validation set, and how well it is found."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lt_data.arrays import FloatArray
from lt_data.counts.training import UNKNOWN
from lt_data.groups import group_name_of
from lt_train.evaluation.figures.average_precision import Evaluation

if TYPE_CHECKING:
    from lt_data.counts.categories import CategoryCounts
    from lt_data.groups import Group

Cell = int | float | str | None


def per_class_rows(
    evaluations: Mapping[str, Evaluation], *, groups: Sequence[Group], train_counts: CategoryCounts | None
) -> list[dict[str, Cell]]:
    """One row per category of the evaluated annotations, ascending by dataset id.

    Args:
        evaluations: ``bbox`` and/or ``segm`` of the same annotations.
        groups: Groups of the training set.
        train_counts: Counts of the training set; None where nothing is known of it.

    Returns:
        Rows with ``category_id, name, group, train_images, train_instances, val_instances`` and, per IoU type,
        ``*_AP, *_AP50, *_AR`` (fractions 0..1). None marks a class without ground truth, or one that the training set
        does not know.
    """
    first = next(iter(evaluations.values()))
    group_of, trained = group_name_of(groups), _trained(train_counts)
    rows: list[dict[str, Cell]] = []
    for k, category in enumerate(first.category_ids.tolist()):
        images, instances = trained.get(category, (None, None))
        rows.append(
            {
                "category_id": category,
                "name": first.category_names[k],
                "group": group_of.get(category),
                "train_images": images,
                "train_instances": instances,
                "val_instances": int(first.instances[k]),
            }
        )
    for iou_type in sorted(evaluations):
        _add_columns(rows, iou_type, evaluations[iou_type])
    return rows


def _trained(counts: CategoryCounts | None) -> dict[int, tuple[int | None, int | None]]:
    """Training images (None where a CSV does not say them) and instances by category id."""
    if counts is None:
        return {}
    columns = (counts.category_ids.tolist(), counts.images.tolist(), counts.instances.tolist())
    rows = zip(*columns, strict=True)
    return {category: (None if images == UNKNOWN else images, instances) for category, images, instances in rows}


def per_class_csv(rows: Sequence[Mapping[str, Cell]]) -> str:
    """The rows as CSV text: comma, newline, floats as Python's repr, empty cells for None."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _add_columns(rows: list[dict[str, Cell]], iou_type: str, evaluation: Evaluation) -> None:
    columns: dict[str, FloatArray] = {
        f"{iou_type}_AP": evaluation.class_ap(),
        f"{iou_type}_AP50": evaluation.class_ap(iou=0.5),
        f"{iou_type}_AR": evaluation.class_ar(),
    }
    for name, values in columns.items():
        for row, value in zip(rows, values.tolist(), strict=True):
            row[name] = None if math.isnan(value) else value
