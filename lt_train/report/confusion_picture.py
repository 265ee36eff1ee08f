"""What objects are taken for, as pictures: a large matrix of classes, and a small one of groups with figures.

Shapes: K classes, S = K + 1 with the background. Rows are true, columns predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lt_data.pictures.figures import category_label, new_figure, save_figure
from lt_train.evaluation.figures.confusion import BACKGROUND
from lt_train.evaluation.figures.overlaps import FOUND_IOU
from lt_train.report.class_dots import MOST_NAMED, Rows, most_trained_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Matrix = npt.NDArray[np.float64]
# cells of the large matrix in each direction; more are joined, and the largest share of those is shown
MOST_CELLS = 320
# the colour of rows without objects, which are no rows of zeros
_NOTHING_THERE = "#dddddd"
# inches: of a class with a name, and of the sides of a small matrix and of one without names
_CELL, _SMALLEST, _LARGEST = 0.15, 4.5, 9.0
_DARK = 0.33


def plot_confusion(path: Path, cells: Rows, per_class: Rows) -> None:
    """Draws what share of the objects of each class is taken for which other.

    Args:
        path: The PNG file to write; an existing one is replaced.
        cells: Rows of ``confusion.csv``.
        per_class: Rows of ``per_class.csv``; classes with most training instances come first.

    Raises:
        OutputError: The picture cannot be written.
    """
    save_figure(confusion_figure(cells, per_class), path)


def confusion_figure(cells: Rows, per_class: Rows) -> Figure:
    """The figure of :func:`plot_confusion`, with the same arguments."""
    from matplotlib.colors import PowerNorm

    classes = [per_class[i] for i in most_trained_first(per_class)]
    named = len(classes) <= MOST_NAMED
    side = max(_SMALLEST, _CELL * (len(classes) + 1)) if named else _LARGEST
    figure = new_figure(side + 2.2, side + 1.2)
    axes = figure.subplots()
    shown, edges = _joined(class_shares(cells, [row["category_id"] for row in classes]))
    # small shares are what there is to find
    mesh = axes.pcolormesh(edges, edges, shown, cmap=_colours(), norm=PowerNorm(0.5, 0, 1))
    axes.set_ylim(edges[-1], 0)
    axes.set_aspect("equal")
    figure.colorbar(mesh, ax=axes, shrink=0.6, pad=0.02, label="share of the row")
    places, labels = _ticks(classes, named=named)
    places, labels = [*places, (edges[-1] + edges[-2]) / 2], [*labels, "nothing"]
    axes.set_xticks(places, labels, rotation=90 if named else 0, fontsize=5.5 if named else 8)
    axes.set_yticks(places, labels, fontsize=5.5 if named else 8)
    for border in [*_borders(classes), len(classes)]:
        axes.axhline(border, color="#999999", lw=0.6)
        axes.axvline(border, color="#999999", lw=0.6)
    joined = round(edges[1])
    more = f";\na cell shows the largest share of {joined} x {joined} classes" if joined > 1 else ""
    _titles(axes, f"{len(classes):,} classes, most training instances first{more}{_grey_note(shown)}", cells)
    return figure


def plot_group_confusion(path: Path, cells: Rows) -> None:
    """Draws what share of the objects of each group is taken for which other, in percent.

    Args:
        path: The PNG file to write; an existing one is replaced.
        cells: Rows of ``confusion_groups.csv``; their last group comes first, as the classes with most instances do.

    Raises:
        OutputError: The picture cannot be written.
    """
    save_figure(group_confusion_figure(cells), path)


def group_confusion_figure(cells: Rows) -> Figure:
    """The figure of :func:`plot_group_confusion`, with the same arguments."""
    from matplotlib.colors import PowerNorm

    names = [name for name in dict.fromkeys(row["true_group"] for row in cells) if name != BACKGROUND]
    names = [*reversed(names), BACKGROUND]
    place = {name: i for i, name in enumerate(names)}
    counts, right = (np.zeros((len(names), len(names))) for _ in range(2))
    for cell in cells:
        where = place[cell["true_group"]], place[cell["predicted_group"]]
        counts[where], right[where] = int(cell["count"]), int(cell["same_category"])
    totals = counts.sum(axis=1)
    shares = _of_rows(counts)
    figure = new_figure(3.0 + 0.95 * len(names), 2.0 + 0.75 * len(names))
    axes = figure.subplots()
    axes.imshow(shares, cmap=_colours(), norm=PowerNorm(0.5, 0, 1), aspect="auto")
    for i, j in np.ndindex(shares.shape):
        if not totals[i] or i == j == len(names) - 1:
            continue
        text = f"{100 * shares[i, j]:.1f}" + (f"\n{100 * right[i, j] / totals[i]:.1f} right" if i == j else "")
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color="w" if shares[i, j] > _DARK else "k")
    axes.set_xticks(range(len(names)), [*names[:-1], "nothing"], fontsize=8)
    rows = [f"{name}\n{int(total):,} objects" for name, total in zip(names[:-1], totals, strict=False)]
    axes.set_yticks(range(len(names)), [*rows, f"nothing\n{int(totals[-1]):,} detections"], fontsize=8)
    _titles(axes, f"groups by training instances, percent of each row{_grey_note(shares)}", cells)
    return figure


def class_shares(cells: Rows, ids: Sequence[str]) -> Matrix:
    """Counts of the cells over the sum of their rows, [S, S] with the background last; NaN in rows without objects.

    Args:
        cells: Rows of ``confusion.csv``.
        ids: Category ids in the order wanted, [K].
    """
    place = {category: i for i, category in enumerate([*ids, ""])}
    counts = np.zeros((len(place), len(place)))
    for cell in cells:
        counts[place[cell["true_id"]], place[cell["predicted_id"]]] += int(cell["count"])
    return _of_rows(counts)


def _of_rows(counts: Matrix) -> Matrix:
    """Shares of the rows; NaN, which is drawn in grey, where there is nothing to share."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)


def _grey_note(shares: Matrix) -> str:
    return "; grey: a row without any" if np.isnan(shares).any() else ""


def _colours() -> Colormap:
    import matplotlib as mpl

    return mpl.colormaps["Blues"].with_extremes(bad=_NOTHING_THERE)


def _joined(shares: Matrix) -> tuple[Matrix, list[float]]:
    """The cells to draw and their edges: runs of classes that show the largest share, and the background by itself.

    The background is a fortieth of the classes wide, so that it can be seen.
    """
    classes = len(shares) - 1
    width = max(-(-classes // MOST_CELLS), 1)
    starts = [*range(0, classes, width), classes]
    # of NaN and a number the number
    shown: Matrix = np.fmax.reduceat(np.fmax.reduceat(shares, starts, axis=0), starts, axis=1)
    return shown, [*map(float, starts), classes + max(1.0, classes / 40)]


def _ticks(classes: Rows, *, named: bool) -> tuple[list[float], list[str]]:
    """Where to write what along both axes: the classes, or the groups in the middle of theirs."""
    if named:
        labels = [category_label(row["name"], int(row["category_id"]), 18) for row in classes]
        return [i + 0.5 for i in range(len(classes))], labels
    edges = [0, *_borders(classes), len(classes)]
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    names = [classes[int(middle)]["group"] for middle in middles]
    # a single run may be of many groups that lie mixed, or of none
    return (middles, names) if len(middles) > 1 else ([], [])


def _borders(classes: Sequence[Mapping[str, str]]) -> list[int]:
    """Where one group ends and the next begins; none where groups of any partition lie mixed."""
    names = [row["group"] for row in classes]
    found = [i for i in range(1, len(names)) if names[i] != names[i - 1]]
    return found if len(found) < len(set(names)) else []


def _titles(axes: Axes, title: str, cells: Rows) -> None:
    above = f"detected as (score above {cells[0]['score_above']}, IoU at least {FOUND_IOU})" if cells else "detected as"
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(above, fontsize=8)
    axes.set_ylabel("object", fontsize=8)
