"""Figures of runs over several seeds: rows of a CSV file, a table, and a picture of AP per group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lt_data.pictures.figures import COLOURS, new_figure, save_figure, tidy
from lt_train.report.two_runs import Spread, spread_of

# a row of the CSV file by column; figures in percent, empty where nothing was measured
Row = Mapping[str, str]


def figures_of(metrics: Mapping[str, Any], groups: Sequence[str]) -> dict[str, str]:
    """Box AP, AP50 and AP of every group in percent, as the cells of a row."""
    box = metrics["bbox"]
    values = {"AP": box["AP"], "AP50": box["AP50"], **{name: box["groups"][name] for name in groups}}
    return {name: "" if value is None else f"{100 * value:.2f}" for name, value in values.items()}


def spreads(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, dict[str, Spread | None]]:
    """By run, in the order of the first rows, and by column: mean, smallest and largest over the seeds."""
    names = list(dict.fromkeys(row["run"] for row in rows))
    return {
        name: {
            column: spread_of([float(row[column]) if row[column] else None for row in rows if row["run"] == name])
            for column in columns
        }
        for name in names
    }


def markdown(rows: Sequence[Row], columns: Sequence[str], classes: Mapping[str, int]) -> str:
    """The table: mean (smallest..largest) over the seeds of each run, and how many there are.

    Args:
        rows: Of the CSV file.
        columns: That the table has, after the run's name.
        classes: Number of classes by column, where one is known.
    """
    titles = [f"{name}, {classes[name]} classes" if name in classes else name for name in columns]
    lines = ["| run | " + " | ".join(titles) + " | seeds |", "|---" * (len(columns) + 2) + "|"]
    for run, figures in spreads(rows, columns).items():
        cells = [_cell(figures[column], 0 if column == "seconds" else 1) for column in columns]
        seeds = sum(row["run"] == run for row in rows)
        lines.append(f"| {run} | " + " | ".join(cells) + f" | {seeds} |")
    return "\n".join([*lines, "", "Percent; mean (smallest..largest) over the seeds."])


def _cell(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return "-"
    if spread.count == 1:
        return f"{spread.mean:.{digits}f}"
    return f"{spread.mean:.{digits}f} ({spread.low:.{digits}f}..{spread.high:.{digits}f})"


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
    figure = new_figure(max(7.0, 1.4 + len(columns) * (0.6 + 0.42 * len(runs))), 4.4)
    axes = figure.subplots()
    width = 0.8 / len(runs)
    for i, run in enumerate(runs):
        drawn = [(k, spread) for k, column in enumerate(columns) if (spread := found[run][column]) is not None]
        places = [k + (i - (len(runs) - 1) / 2) * width for k, _ in drawn]
        means = [spread.mean for _, spread in drawn]
        reach = [[s.mean - s.low for _, s in drawn], [s.high - s.mean for _, s in drawn]]
        axes.bar(places, means, width=0.92 * width, color=COLOURS[i % len(COLOURS)], label=run)
        axes.errorbar(places, means, yerr=reach, fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
    labels = [f"{name}\n{classes[name]} classes" if name in classes else name for name in columns]
    axes.set_xticks(range(len(columns)), labels)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.12)
    axes.set_ylabel("box AP in percent")
    seeds = max(sum(row["run"] == run for row in rows) for run in runs)
    told = "1 seed" if seeds == 1 else f"mean of {seeds} seeds, line: smallest to largest"
    axes.set_title(f"box AP by number of training instances ({told})", pad=26)
    tidy(axes)
    axes.legend(frameon=False, ncols=len(runs), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    save_figure(figure, path)
