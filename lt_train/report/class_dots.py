"""AP of every class as a dot, by how often the class was trained on; one colour per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lt_data.errors import DataError
from lt_data.pictures.figures import COLOURS, category_label, new_figure, save_figure, tidy
from lt_train.report.axes import top_of
from lt_train.report.curves import smooth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, str]]
# more names than this cannot be read below each other
MOST_NAMED = 100
_TITLES = {"bbox": "box AP", "segm": "mask AP"}
# inches down of a named class
_LINE = 0.155


def most_trained_first(rows: Rows) -> list[int]:
    """Positions of the rows by falling training instances, those that are not known last; ties in their order."""
    return sorted(range(len(rows)), key=lambda i: -float(rows[i]["train_instances"] or -1))


def plot_class_ap(path: Path, runs: Mapping[str, Rows], iou_type: str = "bbox") -> None:
    """Draws the AP of each class with ground truth, the classes with most training instances first.

    Up to 100 classes have a line with their name each; more are dots along their rank with a running mean.

    Args:
        path: The PNG file to write; an existing one is replaced.
        runs: Name of each run and the rows of its ``per_class.csv``.
        iou_type: ``bbox`` or ``segm``.

    Raises:
        DataError: No run, one without ``iou_type``, or runs with different classes.
        OutputError: The picture cannot be written.
    """
    save_figure(class_figure(runs, iou_type), path)


def class_figure(runs: Mapping[str, Rows], iou_type: str = "bbox") -> Figure:
    """The figure of :func:`plot_class_ap`, with the same arguments."""
    column = f"{iou_type}_AP"
    first = next(iter(runs.values()), [])
    ids = [row["category_id"] for row in first]
    if not first or any([row["category_id"] for row in rows] != ids or column not in rows[0] for rows in runs.values()):
        raise DataError(f"per_class.csv: {iou_type} of the same classes is needed of each run; evaluate them alike")
    order = [i for i in most_trained_first(first) if any(rows[i][column] for rows in runs.values())]
    values = {name: np.array([100 * float(rows[i][column] or "nan") for i in order]) for name, rows in runs.items()}
    classes = [first[i] for i in order]
    draw = _named if len(classes) <= MOST_NAMED else _ranked
    return draw(classes, values, f"{_TITLES[iou_type]} in percent")


def _named(classes: Rows, values: Mapping[str, npt.NDArray[np.float64]], what: str) -> Figure:
    """A line for each class, with its name and its training instances."""
    figure = new_figure(7.5, 1.5 + _LINE * max(len(classes), 4))
    axes = figure.subplots()
    places = np.arange(len(classes))
    if len(values) > 1:
        table = np.array(list(values.values()))
        axes.hlines(places, table.min(axis=0), table.max(axis=0), color="#BBBBBB", lw=1.2, zorder=1)
    for i, (run, percents) in enumerate(values.items()):
        axes.plot(percents, places, "o", ms=4.5, color=COLOURS[i % len(COLOURS)], label=run, clip_on=False, zorder=2)
    axes.set_yticks(places, [_label(row) for row in classes], fontsize=6.5)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_xlim(0, top_of(np.nan_to_num(np.array(list(values.values()))).ravel().tolist(), 1.04))
    axes.set_xlabel(what)
    axes.set_ylabel("class (training instances)")
    for start, end, name in _groups(classes):
        if end < len(classes):
            axes.axhline(end - 0.5, color="#999999", lw=0.6)
        # beside the axes: no dot lies there
        axes.text(1.01, (start + end - 1) / 2, name, transform=axes.get_yaxis_transform(), va="center", fontsize=7)
    tidy(axes)
    axes.grid(axis="x", color="#E4E4E4", lw=0.7)
    _legend(axes, len(values))
    return figure


def _ranked(classes: Rows, values: Mapping[str, npt.NDArray[np.float64]], what: str) -> Figure:
    """A dot for each class along its rank, and a running mean over a twentieth of the classes."""
    figure = new_figure(11, 5)
    axes = figure.subplots()
    ranks = np.arange(1, len(classes) + 1)
    for i, (run, percents) in enumerate(values.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(ranks, percents, "o", ms=2.5, alpha=0.35, mew=0, color=colour)
        axes.plot(ranks, smooth(percents), color=colour, lw=1.8, label=f"{run}, running mean")
    axes.set_xlim(0, len(classes) + 1)
    axes.set_ylim(0, top_of(np.nan_to_num(np.array(list(values.values()))).ravel().tolist(), 1.04))
    axes.set_xlabel("classes with ground truth, by falling number of training instances")
    axes.set_ylabel(what)
    for start, end, name in _groups(classes):
        if end < len(classes):
            axes.axvline(end + 0.5, color="#999999", lw=0.8)
        place = ((start + end + 1) / 2, 1.01)
        axes.text(*place, f"{name}\n{end - start}", transform=axes.get_xaxis_transform(), ha="center", fontsize=8)
    tidy(axes)
    _legend(axes, len(values), above=1.1)
    return figure


def _label(row: Mapping[str, str]) -> str:
    name = category_label(row["name"], int(row["category_id"]))
    return f"{name} ({int(row['train_instances']):,})" if row["train_instances"] else name


def _groups(classes: Rows) -> list[tuple[int, int, str]]:
    """Start, end and name of each run of classes of one group; none where groups of any partition lie mixed."""
    names = [row["group"] for row in classes]
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    if not any(names) or len(starts) > len(set(names)):
        return []
    return [(start, end, names[start]) for start, end in zip(starts, [*starts[1:], len(names)], strict=True)]


def _legend(axes: Axes, runs: int, above: float = 1.0) -> None:
    axes.legend(frameon=False, ncols=min(runs, 4), loc="lower center", bbox_to_anchor=(0.5, above), fontsize=8)
