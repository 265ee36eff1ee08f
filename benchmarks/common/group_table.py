"""A picture of AP per group of runs over several seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from lt_data.pictures.figures import COLOURS, new_figure, save_figure, tidy
from lt_train.studies.table import Row, labelled, spreads


def best_runs(rows: Sequence[Row], number: int, without: Sequence[str] = ()) -> list[str]:
    """The runs with the largest mean AP, the best first."""
    means = {name: found["AP"].mean for name, found in spreads(rows, ["AP"]).items() if found["AP"] is not None}
    return sorted((name for name in means if name not in without), key=lambda name: -means[name])[:number]


def plot_groups(
    path: Path, rows: Sequence[Row], runs: Sequence[str], columns: Sequence[str], classes: Mapping[str, int]
) -> None:
    """Draws the mean of each figure as a bar and smallest to largest over the seeds as a line on it.

    Args:
        path: The PNG file to write; an existing one is replaced.
        rows: Of the CSV file.
        runs: Which to draw.
        columns: Which figures.
        classes: Number of classes by column, where one is known.
    """
    found = spreads(rows, columns)
    drawn_rows = [row for row in rows if row["run"] in runs]
    label, most = labelled(drawn_rows), max(Counter(row["run"] for row in drawn_rows).values())
    figure = new_figure(max(7.0, 1.4 + len(columns) * (0.6 + 0.42 * len(runs))), 4.4)
    axes = figure.subplots()
    width = 0.8 / len(runs)
    for i, run in enumerate(runs):
        drawn = [(k, spread) for k, column in enumerate(columns) if (spread := found[run][column]) is not None]
        places = [k + (i - (len(runs) - 1) / 2) * width for k, _ in drawn]
        means = [spread.mean for _, spread in drawn]
        reach = [[s.mean - s.low for _, s in drawn], [s.high - s.mean for _, s in drawn]]
        axes.bar(places, means, width=0.92 * width, color=COLOURS[i % len(COLOURS)], label=label[run])
        axes.errorbar(places, means, yerr=reach, fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
    labels = [f"{name}\n{classes[name]} classes" if name in classes else name for name in columns]
    axes.set_xticks(range(len(columns)), labels)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.12)
    axes.set_ylabel("box AP in percent")
    told = "1 seed" if most == 1 else f"mean of {most} seeds, line: smallest to largest"
    axes.set_title(f"box AP by number of training instances ({told})", pad=26)
    tidy(axes)
    axes.legend(frameon=False, ncols=len(runs), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    save_figure(figure, path)
