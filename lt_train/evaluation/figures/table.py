"""``metrics.json`` as a table for the terminal: percent with one decimal, a dash where nothing could be measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lt_data.groups import names_sentence
from lt_train.evaluation.engines.protocols import describe
from lt_train.evaluation.figures.metrics import FREQUENCIES
from lt_train.evaluation.predictions.columns import IOU_TYPES

_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR")
_NAMES = 12


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Lay out the figures of :func:`lt_train.evaluation.summarise` as fixed-width text.

    The protocol and the engine stand first. Then one row per IoU type (and one with its fixed AP), one column per
    figure, group and, by the protocol ``lvis``, frequency; below their names stands the number of classes that each
    mean is over. Measured classes without training instances are counted in a line at the end.
    """
    counts = metrics["counts"]["classes"]
    parts = [("groups", name, name) for name in counts["groups"]]
    if metrics["protocol"] == "lvis":
        parts = [("frequency", name, f"AP{name}") for name in FREQUENCIES] + parts
    header = [*_COLUMNS[:-1], f"AR@{metrics['max_detections']}", *(title for _, _, title in parts)]
    sizes = [str(counts["AP"]), *[""] * (len(_COLUMNS) - 1), *(str(counts[kind][name]) for kind, name, _ in parts)]
    lines = [_measured_by(metrics), _row("", header, header), _row("classes", sizes, header)]
    for title, block in _blocks(metrics):
        values = [block[column] for column in _COLUMNS] + [block[kind][name] for kind, name, _ in parts]
        if title.endswith("fixed"):
            values[len(_COLUMNS) - 1] = None  # recall of other detections than the column's
        lines.append(_row(title, [percent(value) for value in values], header))
    explained = names_sentence(list(counts["groups"]), "training instances")
    lines += [_identity(metrics), *([explained] if explained else []), *_untrained(counts)]
    return "\n".join(lines) + "\n"


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


def _row(name: str, cells: list[str], header: list[str]) -> str:
    widths = [max(len(title), 5) for title in header]
    return (name.ljust(_NAMES) + "  ".join(cell.rjust(w) for cell, w in zip(cells, widths, strict=True))).rstrip()


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
