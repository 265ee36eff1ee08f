"""Figures of the runs of a study: rows of a CSV file, spreads over seeds, a table with the best first."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lt_data.machine import processor
from lt_train.evaluation.directory import read_metrics
from lt_train.report.two_runs import Spread, spread_of

# a row of the CSV file by column; figures in percent, empty where nothing was measured
Row = Mapping[str, str]
BEFORE: Final = ("date", "machine", "torch", "recipe", "run", "how", "seed", "seconds", "processor_seconds")
# two standard errors: about 95 of 100 differences of nothing but seeds are smaller
ERRORS: Final = 2.0


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        name: Of its row.
        how: What is different from the baseline.
        recipe: Its name.
        seed: Of the run.
        path: Run directory, or the directory of an evaluation.
        seconds: Wall and processor time.
    """

    name: str
    how: str
    recipe: str
    seed: int
    path: Path
    seconds: tuple[float, float]

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of its ``metrics.json``."""
        inside = self.path / "eval"
        return read_metrics(inside if inside.is_dir() else self.path)

    @property
    def environment(self) -> Mapping[str, Any]:
        """Where it ran; nothing where it is an evaluation alone."""
        path = self.path / "environment.json"
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return content


def groups_of(metrics: Mapping[str, Any]) -> dict[str, int]:
    """Classes of each group by its name, the rarest first."""
    return dict(metrics["counts"]["classes"]["groups"])


def figures_of(metrics: Mapping[str, Any]) -> dict[str, str]:
    """AP, AP50 and AP of every group in percent; those of masks have ``segm`` before their name."""
    found: dict[str, str] = {}
    for kind, before in (("bbox", ""), ("segm", "segm ")):
        if kind in metrics:
            block = metrics[kind]
            values = {"AP": block["AP"], "AP50": block["AP50"], **block["groups"]}
            found |= {f"{before}{name}": "" if v is None else f"{100 * v:.2f}" for name, v in values.items()}
    return found


def rows_of(results: Sequence[Result]) -> list[Row]:
    """Rows of the CSV file.

    Args:
        results: Finished runs.
    """
    rows: list[Row] = []
    for result in results:
        made = result.environment
        device = made.get("gpu") or f"{made.get('processor') or processor()}, {made.get('threads', 1)} threads"
        torch = made.get("packages", {}).get("torch", "")
        cells = (made.get("date", "")[:10], device, torch, result.recipe, result.name, result.how, str(result.seed))
        times = (f"{result.seconds[0]:.0f}", f"{result.seconds[1]:.0f}")
        rows.append({**dict(zip(BEFORE, (*cells, *times), strict=True)), **figures_of(result.metrics)})
    return rows


def columns_of(rows: Sequence[Row]) -> list[str]:
    """All columns that one of the rows has, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row))


def spreads(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, dict[str, Spread | None]]:
    """By run, in the order of the first rows, and by column: mean, smallest and largest over the seeds."""
    return {
        name: {column: spread_of(_values(rows, name, column)) for column in columns}
        for name in dict.fromkeys(row["run"] for row in rows)
    }


def _values(rows: Sequence[Row], run: str, column: str) -> list[float | None]:
    return [float(row[column]) if row.get(column) else None for row in rows if row["run"] == run]


def best_first(rows: Sequence[Row], column: str = "AP") -> list[str]:
    """The runs by their mean, the best first; those without any figure come last."""
    means = {name: found[column] for name, found in spreads(rows, [column]).items()}
    return sorted(means, key=lambda name: -math.inf if (found := means[name]) is None else found.mean, reverse=True)


def noise_of_seeds(rows: Sequence[Row], column: str = "AP") -> float | None:
    """Standard deviation of a figure over the seeds of a run, all runs together; ``None`` for one seed of each."""
    squares, degrees = 0.0, 0
    for name in dict.fromkeys(row["run"] for row in rows):
        values = [value for value in _values(rows, name, column) if value is not None]
        mean = sum(values) / max(len(values), 1)
        squares += sum((value - mean) ** 2 for value in values)
        degrees += max(len(values) - 1, 0)
    return math.sqrt(squares / degrees) if degrees else None


def alike(rows: Sequence[Row], column: str = "AP") -> dict[str, tuple[int, int]]:
    """By run, the best and the worst place (from 1) among those that it is within noise of; nothing for one seed.

    Two means are within noise of each other where they differ by less than two standard errors of their difference;
    the variance of a run over seeds is that of all runs together.
    """
    noise, order = noise_of_seeds(rows, column), best_first(rows, column)
    if noise is None:
        return {}
    found = {name: spread for name, by in spreads(rows, [column]).items() if (spread := by[column]) is not None}
    places = {}
    for name, own in found.items():
        near = [
            order.index(other)
            for other, spread in found.items()
            if abs(spread.mean - own.mean) <= ERRORS * noise * math.sqrt(1 / own.count + 1 / spread.count)
        ]
        places[name] = (min(near) + 1, max(near) + 1)
    return places


def markdown(rows: Sequence[Row], classes: Mapping[str, int], *, column: str = "AP", seconds: str = "seconds") -> str:
    """The table, the best first: mean (smallest..largest) over the seeds, seconds, and what is within noise.

    Args:
        rows: Of the CSV file.
        classes: Classes of each group by name.
        column: What they are ordered by.
        seconds: The column of the time, ``seconds`` or ``processor_seconds``.
    """
    shown = [name for name in columns_of(rows) if name not in BEFORE] + [seconds]
    titles = [f"{name}, {classes[name]} classes" if name in classes else name for name in shown]
    titles[-1] = seconds.replace("_", " ")
    lines = ["| | run | " + " | ".join(titles) + " | seeds | within noise of |", "|---" * (len(shown) + 4) + "|"]
    places, found = alike(rows, column), spreads(rows, shown)
    for place, run in enumerate(best_first(rows, column), start=1):
        cells = [_cell(found[run][name], 0 if name == seconds else 1) for name in shown]
        seeds = sum(row["run"] == run for row in rows)
        near = f"{places[run][0]} to {places[run][1]}" if run in places else "-"
        lines.append(f"| {place} | {run} | " + " | ".join(cells) + f" | {seeds} | {near} |")
    return "\n".join([*lines, "", _legend(rows, column)])


def _legend(rows: Sequence[Row], column: str) -> str:
    noise = noise_of_seeds(rows, column)
    told = "Percent; mean (smallest..largest) over the seeds; the best first."
    if noise is None:
        return f"{told} One seed each: how much of a difference is noise cannot be told; give --seeds 3."
    return (
        f"{told} Within noise of: the places whose {column} differs by less than two standard errors of the "
        f"difference; a seed moves {column} by {noise:.2f} points (standard deviation, all runs together)."
    )


def _cell(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return "-"
    if spread.count == 1:
        return f"{spread.mean:.{digits}f}"
    return f"{spread.mean:.{digits}f} ({spread.low:.{digits}f}..{spread.high:.{digits}f})"


def labelled(rows: Sequence[Row]) -> dict[str, str]:
    """A label of each run: its name, and how many seeds it has where others have more.

    Args:
        rows: Of the CSV file.
    """
    seeds = Counter(row["run"] for row in rows)
    most = max(seeds.values(), default=0)
    return {
        run: run if number == most else f"{run} ({number} seed{'s' * (number > 1)})" for run, number in seeds.items()
    }
