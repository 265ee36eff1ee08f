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
from lt_data.pictures.figures import COLOURS, new_figure, plain, save_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_COLUMNS = 4
# inches down of the panel of a total and of a row of parts
_TOTAL, _ROW = 3.2, 2.0
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


def plot_loss_curves(
    path: Path, runs: Mapping[str, Path], *, head_groups: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Draws the losses of each run in panels of its own: the total, and below one small panel for each of its parts.

    Losses of different runs never share an axis: what a method adds up is not what another one does, and a lower curve
    says nothing of a better detector. Raw values are faint; the losses of the validation data, where the run has them,
    are dots on a broken line.

    Args:
        path: The PNG file to write; an existing one is replaced.
        runs: Name of each run and its ``metrics.jsonl``.
        head_groups: For a run whose head has a loss for each group of classes, the names of the groups.

    Raises:
        DataError: A file cannot be read or holds no losses, or there is no run.
        OutputError: The picture cannot be written.
    """
    save_figure(loss_figure(runs, head_groups=head_groups), path)


def loss_figure(runs: Mapping[str, Path], *, head_groups: Mapping[str, Sequence[str]] | None = None) -> Figure:
    """The figure of :func:`plot_loss_curves`, with the same arguments."""
    records = {name: read_metrics(Path(file)) for name, file in runs.items()}
    problems = [f"{runs[name]}: no line has a loss" for name, lines in records.items() if not _losses(lines)]
    if problems or not runs:
        raise DataError(problems or "no run to draw: give at least one metrics.jsonl")
    heights = [_TOTAL + _ROW * _rows(lines) for lines in records.values()]
    figure = new_figure(11, sum(heights))
    blocks = figure.subfigures(len(runs), 1, height_ratios=heights, squeeze=False)[:, 0]
    for i, (part, (run, lines)) in enumerate(zip(blocks, records.items(), strict=True)):
        _draw_run(part, run, lines, COLOURS[i % len(COLOURS)], (head_groups or {}).get(run, ()))
    return figure


def _draw_run(
    figure: SubFigure, run: str, lines: Sequence[Mapping[str, Any]], colour: str, groups: Sequence[str]
) -> None:
    """The panels of one run."""
    parts, rows = _parts(lines), _rows(lines)
    grid = figure.add_gridspec(1 + rows, _COLUMNS, height_ratios=[_TOTAL] + [_ROW] * rows)
    total = figure.add_subplot(grid[0, :])
    _draw(total, lines, "loss", f"{plain(run)}: total loss", colour)
    total.set_xlabel("step")
    if any("eval/loss" in record for record in lines):
        total.legend(frameon=False)
    for i, part in enumerate(parts):
        axes = figure.add_subplot(grid[1 + i // _COLUMNS, i % _COLUMNS])
        _draw(axes, lines, part, loss_title(part, groups), colour)


def loss_title(name: str, groups: Sequence[str] = ()) -> str:
    """What a loss is called in a picture.

    Args:
        name: As in ``metrics.jsonl``, for example ``loss_group_2``; the number of a stage may stand in front.
        groups: Names of the groups of classes that the head has a loss for each; empty where they have no names.
    """
    stage, _, short = name.rpartition("loss_")
    number = short.removeprefix("group_")
    if number == short or not number.isdecimal():
        return f"{stage}{short}"
    if number == "0":
        return f"{stage}gate: object or background"
    return f"{stage}group {number}" + (f": {groups[int(number) - 1]}" if int(number) <= len(groups) else "")


def _draw(axes: Axes, lines: Sequence[Mapping[str, Any]], name: str, title: str, colour: str) -> None:
    """One loss of a run, in training and, if it was computed, on the validation data."""
    steps, values = loss_series(lines, name)
    axes.plot(steps, values, color=colour, alpha=0.25, lw=0.8)
    axes.plot(steps, smooth(values), color=colour, lw=1.6, label="training, running mean")
    seen, losses = _validation_series(lines, name)
    if len(seen):
        axes.plot(seen, losses, "o--", color="#000000", ms=3.5, lw=1.0, label="validation")
    axes.set_title(title, fontsize=9)
    axes.set_ylim(bottom=0)
    tidy(axes)


def _validation_series(records: Sequence[Mapping[str, Any]], name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Steps and values of a loss of the validation data, as :func:`loss_series` has those of training."""
    found = [{"step": r["step"], "loss": 0.0, name: r[f"eval/{name}"]} for r in records if f"eval/{name}" in r]
    return loss_series(found, name)


def _parts(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The losses that make up the total, in the order in which the run reports them."""
    return [name for name in _losses(lines) if name != "loss"]


def _rows(lines: Sequence[Mapping[str, Any]]) -> int:
    """Rows of small panels."""
    return -(-len(_parts(lines)) // _COLUMNS)


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
