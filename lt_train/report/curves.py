"""Loss curves of one or several runs, from their ``metrics.jsonl``.

Shapes: P recorded steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lt_data.errors import DataError
from lt_data.pictures.figures import COLOURS, new_figure, save_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 4
# a part of the loss; those of the stages of a cascade have the number of the stage in front
_PART = re.compile(r"(s\d+\.)?loss_")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a ``metrics.jsonl``, in file order.

    A last line that was cut off by the end of its process is left out.

    Raises:
        DataError: The file cannot be read, or another line is no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give the metrics.jsonl of a run") from None
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    return [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]


def loss_series(records: Sequence[Mapping[str, Any]], name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Steps and values of one loss, ascending by step.

    Records without ``loss`` (evaluations) are left out, and so is what a resumed run did a second time: the later
    record of a step counts.

    Args:
        records: As ``read_metrics`` gives them.
        name: ``loss``, or that of a part of it.

    Returns:
        Steps int64 and values float64, both of shape [P]; NaN where a value was not finite.
    """
    of_step = {int(r["step"]): r[name] for r in records if "loss" in r and "step" in r and name in r}
    steps = np.array(sorted(of_step), np.int64)
    return steps, np.array([np.nan if of_step[s] is None else of_step[s] for s in steps.tolist()], np.float64)


def smooth(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Running mean over about a twentieth of the curve, one-sided at its ends; NaN values do not count.

    Args:
        values: Shape [P].

    Returns:
        Shape [P]; NaN where the whole window is.
    """
    half = len(values) // 40
    known = ~np.isnan(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    number = counts[high] - counts[low]
    mean: npt.NDArray[Any] = np.where(number > 0, (sums[high] - sums[low]) / np.maximum(number, 1), np.nan)
    return mean


def plot_loss_curves(path: Path, runs: Mapping[str, Path]) -> None:
    """Draws the total loss of each run and, below, one small panel for each of its parts; raw values faint.

    Args:
        path: The PNG file to write; an existing one is replaced.
        runs: Name of each run and its ``metrics.jsonl``.

    Raises:
        DataError: A file cannot be read or holds no losses, or there is no run.
        OutputError: The picture cannot be written.
    """
    records = {name: read_metrics(Path(file)) for name, file in runs.items()}
    problems = [f"{runs[name]}: no line has a loss" for name, lines in records.items() if not _losses(lines)]
    if problems or not runs:
        raise DataError(problems or "no run to draw: give at least one metrics.jsonl")
    # in the order in which the runs report them
    parts = list(dict.fromkeys(key for lines in records.values() for key in _losses(lines) if key != "loss"))
    rows = -(-len(parts) // _COLUMNS)
    figure = new_figure(11, 3.6 + 2.0 * rows)
    grid = figure.add_gridspec(1 + rows, _COLUMNS, height_ratios=[1.7] + [1.0] * rows)
    total = figure.add_subplot(grid[0, :])
    _draw(total, records, "loss", "total loss")
    total.set_xlabel("step")
    total.legend(frameon=False)
    for i, part in enumerate(parts):
        axes = figure.add_subplot(grid[1 + i // _COLUMNS, i % _COLUMNS])
        _draw(axes, records, part, part.replace("loss_", ""))
    save_figure(figure, path)


def _draw(axes: Axes, records: Mapping[str, Sequence[Mapping[str, Any]]], name: str, title: str) -> None:
    """One loss of every run that has it."""
    for i, (run, lines) in enumerate(records.items()):
        steps, values = loss_series(lines, name)
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(steps, values, color=colour, alpha=0.25, lw=0.8)
        axes.plot(steps, smooth(values), color=colour, lw=1.6, label=run)
    axes.set_title(title, fontsize=9)
    axes.set_ylim(bottom=0)
    tidy(axes)


def _losses(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the losses that any record with a total has, in order."""
    names = (key for r in records if "loss" in r for key in r if key == "loss" or _PART.match(key))
    return list(dict.fromkeys(names))


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise DataError(f"{where}: not a JSON object: {line.strip()[:60]!r}; remove the line")
    return record
