"""The pictures of a run directory, and of an evaluation."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from lt_data.errors import DataError
from lt_train.evaluation.directory import (
    CLASS_PICTURES,
    CONFUSION,
    CONFUSION_GROUPS,
    CONFUSION_GROUPS_PICTURE,
    CONFUSION_PICTURE,
    METRICS,
    PER_CLASS,
)
from lt_train.report.class_dots import plot_class_ap
from lt_train.report.confusion_picture import plot_confusion, plot_group_confusion
from lt_train.report.curves import plot_loss_curves
from lt_train.report.group_bars import plot_group_ap


def draw_run_report(
    report: Path, name: str, *, losses: Path | None, evaluation: Path, head_groups: Sequence[str] = ()
) -> None:
    """Draws loss curves and, where there is an evaluation, AP per group and the pictures of the evaluation.

    Args:
        report: Directory for the pictures.
        name: What the run is called in them.
        losses: ``metrics.jsonl`` of the run, or ``None`` if it took no step.
        evaluation: Directory of its evaluation; need not exist.
        head_groups: Names of the groups of classes that the head has a loss for each.
    """
    report.mkdir(exist_ok=True)
    if losses is not None:
        plot_loss_curves(report / "loss_curves.png", {name: losses}, head_groups={name: head_groups})
    metrics = evaluation / METRICS
    if metrics.is_file():
        content = json.loads(metrics.read_text(encoding="utf-8"))
        for kind in ("bbox", "segm"):
            if kind in content:
                plot_group_ap(report / f"group_ap_{kind}.png", {name: content}, iou_type=kind)
        draw_evaluation(evaluation, name)


def draw_evaluation(directory: Path, name: str) -> None:
    """Draws AP per class and what objects are taken for, beside the tables of an evaluation.

    Args:
        directory: What ``lt-train eval`` or a run wrote; an evaluation of an older version has no table of confusions.
        name: What to call the run.

    Raises:
        DataError: A table cannot be read.
        OutputError: A picture cannot be written.
    """
    rows = _rows_of(directory / PER_CLASS)
    for kind, picture in CLASS_PICTURES.items():
        if any(row.get(f"{kind}_AP") for row in rows):
            plot_class_ap(directory / picture, {name: rows}, kind)
    if (directory / CONFUSION).is_file():
        plot_confusion(directory / CONFUSION_PICTURE, _rows_of(directory / CONFUSION), rows)
        if any(row["group"] for row in rows):
            plot_group_confusion(directory / CONFUSION_GROUPS_PICTURE, _rows_of(directory / CONFUSION_GROUPS))


def _rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table of an evaluation as text.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); evaluate again with lt-train eval") from None
