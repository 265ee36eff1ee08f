"""Measured figures beside published ones, with the checksum that the groups give AP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lt_data.files.writing import write_whole
from lt_train.evaluation.comparison.published import FIGURES, our_figures
from lt_train.report.two_runs import spread_of
from lt_train.studies.paper import PaperRow, checksum
from lt_train.studies.study import Study
from lt_train.studies.table import Result

BESIDE: Final = "published.md"
# points that rounding alone can make
ROUNDING: Final = 1e-4


def format_beside(rows: Sequence[PaperRow], results: Sequence[Result]) -> str:
    """A Markdown table: of each row what is published above what was measured.

    Args:
        rows: Of the paper.
        results: Finished runs; several seeds are averaged.

    Returns:
        Percent; published as printed, ``-`` where nothing was, ours with two decimals.
    """
    measured: dict[str, list[Result]] = {}
    for result in results:
        measured.setdefault(result.name, []).append(result)
    lines = [
        "| table | model | run | | | " + " | ".join(FIGURES) + " | groups give AP |",
        "|---" * (len(FIGURES) + 6) + "|",
    ]
    for row in rows:
        if row.entry.name in measured:
            lines += _lines(row, measured[row.entry.name])
    return "\n".join([*lines, "", *_sources(rows)])


def write_beside(study: Study, rows: Sequence[PaperRow]) -> str:
    """Writes the same as ``published.md`` beside the other tables of a study; empty while no run is finished."""
    results = study.results()
    if not results:
        return ""
    text = format_beside(rows, results)
    write_whole(study.out / BESIDE, f"{text}\n".encode())
    return text


def _lines(row: PaperRow, results: Sequence[Result]) -> list[str]:
    printed = {published.iou_type: published.printed for published in row.published}
    lines = []
    for iou_type in [kind for kind in ("bbox", "segm") if all(kind in result.metrics for result in results)]:
        head = f"| {row.table or '-'} | {row.number or '-'} | {row.entry.name} | {iou_type} "
        if iou_type in printed:
            lines.append(f"{head}| published | " + _cells(printed[iou_type]) + " | |")
        lines.append(f"{head}| measured | {_cells(_means(results, iou_type))} | {_told(results, iou_type)} |")
    return lines


def _means(results: Sequence[Result], iou_type: str) -> Mapping[str, str]:
    figures = [our_figures(result.metrics, iou_type) for result in results]
    means = {name: spread_of([one[name] for one in figures]) for name in FIGURES}
    return {name: "" if spread is None else f"{spread.mean:.2f}" for name, spread in means.items()}


def _cells(figures: Mapping[str, str]) -> str:
    return " | ".join(figures[name] or "-" for name in FIGURES)


def _told(results: Sequence[Result], iou_type: str) -> str:
    """Whether the groups' AP, weighted by their classes, is AP; by how many points it is not."""
    found = [difference for result in results if (difference := checksum(result.metrics, iou_type)) is not None]
    if not found:
        return "-"
    worst = max(found, key=abs)
    return "yes" if abs(worst) < ROUNDING else f"no: {worst:+.2f} points"


def _sources(rows: Sequence[PaperRow]) -> list[str]:
    sources = dict.fromkeys(published.source for row in rows for published in row.published)
    return ["Percent. Published figures, as their sources print them:", *(f"- {source}" for source in sources)]
