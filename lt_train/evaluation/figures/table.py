"""``metrics.json`` as a table for the terminal: percent with one decimal, a dash where nothing could be measured."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lt_data.groups import names_sentence
from lt_data.text_tables import WIDTH, table, wrapped
from lt_train.evaluation.engines.protocols import describe
from lt_train.evaluation.figures.metrics import FREQUENCIES
from lt_train.evaluation.predictions.columns import IOU_TYPES

_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR")
_NAMES, _FIGURE = 10, 5


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Lay out the figures of :func:`lt_train.evaluation.summarise` as fixed-width text.

    The protocol and the engine stand first. Then one row per IoU type (and one with its fixed AP), one column per
    figure, group and, by the protocol ``lvis``, frequency; below their names stands the number of classes that each
    mean is over. Groups and frequencies are a table of their own where all columns are wider than a terminal. Measured
    classes without training instances are counted in a line at the end.
    """
    counts = metrics["counts"]["classes"]
    parts = [("groups", name, name) for name in counts["groups"]]
    if metrics["protocol"] == "lvis":
        parts = [("frequency", name, f"AP{name}") for name in FREQUENCIES] + parts
    header = [*_COLUMNS[:-1], f"AR@{metrics['max_detections']}", *(title for _, _, title in parts)]
    sizes = [str(counts["AP"]), *[""] * (len(_COLUMNS) - 1), *(str(counts[kind][name]) for kind, name, _ in parts)]
    rows = [["", *header], ["classes", *sizes]]
    for title, block in _blocks(metrics):
        values = [block[column] for column in _COLUMNS] + [block[kind][name] for kind, name, _ in parts]
        if title.endswith("fixed"):
            values[len(_COLUMNS) - 1] = None  # recall of other detections than the column's
        rows.append([title, *map(percent, values)])
    # equal widths, so that runs stand below each other
    rows = [[name.ljust(_NAMES), *(cell.rjust(_FIGURE) for cell in cells)] for name, *cells in rows]
    lines = [wrapped(_measured_by(metrics)), _tables(rows), wrapped(_identity(metrics)), *explanations(metrics)]
    return "\n".join(lines) + "\n"


def explanations(metrics: Mapping[str, Any]) -> list[str]:
    """Lines at the end of :func:`format_metrics` that are the same whatever was measured for these classes."""
    classes = metrics["counts"]["classes"]
    names = names_sentence(list(classes["groups"]), "training instances")
    return [line for text in (names, *_untrained(classes)) for line in wrapped(text).splitlines()]


def _tables(rows: Sequence[Sequence[str]]) -> str:
    """One table where it fits, else the figures, then the parts."""
    together = table(rows, width=sys.maxsize)
    if max(map(len, together.splitlines())) <= WIDTH:
        return together
    figures = [row[: 1 + len(_COLUMNS)] for row in rows]
    parts = [[name, *cells[len(_COLUMNS) :]] for name, *cells in rows]
    return f"{table(figures)}\n\n{table(parts)}"


def percent(fraction: float | None) -> str:
    """``12.3`` for 0.1234, ``-`` for None."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def _measured_by(metrics: Mapping[str, Any]) -> str:
    return f"protocol {describe(metrics['protocol'], metrics['max_detections'])}, engine {metrics['engine']}"


def _blocks(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Title and figures of each row."""
    blocks: list[tuple[str, Mapping[str, Any]]] = []
    for name in IOU_TYPES:
        if name in metrics:
            blocks.append((name, metrics[name]))
            if "fixed" in metrics[name]:
                blocks.append((f"{name} fixed", metrics[name]["fixed"]))
    return blocks


def _untrained(classes: Mapping[str, Any]) -> list[str]:
    """A line on measured classes that nothing was trained of, if there are any."""
    found = classes.get("untrained")
    if not found:
        return []
    places = ", ".join(f"{count} in {name}" for name, count in found["groups"].items() if count)
    return [f"{found['AP']} without training instances" + (f": {places}" if places else "")]


def _identity(metrics: Mapping[str, Any]) -> str:
    """The group figures, weighted by their classes, next to AP."""
    classes = metrics["counts"]["classes"]
    if not classes["groups"]:
        return "no groups: they are made of the counts of the training set (--train-counts)"
    covered = sum(classes["groups"].values())
    if not covered or covered != classes["AP"]:
        return f"groups cover {covered} of {classes['AP']} measured classes"
    parts = []
    for title, block in _blocks(metrics):
        total = sum((value or 0.0) * classes["groups"][name] for name, value in block["groups"].items())
        parts.append(f"{title} {percent(total / covered)} = {percent(block['AP'])}")
    return f"groups weighted by their classes = AP: {', '.join(parts)}"
