"""AP of every group as bars, one colour per run: what the average over all classes hides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_data.pictures.figures import COLOURS, new_figure, save_figure, tidy
from lt_train.evaluation.figures.table import percent
from lt_train.report.axes import top_of
from lt_train.report.two_runs import class_count, shared_groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLES = {"bbox": "box", "segm": "mask"}


def plot_group_ap(path: Path, metrics: Mapping[str, dict[str, Any]], iou_type: str = "bbox") -> None:
    """Draws AP and the AP of each group for each run, in percent, with the number of classes below.

    Args:
        path: The PNG file to write; an existing one is replaced.
        metrics: Name of each run and the content of its ``metrics.json``.
        iou_type: ``bbox`` or ``segm``.

    Raises:
        DataError: No run, a run that lacks ``iou_type``, or runs with different groups.
        OutputError: The picture cannot be written.
    """
    contents = list(metrics.values())
    names = ["AP", *shared_groups(contents, iou_type)]
    figure = new_figure(max(7.0, 1.4 + len(names) * (0.6 + 0.5 * len(metrics))), 4.4)
    axes = figure.subplots()
    width = 0.8 / len(metrics)
    for i, (run, content) in enumerate(metrics.items()):
        block = content[iou_type]
        values = [block["AP"], *(block["groups"][name] for name in names[1:])]
        places = [k + (i - (len(metrics) - 1) / 2) * width for k in range(len(names))]
        _draw_run(axes, run, COLOURS[i % len(COLOURS)], places, values, width)
    labels = [f"{name}\n{_classes(class_count(contents, name))}" for name in names]
    axes.set_xticks(range(len(names)), labels)
    axes.axvline(0.5, color="#BBBBBB", lw=0.8)
    axes.set_xlim(-0.5, len(names) - 0.5)
    shown = [content[iou_type]["groups"].values() for content in contents]
    axes.set_ylim(0, top_of(100 * value for values in shown for value in values if value is not None))
    axes.set_ylabel(f"{_TITLES[iou_type]} AP in percent")
    axes.set_title(f"{_TITLES[iou_type]} AP by number of training instances", pad=26)
    tidy(axes)
    axes.legend(frameon=False, ncols=len(metrics), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    save_figure(figure, path)


def _draw_run(axes: Axes, run: str, colour: str, places: list[float], values: list[float | None], width: float) -> None:
    """The bars of one run; where nothing was measured, ``-`` stands in place of a bar."""
    heights = [0.0 if value is None else 100 * value for value in values]
    bars = axes.bar(places, heights, width=0.92 * width, color=colour, label=run)
    axes.bar_label(bars, [_figure(value) for value in values], padding=2, fontsize=8)


def _figure(value: float | None) -> str:
    """Percent as in the tables; more decimals where one would make something nothing."""
    return f"{100 * value:.2g}" if value is not None and 0 < value < 0.0005 else percent(value)


def _classes(count: str) -> str:
    return f"{count} class" if count == "1" else f"{count} classes"
