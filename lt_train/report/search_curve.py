"""AP over the values of an option: overall, and in each group of training instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_data.pictures.figures import COLOURS, new_figure, save_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# all classes alone are black, the last of the colours
ALL_CLASSES = COLOURS[-1]
GROUPS = COLOURS[:-1]


def plot_search(
    path: Path, option: str, values: Sequence[float], metrics: Sequence[Mapping[str, Any]], *, mark: str = ""
) -> None:
    """Draws box AP in percent over the values of an option, one line for all classes and one for each group.

    Args:
        path: The PNG file to write; an existing one is replaced.
        option: Name of the option.
        values: V values, ascending.
        metrics: Content of ``metrics.json`` for each of them.
        mark: What was measured on, for the title.

    Raises:
        OutputError: The picture cannot be written.
    """
    save_figure(search_figure(option, values, metrics, mark=mark), path)


def search_figure(
    option: str, values: Sequence[float], metrics: Sequence[Mapping[str, Any]], *, mark: str = ""
) -> Figure:
    """The figure of :func:`plot_search`, with the same arguments."""
    groups = list(metrics[0]["bbox"]["groups"])
    # a line of the legend takes 0.22 inches
    figure = new_figure(7.0, max(4.4, 0.22 * len(groups) + 1))
    axes = figure.subplots()
    points = _percent([one["bbox"]["AP"] for one in metrics])
    axes.plot(values, points, label="all classes", marker="o", markersize=4, lw=2.5, color=ALL_CLASSES)
    for i, name in enumerate(groups):
        points = _percent([one["bbox"]["groups"][name] for one in metrics])
        axes.plot(values, points, label=f"{name} instances", marker="o", markersize=4, lw=1.5, **_style(i))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(option)
    axes.set_ylabel("box AP in percent")
    axes.set_title(f"Box AP by {option}" + (f"\n{mark}" if mark else ""))
    tidy(axes)
    # long enough a sample to show the longer patterns
    axes.legend(
        frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=4 if len(groups) > len(GROUPS) else 2
    )
    return figure


def _percent(shares: Sequence[float | None]) -> list[float]:
    return [float("nan") if share is None else 100 * share for share in shares]


def _style(group: int) -> dict[str, Any]:
    """Colour and line of a group: the colours in turn, drawn out first, then a dash and ever more dots."""
    turn, colour = divmod(group, len(GROUPS))
    line = (0, (4, 1.5, *(1, 1.5) * (turn - 1))) if turn else "solid"
    return {"color": GROUPS[colour], "linestyle": line}
