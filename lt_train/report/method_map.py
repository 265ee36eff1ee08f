"""A picture of many methods: AP against AP of the rarest classes, a point for each with its spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lt_data.pictures.figures import COLOURS, new_figure, save_figure, tidy
from lt_train.report.two_runs import Spread


def plot_methods(
    path: Path, points: Mapping[str, tuple[Spread, Spread]], *, labels: tuple[str, str], marked: str = ""
) -> None:
    """Draws the means as points with the name of the method, smallest to largest over the seeds as lines.

    Args:
        path: The PNG file to write; an existing one is replaced.
        points: AP overall and of the rarest classes by method, in percent.
        labels: Of the two axes.
        marked: The method that the others are compared with.
    """
    figure = new_figure(8.0, 6.0)
    axes = figure.subplots()
    for name, (overall, rarest) in points.items():
        colour = COLOURS[1] if name == marked else COLOURS[0]
        reach = [[[s.mean - s.low], [s.high - s.mean]] for s in (overall, rarest)]
        axes.errorbar(
            [overall.mean],
            [rarest.mean],
            xerr=reach[0],
            yerr=reach[1],
            fmt="o",
            color=colour,
            markersize=4,
            linewidth=1,
        )
        axes.annotate(name, (overall.mean, rarest.mean), xytext=(4, 3), textcoords="offset points", fontsize=7)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.margins(0.08)
    tidy(axes)
    save_figure(figure, path)
