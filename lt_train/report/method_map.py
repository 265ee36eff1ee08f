"""A picture of many methods: AP against AP of the rarest classes, a point for each with its spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lt_data.pictures.figures import COLOURS, new_figure, save_figure, tidy
from lt_train.report.two_runs import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox, BboxBase

# pixels around a point that belong to it, and points of paper up to which a name stands beside its point
_NEAR: Final = 5
_BESIDE: Final = 9
# where a name may stand, in points from its point, the first that is free: right, left, above, below, further away
_AROUND: Final = tuple(
    (x * step, y * step, {5: "left", -5: "right", 0: "center"}[x])
    for step in (1.0, 1.8, 2.6, 3.4)
    for x, y in ((5, 4), (5, -4), (-5, 4), (-5, -4), (0, 8), (0, -8))
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
    _write_names(axes, points)
    save_figure(figure, path)


def _write_names(axes: Axes, points: Mapping[str, tuple[Spread, Spread]]) -> None:
    """Writes each name beside its point, where it covers least of what is drawn and of other names."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    # where things come to lie is known only then
    figure.draw_without_rendering()
    taken: list[BboxBase] = [box for overall, rarest in points.values() for box in _drawn(axes, overall, rarest)]
    for name, (overall, rarest) in points.items():
        taken.append(_write_name(axes, name, (overall.mean, rarest.mean), taken))


def _write_name(axes: Axes, name: str, point: tuple[float, float], taken: Sequence[BboxBase]) -> BboxBase:
    """Writes one name at the first place that covers least; where it lies."""
    best: tuple[float, Annotation, BboxBase] | None = None
    for place in _AROUND:
        text = _name_at(axes, name, point, place)
        box = _box_of(text)
        covered = _covered(box, taken, axes.bbox)
        if best is not None and covered >= best[0]:
            text.remove()
            continue
        if best is not None:
            best[1].remove()
        best = (covered, text, box)
        if covered == 0:
            break
    assert best is not None
    return best[2]


def _drawn(axes: Axes, overall: Spread, rarest: Spread) -> list[Bbox]:
    """What a point and its spread cover, in pixels; a name nearer than that would seem to be its."""
    from matplotlib.transforms import Bbox

    corners = [(overall.low, rarest.mean), (overall.high, rarest.mean), (overall.mean, rarest.low)]
    corners += [(overall.mean, rarest.high), (overall.mean, rarest.mean)]
    (left, y), (right, _), (x, bottom), (_, top), _ = axes.transData.transform(corners)
    point = Bbox.from_bounds(x - _NEAR, y - _NEAR, 2 * _NEAR, 2 * _NEAR)
    return [point, Bbox.from_extents(left, y - 1, right, y + 1), Bbox.from_extents(x - 1, bottom, x + 1, top)]


def _name_at(axes: Axes, name: str, point: tuple[float, float], place: tuple[float, float, str]) -> Annotation:
    """The name there; a line leads to a point that is not beside it."""
    x, y, side = place
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#888888"} if math.hypot(x, y) > _BESIDE else None
    text = axes.annotate(
        name, point, xytext=(x, y), textcoords="offset points", fontsize=7, ha=side, va="center", arrowprops=line
    )
    # names must not move the axes that they were placed in
    text.set_in_layout(False)
    return text


def _box_of(name: Annotation) -> BboxBase:
    """Where it lies without the line to its point."""
    from matplotlib.text import Text

    # puts it there, and measures the line with it
    name.get_window_extent()
    return Text.get_window_extent(name)


def _covered(box: BboxBase, taken: Sequence[BboxBase], inside: BboxBase) -> float:
    """Square pixels of a name on other things, and outside."""
    outside = box.width * box.height - _common_area(box, inside)
    return float(outside) + sum(_common_area(box, other) for other in taken)


def _common_area(first: BboxBase, second: BboxBase) -> float:
    from matplotlib.transforms import Bbox

    both = Bbox.intersection(first, second)
    return 0.0 if both is None else float(both.width * both.height)
