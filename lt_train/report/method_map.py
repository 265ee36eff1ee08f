"""A picture of many methods: AP against AP of the rarest classes, a point for each with its spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from matplotlib.transforms import Bbox

from lt_data.pictures.figures import COLOURS, new_figure, save_figure, tidy
from lt_train.report.two_runs import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# where a name may stand, in points from its point, the first that is free: right, left, above, below, further away
_AROUND: Final = tuple(
    (x * step, y * step, {5: "left", -5: "right", 0: "center"}[x])
    for step in (1.0, 1.8, 2.6, 3.4)
    for x, y, side in (
        (5, 4, "left"),
        (5, -4, "left"),
        (-5, 4, "right"),
        (-5, -4, "right"),
        (0, 8, "center"),
        (0, -8, "center"),
    )
)


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
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.margins(0.08)
    tidy(axes)
    _write_names(axes, {name: (overall.mean, rarest.mean) for name, (overall, rarest) in points.items()})
    save_figure(figure, path)


def _write_names(axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Writes each name beside its point, where it covers least of other names and points."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    # where things come to lie is known only then
    figure.draw_without_rendering()
    taken = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in axes.transData.transform(list(places.values()))]
    for name, place in places.items():
        best = None
        for x, y, side in _AROUND:
            text = axes.annotate(
                name, place, xytext=(x, y), textcoords="offset points", fontsize=7, ha=side, va="center"
            )
            box = text.get_window_extent()
            covered = sum(_common_area(box, other) for other in taken)
            if best is None or covered < best[0]:
                if best is not None:
                    best[1].remove()
                best = (covered, text, box)
            else:
                text.remove()
        assert best is not None
        taken.append(best[2])


def _common_area(first: Bbox, second: Bbox) -> float:
    both = Bbox.intersection(first, second)
    return float(both.width * both.height) if both is not None else 0.0
