"""AP over the values of an option: overall, and in each group of training instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lt_data.plots import COLOURS, new_figure, save_figure, tidy


def plot_search(path: Path, option: str, values: Sequence[float], metrics: Sequence[Mapping[str, Any]]) -> None:
    """Draws box AP in percent over the values of an option, one line for all classes and one for each group.

    Args:
        path: The PNG file to write; an existing one is replaced.
        option: Name of the option.
        values: V values, ascending.
        metrics: Content of ``metrics.json`` for each of them.

    Raises:
        OutputError: The picture cannot be written.
    """
    figure = new_figure(7.0, 4.4)
    axes = figure.subplots()
    series = {"all classes": [one["bbox"]["AP"] for one in metrics]}
    for name in metrics[0]["bbox"]["groups"]:
        series[f"{name} instances"] = [one["bbox"]["groups"][name] for one in metrics]
    for i, (name, points) in enumerate(series.items()):
        percent = [float("nan") if point is None else 100 * point for point in points]
        style = {"lw": 2.5, "color": "black"} if i == 0 else {"lw": 1.5, "color": COLOURS[i - 1]}
        axes.plot(values, percent, marker="o", markersize=4, label=name, **style)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(option)
    axes.set_ylabel("box AP in percent")
    axes.set_title(f"Box AP by {option}")
    tidy(axes)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)
