"""Published figures to read one's own beside: rows of papers and of the repositories of their authors.

A row is what its source prints, in percent, no figure derived; a figure that the source does not print is missing.
``coco-lt`` and ``coco-lt-simcal`` are different training sets with the same validation images.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal

from lt_data.groups import names_are_bounds
from lt_data.text_tables import wrapped
from lt_train.evaluation.predictions.columns import IouType

Paper = Literal["coco-lt", "lvis"]

_FILES: Final[Mapping[Paper, str]] = {"coco-lt": "coco_lt.csv", "lvis": "lvis.csv"}
_GROUPS: Final = ("AP1", "AP2", "AP3", "AP4")
_FREQUENCIES: Final = {"APr": "r", "APc": "c", "APf": "f"}
FIGURES: Final = ("AP", "AP50", "AP75", *_GROUPS, *_FREQUENCIES)
# classes of the published means: BAGS evaluates COCO-LT with fixed category lists; 830 categories of LVIS v0.5
# occur in its validation set
_CLASSES: Final[Mapping[str, Mapping[str, int]]] = {
    "coco-lt": {"AP": 80, "AP1": 4, "AP2": 24, "AP3": 32, "AP4": 20},
    "coco-lt-simcal": {"AP": 80, "AP1": 4, "AP2": 24, "AP3": 32, "AP4": 20},
    "lvis-v0.5": {"AP": 830, "AP1": 67, "AP2": 298, "AP3": 284, "AP4": 181, "APr": 125, "APc": 392, "APf": 313},
}


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table.

    Attributes:
        dataset: ``coco-lt``, ``coco-lt-simcal``, ``lvis-v0.5`` or ``lvis-v1``.
        table: Which table or figure of the source.
        model: Detector.
        method: What was done about the long tail.
        iou_type: ``bbox`` or ``segm``.
        printed: Percent by name (``AP``, ``AP1``, ``APr``, ...) as the source prints it; empty where it has none.
        source: Where the row stands.
        note: What else the source says of it.
    """

    dataset: str
    table: str
    model: str
    method: str
    iou_type: IouType
    printed: Mapping[str, str]
    source: str
    note: str

    @property
    def figures(self) -> dict[str, float | None]:
        """The same as numbers; None where the source has none."""
        return {name: float(text) if text else None for name, text in self.printed.items()}


def read_published(paper: Paper) -> tuple[PublishedRow, ...]:
    """The published rows for a data set, in the order of the file.

    Args:
        paper: ``coco-lt`` or ``lvis`` (v0.5 and v1).

    Raises:
        ValueError: Another name.
    """
    if paper not in _FILES:
        raise ValueError(f"paper must be one of {', '.join(_FILES)}, got {paper!r}")
    file = resources.files("lt_train.evaluation").joinpath("published", _FILES[paper])
    rows = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")))
    return tuple(_row(row) for row in rows)


def _row(cells: Mapping[str, str]) -> PublishedRow:
    return PublishedRow(
        dataset=cells["dataset"],
        table=cells["table"],
        model=cells["model"],
        method=cells["method"],
        iou_type="segm" if cells["iou_type"] == "segm" else "bbox",
        printed={name: cells[name] for name in FIGURES},
        source=cells["source"],
        note=cells["note"],
    )


def format_published(paper: Paper, ours: Mapping[str, Mapping[str, Any]], *, iou_types: Sequence[IouType]) -> str:
    """Our rows and the published ones as text, one block per IoU type and data set.

    Args:
        paper: ``coco-lt`` or ``lvis``.
        ours: Content of ``metrics.json`` by name.
        iou_types: ``bbox`` and/or ``segm``; only those that were measured.

    Returns:
        Percent, ours with one decimal; every row says ``ours`` or ``published``, with its figures below; ends with the
        sources.
    """
    rows = read_published(paper)
    sources = list(dict.fromkeys(row.source for row in rows if row.iou_type in iou_types))
    blocks = []
    for iou_type in iou_types:
        for dataset in dict.fromkeys(row.dataset for row in rows):
            published = [row for row in rows if row.dataset == dataset and row.iou_type == iou_type]
            if published:
                blocks.append(_block(dataset, iou_type, published, ours, sources))
    listed = [f"[{i}] {source}" for i, source in enumerate(sources, start=1)]
    return "\n\n".join([*blocks, "\n".join(["published figures, as their sources print them:", *listed])]) + "\n"


def _block(
    dataset: str,
    iou_type: IouType,
    published: Sequence[PublishedRow],
    ours: Mapping[str, Mapping[str, Any]],
    sources: Sequence[str],
) -> str:
    measured = {name: our_figures(metrics, iou_type) for name, metrics in ours.items()}
    present = [row.figures for row in published] + list(measured.values())
    names = [name for name in FIGURES if any(figures[name] is not None for figures in present)]
    rows = [(f"ours: {label}", _ours(figures, names)) for label, figures in measured.items()]
    for row in published:
        what = f"{row.model}, {row.method}" + (f" ({row.note})" if row.note else "")
        cells = [row.printed[name] or "-" for name in names]
        rows.append((f"published: {what} [{sources.index(row.source) + 1}]", cells))
    widths = [max(len(name), *(len(cells[i]) for _, cells in rows)) for i, name in enumerate(names)]
    lines = [f"{dataset} {iou_type}", _figures(names, widths)]
    for name, cells in rows:
        lines += [wrapped(name, "  "), _figures(cells, widths)]
    return "\n".join([*lines, *_differences(dataset, ours, names)])


def our_figures(metrics: Mapping[str, Any], iou_type: str) -> dict[str, float | None]:
    """The figures of ``metrics.json`` under their published names, in percent.

    AP1 to AP4 are there only if there are exactly four groups, made by bounds on instances, as published.
    """
    block = metrics[iou_type]
    groups = list(block["groups"].values())
    fractions = {name: block[name] for name in ("AP", "AP50", "AP75")}
    fractions |= dict(zip(_GROUPS, groups if _are_four_bins(block["groups"]) else [None] * len(_GROUPS), strict=True))
    fractions |= {name: block["frequency"].get(letter) for name, letter in _FREQUENCIES.items()}
    return {name: None if value is None else 100.0 * value for name, value in fractions.items()}


def _differences(dataset: str, ours: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """One line per row of ours whose means are over other numbers of classes than the published ones."""
    published = {name: count for name, count in _CLASSES.get(dataset, {}).items() if name in names}
    lines = []
    for label, metrics in ours.items():
        counts = _our_classes(metrics)
        differ = [name for name, count in published.items() if name in counts and counts[name] != count]
        if differ:
            theirs = "/".join(str(published[name]) for name in differ)
            own = "/".join(str(counts[name]) for name in differ)
            lines.append(
                f"not comparable: {', '.join(differ)} of {label}: the means are over {own} classes, those of the "
                f"published {dataset} figures over {theirs}"
            )
    return lines


def _our_classes(metrics: Mapping[str, Any]) -> dict[str, int]:
    classes = metrics["counts"]["classes"]
    groups = list(classes["groups"].values())
    counts = {"AP": classes["AP"]}
    if _are_four_bins(classes["groups"]):
        counts |= dict(zip(_GROUPS, groups, strict=True))
    return counts | {name: classes["frequency"].get(letter, 0) for name, letter in _FREQUENCIES.items()}


def _are_four_bins(groups: Mapping[str, Any]) -> bool:
    """Whether groups can stand beside the published ones; four groups of anybody's choice cannot."""
    return len(groups) == len(_GROUPS) and names_are_bounds(list(groups))


def _ours(figures: Mapping[str, float | None], names: Sequence[str]) -> list[str]:
    return ["-" if (value := figures[name]) is None else f"{value:.1f}" for name in names]


def _figures(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Figures to the right of their columns, below the name of their row: beside it there is no room for ten."""
    return "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
