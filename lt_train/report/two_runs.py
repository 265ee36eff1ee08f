"""Two runs side by side: AP, AP50 and every group, in percent, with the difference in points.

Metrics are dicts in the format of ``eval/metrics.json`` (schema 1); fractions there, percent here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lt_data.errors import DataError

Metrics = Mapping[str, Any]
Row = tuple[str, float | None, float | None, float | None]


@dataclass(frozen=True)
class Spread:
    """Mean and extremes of one figure over several seeds, in percent or points.

    Attributes:
        mean: Arithmetic mean.
        low: Smallest value.
        high: Largest value.
        count: Seeds in which it could be measured.
    """

    mean: float
    low: float
    high: float
    count: int


def comparison_rows(baseline: Metrics, other: Metrics, *, iou_type: str) -> list[Row]:
    """AP, AP50 and the AP of every group of two runs.

    Args:
        baseline: Content of the first run's ``metrics.json``.
        other: Content of the second run's.
        iou_type: ``bbox`` or ``segm``.

    Returns:
        (name, baseline in percent, other in percent, other - baseline in points); None where nothing was measured.

    Raises:
        DataError: A run lacks ``iou_type``, or the runs have different groups.
    """
    groups = shared_groups([baseline, other], iou_type)
    first, second = _figures(baseline, iou_type, groups), _figures(other, iou_type, groups)
    return [(name, first[name], second[name], _difference(first[name], second[name])) for name in first]


def format_runs(baseline: Metrics, other: Metrics, *, names: tuple[str, str], iou_types: Sequence[str]) -> str:
    """The rows of ``comparison_rows`` as a table of fixed width, one block per IoU type.

    Args:
        baseline: Content of the first run's ``metrics.json``.
        other: Content of the second run's.
        names: What to call the two.
        iou_types: ``bbox`` and/or ``segm``, in the order of the blocks.

    Returns:
        Percent with one decimal, ``-`` where nothing was measured; ends without a line break.

    Raises:
        DataError: A run lacks an IoU type, or the runs have different groups.
    """
    blocks = []
    for iou_type in iou_types:
        rows = comparison_rows(baseline, other, iou_type=iou_type)
        cells = [[_percent(first), _percent(second), _points(difference)] for _, first, second, difference in rows]
        sizes = [class_count([baseline, other], name) for name, *_ in rows]
        blocks.append(_table(iou_type, names, [row[0] for row in rows], sizes, cells))
    return "\n\n".join(blocks)


def mean_comparison(
    pairs: Sequence[tuple[Metrics, Metrics]], *, names: tuple[str, str], iou_types: Sequence[str]
) -> str:
    """The same table over several seeds: mean and, in brackets, smallest and largest value of each cell.

    The last column is over the differences within each pair, so what a seed does to both runs alike cancels.

    Args:
        pairs: (baseline, other) of each seed, at least one.
        names: What to call the two.
        iou_types: ``bbox`` and/or ``segm``, in the order of the blocks.

    Raises:
        DataError: No pair, a run that lacks an IoU type, or runs with different groups.
    """
    everything = [metrics for pair in pairs for metrics in pair]
    blocks = []
    for iou_type in iou_types:
        rows = mean_rows(pairs, iou_type=iou_type)
        cells = [
            [_spread(first), _spread(second), _spread(difference, sign="+")] for _, first, second, difference in rows
        ]
        sizes = [class_count(everything, name) for name, *_ in rows]
        blocks.append(_table(iou_type, names, [row[0] for row in rows], sizes, cells))
    seeds = "1 seed" if len(pairs) == 1 else f"{len(pairs)} seeds"
    return "\n\n".join([*blocks, f"mean (smallest..largest) over {seeds}"])


def mean_rows(
    pairs: Sequence[tuple[Metrics, Metrics]], *, iou_type: str
) -> list[tuple[str, Spread | None, Spread | None, Spread | None]]:
    """Mean and extremes of ``comparison_rows`` over several seeds.

    Args:
        pairs: (baseline, other) of each seed, at least one.
        iou_type: ``bbox`` or ``segm``.

    Returns:
        (name, baseline in percent, other in percent, difference in points); None where no seed measured anything.

    Raises:
        DataError: No pair, a run that lacks ``iou_type``, or runs with different groups.
    """
    shared_groups([metrics for pair in pairs for metrics in pair], iou_type)
    tables = [comparison_rows(baseline, other, iou_type=iou_type) for baseline, other in pairs]
    return [
        (rows[0][0], spread_of([r[1] for r in rows]), spread_of([r[2] for r in rows]), spread_of([r[3] for r in rows]))
        for rows in zip(*tables, strict=True)
    ]


def spread_of(values: Sequence[float | None]) -> Spread | None:
    """Mean and extremes of the values that are there; None if none is."""
    measured = [value for value in values if value is not None]
    if not measured:
        return None
    return Spread(sum(measured) / len(measured), min(measured), max(measured), len(measured))


def shared_groups(metrics: Sequence[Metrics], iou_type: str) -> tuple[str, ...]:
    """Names of the groups, in order, once all runs are known to have the same ones.

    Raises:
        DataError: No run, a run that lacks ``iou_type``, or runs with different groups.
    """
    if not metrics:
        raise DataError("nothing to compare: give at least one run's metrics.json")
    for content in metrics:
        if iou_type not in content:
            have = ", ".join(key for key in ("bbox", "segm") if key in content) or "neither bbox nor segm"
            raise DataError(f"metrics: no {iou_type} results ({have}); evaluate the run with {iou_type} first")
    groups = tuple(metrics[0][iou_type]["groups"])
    for content in metrics[1:]:
        others = tuple(content[iou_type]["groups"])
        if others != groups:
            raise DataError(
                f"metrics: runs with different groups cannot be compared: {', '.join(groups) or 'none'} and "
                f"{', '.join(others) or 'none'}; evaluate both with the same groups file"
            )
    return groups


def _figures(metrics: Metrics, iou_type: str, groups: Sequence[str]) -> dict[str, float | None]:
    """Name -> percent, in the order of the rows."""
    block = metrics[iou_type]
    fractions = {"AP": block["AP"], "AP50": block["AP50"], **{group: block["groups"][group] for group in groups}}
    return {name: None if value is None else 100.0 * value for name, value in fractions.items()}


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else second - first


def class_count(metrics: Sequence[Metrics], name: str) -> str:
    """Number of classes of a row; a range where it differs between runs."""
    classes = [content["counts"]["classes"] for content in metrics]
    counts = [c["AP"] if name in ("AP", "AP50") else c["groups"][name] for c in classes]
    return f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)}..{max(counts)}"


def _table(
    iou_type: str, names: tuple[str, str], rows: Sequence[str], sizes: Sequence[str], cells: Sequence[Sequence[str]]
) -> str:
    """Lines of one block: row names to the left, everything else to the right of its column."""
    header = ["", "classes", *names, "change"]
    lines = [[name, size, *row] for name, size, row in zip(rows, sizes, cells, strict=True)]
    header[0] = iou_type
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(pair))
        for pair in (list(zip(line, widths, strict=True)) for line in [header, *lines])
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _spread(spread: Spread | None, sign: str = "") -> str:
    if spread is None:
        return "-"
    return f"{spread.mean:{sign}.1f} ({spread.low:{sign}.1f}..{spread.high:{sign}.1f})"
