"""A comparison for people (table) and for programs (JSON, CSV)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Literal

from lt_data.errors import RecipeError
from lt_data.text_tables import table, wrapped
from lt_train.evaluation.chosen_on import chosen_on_notes
from lt_train.evaluation.comparison.differences import FEWEST_IMAGES, LEVEL, Change, Comparison, Row, compare_systems
from lt_train.evaluation.comparison.published import Paper, format_published
from lt_train.evaluation.comparison.systems import Stored, load_systems, read_all, shared_groups
from lt_train.evaluation.figures.table import percent
from lt_train.evaluation.predictions.columns import IOU_TYPES

Style = Literal["table", "csv", "json"]

COMPARISON_SCHEMA: Final = 1
# of a run, in its directory
RUN_RECORD: Final = "data.json"
_COLUMNS: Final = (
    *("iou_type", "kind", "name", "category_id", "group", "classes", "images", "instances"),
    *("baseline", "system", "baseline_value", "value", "change", "low", "high", "within_noise"),
)


def compare(
    paths: Sequence[Path | str], *, annotations: Path | str | None = None, resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Finished evaluations side by side, as rows; :func:`compare_evaluations` gives them as text.

    Args:
        paths: Runs or evaluation directories, at least two; the first is the baseline.
        annotations: Where the annotation file, or its dataset directory, is now; where it was unless given.
        resamples: Resamples of the paired bootstrap.
        seed: Their seed.

    Raises:
        DataError: An evaluation cannot be read, or they cannot be compared.
        RecipeError: Too few of them.
    """
    if len(paths) < 2:
        raise RecipeError(f"compare: got {len(paths)} evaluations; give at least two, the baseline first")
    return _compared(read_all(paths), annotations, resamples, seed)


def _compared(stored: Sequence[Stored], annotations: Path | str | None, resamples: int, seed: int) -> Comparison:
    systems = load_systems(stored, annotations=annotations)
    found = compare_systems(systems, groups=shared_groups(stored), resamples=resamples, seed=seed)
    told = {one.name: _chosen_on(one) for one in stored}
    return replace(found, notes={name: notes for name, notes in told.items() if notes})


def _chosen_on(one: Stored) -> tuple[str, ...]:
    """What options of a run were chosen on; its evaluations lie in its directory."""
    return chosen_on_notes(one.directory.parent / RUN_RECORD, Path(one.inputs.annotations), one.inputs.sha256)


def compare_evaluations(
    paths: Sequence[Path | str],
    *,
    annotations: Path | str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    paper: Paper | None = None,
    style: Style = "table",
) -> str:
    """Finished evaluations side by side, as text.

    Args:
        paths: Runs or evaluation directories; the first is the baseline. One is enough beside published rows.
        annotations: Where the annotation file, or its dataset directory, is now; where it was unless given.
        resamples: Resamples of the paired bootstrap.
        seed: Their seed.
        paper: Published rows to print beside ours: ``coco-lt`` or ``lvis``; in the table only.
        style: ``table``, ``csv`` or ``json``.

    Raises:
        DataError: An evaluation cannot be read, or they cannot be compared.
        RecipeError: Too few of them, or published rows asked for in another style.
    """
    if len(paths) < (1 if paper else 2):
        raise RecipeError("compare: got one evaluation; give at least two, or --paper for published rows beside it")
    if paper is not None and style != "table":
        raise RecipeError(f"--paper {paper}: published rows are printed in the table only; leave out --format {style}")
    stored = read_all(paths)
    parts = []
    if len(stored) > 1:
        found = _compared(stored, annotations, resamples, seed)
        parts.append({"table": format_comparison, "csv": comparison_csv, "json": comparison_json}[style](found))
    if paper is not None:
        ours = {one.name: one.metrics for one in stored}
        shown = [kind for kind in IOU_TYPES if all(kind in one.metrics for one in stored)]
        parts.append(format_published(paper, ours, iou_types=shown))
    return "\n".join(parts)


def format_comparison(comparison: Comparison, *, top: int = 10) -> str:
    """Overall and group figures, then the classes that gained and lost most, as fixed-width text.

    Args:
        comparison: Of two or more systems.
        top: Classes to list as gains and as losses of each system.

    Returns:
        Percent and points with one decimal, intervals in brackets; ``~`` marks a change within noise, ``?`` one with
        too few images to tell. Ends with a newline.
    """
    blocks = []
    for iou_type, rows in comparison.rows.items():
        blocks.append(_figures(iou_type, comparison.names, [row for row in rows if row.kind != "class"]))
        classes = [row for row in rows if row.kind == "class"]
        for i, name in enumerate(comparison.names[1:]):
            blocks += _extremes(f"{iou_type}, {name} against {comparison.names[0]}", classes, i, top)
    notes = [wrapped(f"{name}: {line}") for name, lines in comparison.notes.items() for line in lines]
    return "\n\n".join([*blocks, _legend(comparison), *notes]) + "\n"


def comparison_json(comparison: Comparison) -> str:
    """All rows as JSON: fractions 0..1, null where nothing was measured, or where it cannot be told."""
    content: dict[str, Any] = {
        "schema": COMPARISON_SCHEMA,
        "systems": list(comparison.names),
        "protocol": comparison.protocol,
        "max_detections": comparison.max_detections,
        "images": comparison.images,
        "bootstrap": {"resamples": comparison.resamples, "seed": comparison.seed, "level": LEVEL},
        "notes": {name: list(lines) for name, lines in comparison.notes.items()},
        "rows": {iou_type: [asdict(row) for row in rows] for iou_type, rows in comparison.rows.items()},
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def comparison_csv(comparison: Comparison) -> str:
    """One line per figure and system after the baseline; fractions, empty cells for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for iou_type, rows in comparison.rows.items():
        for row in rows:
            about = (row.kind, row.name, row.category_id, row.group, row.classes, row.images, row.instances)
            for name, value, change in zip(comparison.names[1:], row.values[1:], row.changes, strict=True):
                noise = None if change.within_noise is None else str(change.within_noise).lower()
                figures = (row.values[0], value, change.value, change.low, change.high, noise)
                writer.writerow([iou_type, *about, comparison.names[0], name, *figures])
    return text.getvalue()


def _figures(iou_type: str, names: Sequence[str], rows: Sequence[Row]) -> str:
    header = [iou_type, "classes", *names, *(f"{name} - {names[0]}" for name in names[1:])]
    lines = []
    for row in rows:
        changes = [_interval(change) for change in row.changes]
        lines.append([row.name, str(row.classes), *map(percent, row.values), *changes])
    return table([header, *lines], left=1)


def _extremes(title: str, classes: Sequence[Row], system: int, top: int) -> list[str]:
    """Two tables: the classes that gained most and those that lost most."""
    ranked = [(value, row) for row in classes if (value := row.changes[system].value) is not None]
    ranked.sort(key=lambda pair: pair[0])
    beyond = sum(row.changes[system].within_noise is False for _, row in ranked)
    judged = sum(row.changes[system].within_noise is not None for _, row in ranked)
    gains = [row for value, row in reversed(ranked) if value > 0][:top]
    losses = [row for value, row in ranked if value < 0][:top]
    blocks = [
        wrapped(
            f"{title}: {beyond} of {judged} classes changed beyond noise "
            f"({(1 - LEVEL) * judged:.0f} would by chance alone)"
        )
    ]
    for label, rows in (("largest gains", gains), ("largest losses", losses)):
        if rows:
            header = [label, "group", "images", "instances", "from", "to", "change"]
            blocks.append(table([header, *(_class_cells(row, system) for row in rows)], left=2))
    return blocks


def _class_cells(row: Row, system: int) -> list[str]:
    counts = [str(row.images), str(row.instances)]
    figures = [percent(row.values[0]), percent(row.values[system + 1])]
    return [row.name, row.group or "-", *counts, *figures, _interval(row.changes[system])]


def _interval(change: Change) -> str:
    """``+2.2 [+1.8, +2.6]``, then ``~`` within noise, ``?`` where that cannot be told."""
    if change.value is None:
        return "-  "
    mark = {True: "~", False: " ", None: "?"}[change.within_noise]
    if change.low is None or change.high is None:
        return f"{100 * change.value:+.1f} {mark}"
    return f"{100 * change.value:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}] {mark}"


def _legend(comparison: Comparison) -> str:
    return wrapped(
        "\n".join(
            [
                f"changes in points, in brackets {100 * LEVEL:.0f} % of {comparison.resamples:,} paired resamples of "
                f"the {comparison.images:,} images (seed {comparison.seed})",
                "they cover which images were collected, not the seed of the training",
                f"~ within noise: the interval holds 0; ? cannot be told: ground truth in under {FEWEST_IMAGES} images",
            ]
        )
    )
