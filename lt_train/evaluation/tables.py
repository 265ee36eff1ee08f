"""``metrics.json`` as a table for the terminal: percent with one decimal, a dash where nothing could be measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_NAMES = 8


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Lay out the figures of :func:`lt_train.evaluation.summarise` as fixed-width text.

    One row per IoU type, one column per figure and group; below the group names stands the number of classes that
    each mean is over.
    """
    counts = metrics["counts"]["classes"]
    groups = list(counts["groups"])
    header = [*_COLUMNS, *groups]
    lines = [_row("", header, header)]
    sizes = [str(counts["AP"]), *[""] * (len(_COLUMNS) - 1), *(str(counts["groups"][name]) for name in groups)]
    lines.append(_row("classes", sizes, header))
    types = [name for name in ("bbox", "segm") if name in metrics]
    for name in types:
        block = metrics[name]
        values = [block[column] for column in _COLUMNS] + [block["groups"][group] for group in groups]
        lines.append(_row(name, [percent(value) for value in values], header))
    lines.append(_identity(metrics, types, groups))
    return "\n".join(lines) + "\n"


def percent(fraction: float | None) -> str:
    """``12.3`` for 0.1234, ``-`` for None."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def _row(name: str, cells: list[str], header: list[str]) -> str:
    widths = [max(len(title), 5) for title in header]
    return (name.ljust(_NAMES) + "  ".join(cell.rjust(w) for cell, w in zip(cells, widths, strict=True))).rstrip()


def _identity(metrics: Mapping[str, Any], types: list[str], groups: list[str]) -> str:
    """The last line: the group figures, weighted by their classes, next to AP."""
    classes = metrics["counts"]["classes"]
    covered = sum(classes["groups"].values())
    if not covered or covered != classes["AP"]:
        return f"groups cover {covered} of {classes['AP']} measured classes"
    parts = []
    for name in types:
        block = metrics[name]
        total = sum((block["groups"][g] or 0.0) * classes["groups"][g] for g in groups)
        parts.append(f"{name} {percent(total / covered)} = {percent(block['AP'])}")
    return f"groups weighted by their classes = AP: {', '.join(parts)}"
