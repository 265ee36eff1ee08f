"""The rows that BAGS and its supplement print, as runs in dependency order, and what was published beside them.

Sources: BAGS (CVPR 2020), the model table of its repository, its supplement; for LVIS v1, which came later, the
repository of EQL v2 (CVPR 2021).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Final, Literal

from lt_data.errors import RecipeError
from lt_train.evaluation.comparison.published import PublishedRow, read_published
from lt_train.evaluation.predictions.columns import IouType
from lt_train.recipe.load import recipe_names
from lt_train.recipe.method import Variant
from lt_train.recipe.methods import METHODS
from lt_train.studies.entries import BASELINE, Entry, entry_of, in_dependency_order

Dataset = Literal["coco-lt", "lvis-v0.5", "lvis-v1"]
MAIN, TABLE_1, TABLE_2, FIGURE_1, SECTION_3 = "main", "table-1", "table-2", "figure-1", "section-3"
TABLES: Final = (MAIN, TABLE_1, TABLE_2, FIGURE_1, SECTION_3)
RECIPES: Final[Mapping[Dataset, str]] = {
    "coco-lt": "faster_rcnn_r50_fpn_coco_lt",
    "lvis-v0.5": "faster_rcnn_r50_fpn_lvis_v0.5",
    # figures of v1 are published for masks
    "lvis-v1": "mask_rcnn_r50_fpn_lvis_v1",
}
# how the names of the data sets end those of recipes
_ENDINGS: Final[Mapping[Dataset, str]] = {"coco-lt": "coco_lt", "lvis-v0.5": "lvis_v0.5", "lvis-v1": "lvis_v1"}
# what the published tables call a detector
_PRINTED: Final = {
    "faster_rcnn_r50_fpn": "Faster R-CNN R50-FPN",
    "mask_rcnn_r50_fpn": "Mask R-CNN R50-FPN",
    "faster_rcnn_x101_64x4d_fpn": "Faster R-CNN X101-64x4d-FPN",
    "cascade_rcnn_x101_64x4d_fpn": "Cascade R-CNN X101-64x4d-FPN",
    "htc_x101_64x4d_fpn": "HTC X101-64x4d-FPN",
    "htc_x101_64x4d_dcn_ms": "HTC X101-64x4d-FPN MS-DCN",
}
FASTER, MASK = "Faster R-CNN R50-FPN", "Mask R-CNN R50-FPN"
_MASK_RECIPES: Final[Mapping[Dataset, str]] = {
    "coco-lt": "mask_rcnn_r50_fpn_coco_lt",
    "lvis-v0.5": "mask_rcnn_r50_fpn_lvis_v0.5",
    "lvis-v1": "mask_rcnn_r50_fpn_lvis_v1",
}
# what background treatments and values of tau figure 1 and the text beside it speak of
_BACKGROUNDS: Final = ("keep", "select", "select-normalised")
_TAUS: Final = "tau=0:1:0.1"
# what a later comparison of v1 has beside the methods of BAGS
_OF_V1: Final = {"lws": "LWS", "crt": "cRT", "equalization": "EQL", "equalization-v2": "EQLv2"}


@dataclass(frozen=True)
class PaperRow:
    """A row of a published table, or one that others start from.

    Attributes:
        entry: The run.
        table: One of ``TABLES``; empty for what is no row of any.
        number: Of the model in the comparison; 0 without one.
        published: What was printed of it, of boxes or masks; nothing where a figure shows it without a number.
    """

    entry: Entry
    table: str
    number: int = 0
    published: tuple[PublishedRow, ...] = ()


def paper_rows(dataset: Dataset, variant: Variant = "equal") -> list[PaperRow]:
    """Every row of a data set, each after the one that it starts from.

    Args:
        dataset: ``coco-lt``, ``lvis-v0.5`` or ``lvis-v1``.
        variant: Whose settings, see ``lt_train.recipe.methods.fills``; figure 1 has its own.
    """
    if dataset == "coco-lt":
        rows = [*_table_2(), *map(_after_lvis, _main(dataset, FASTER))]
    elif dataset == "lvis-v0.5":
        rows = [*_main(dataset, FASTER), *_table_1(), *_figure_1(), *_section_3()]
    else:
        rows = [*_main(dataset, MASK), *_later_rows(dataset)]
    rows = [_with_variant(row, variant) for row in rows]
    # of two rows with one run the first says what it is
    first = {row.entry.name: row for row in reversed(rows)}
    order = dict.fromkeys(row.entry.name for row in rows)
    return [first[entry.name] for entry in in_dependency_order([first[name].entry for name in order])]


def detector_recipe(dataset: Dataset, detector: str | None) -> str:
    """The shipped recipe of a detector on a data set.

    Args:
        dataset: ``coco-lt``, ``lvis-v0.5`` or ``lvis-v1``.
        detector: As recipes name it; the one of the data set's main table unless given.

    Raises:
        RecipeError: There is none.
    """
    if detector is None:
        return RECIPES[dataset]
    there = {name.removesuffix(f"_{_ENDINGS[dataset]}") for name in recipe_names() if name.endswith(_ENDINGS[dataset])}
    if detector not in there:
        raise RecipeError(
            f"--detector: got '{detector}'; with a recipe on {dataset} are {', '.join(sorted(there))} (another one: "
            "model.name=NAME as a further word)"
        )
    return f"{detector}_{_ENDINGS[dataset]}"


def detector_rows(detector: str, dataset: Dataset, variant: Variant = "equal") -> list[PaperRow]:
    """The methods that BAGS compares, with another detector; what was printed of them with it stands beside.

    Args:
        detector: As recipes name it.
        dataset: ``coco-lt``, ``lvis-v0.5`` or ``lvis-v1``.
        variant: Whose settings.
    """
    rows = [_with_variant(row, variant) for row in _main(dataset, _PRINTED.get(detector, ""))]
    by_name = {row.entry.name: row for row in rows}
    return [by_name[entry.name] for entry in in_dependency_order([row.entry for row in rows])]


def choose_rows(rows: Sequence[PaperRow], asked: Sequence[str]) -> list[PaperRow]:
    """The rows of these numbers, tables or names, and those that they start from; all if nothing is asked for.

    Raises:
        RecipeError: There is no such row.
    """
    wanted, problems = set[str](), []
    for word in asked:
        found = {row.entry.name for row in rows if word in (str(row.number or ""), row.table, row.entry.name)}
        if not found:
            numbers = ", ".join(str(row.number) for row in sorted(rows, key=lambda row: row.number) if row.number)
            tables = ", ".join(dict.fromkeys(row.table for row in rows if row.table))
            names = ", ".join(row.entry.name for row in rows)
            problems.append(f"--rows: got '{word}'; allowed are {numbers}, {tables}, and {names}")
        wanted |= found
    if problems:
        raise RecipeError(problems)
    by_name, left = {row.entry.name: row for row in rows}, list(wanted or {row.entry.name for row in rows})
    kept = set[str]()
    while left:
        name = left.pop()
        if name not in kept:
            kept.add(name)
            left += [by_name[name].entry.start] if by_name[name].entry.start else []
    return [row for row in rows if row.entry.name in kept]


def _with_variant(row: PaperRow, variant: Variant) -> PaperRow:
    named = any(text.startswith("variant=") for text in row.entry.overrides)
    if variant == "equal" or named:
        return row
    return replace(row, entry=replace(row.entry, overrides=(f"variant={variant}", *row.entry.overrides)))


def _main(dataset: Dataset, model: str) -> list[PaperRow]:
    """The fourteen methods that BAGS compares."""
    return [
        PaperRow(entry_of(name), MAIN, method.row, _published(dataset, model, method.published))
        for name, method in sorted(METHODS.items(), key=lambda item: item[1].row)
        if method.row
    ]


def _later_rows(dataset: Dataset) -> list[PaperRow]:
    return [PaperRow(entry_of(name), "", 0, _published(dataset, MASK, called)) for name, called in _OF_V1.items()]


def _table_1() -> list[PaperRow]:
    """What is trained: the classifier, the head, the head on top of it, everything on top of it."""
    names = [name for name, method in METHODS.items() if method.published.startswith("BAGS beta 1")]
    return [
        PaperRow(entry_of(name), TABLE_1, 0, _published("lvis-v0.5", FASTER, METHODS[name].published)) for name in names
    ]


def _table_2() -> list[PaperRow]:
    """COCO-LT; the supplement starts its baselines from those of LVIS."""
    rows = []
    for model, before, recipes in ((FASTER, "", RECIPES), (MASK, "mask-", _MASK_RECIPES)):
        of_lvis, own = recipes["lvis-v0.5"], recipes["coco-lt"]
        lvis, baseline = f"lvis-{before}{BASELINE}", f"{before}{BASELINE}"
        rows.append(PaperRow(Entry(lvis, "softmax", recipe=of_lvis), ""))
        for name, method, start in ((baseline, "softmax", lvis), (f"{before}bags", "bags", baseline)):
            published = _published("coco-lt", model, METHODS[method].published)
            number = 0 if before else METHODS[method].row
            rows.append(PaperRow(Entry(name, method, start=start, recipe=own), TABLE_2, number, published))
    return rows


def _after_lvis(row: PaperRow) -> PaperRow:
    """A method of COCO-LT that starts from no run, on top of the baseline of LVIS, as that of table 2 is."""
    return row if row.entry.start else replace(row, entry=replace(row.entry, start=f"lvis-{BASELINE}"))


def _figure_1() -> list[PaperRow]:
    """The grid of re-weighting; where the background goes in tau-normalisation; values of tau."""
    text = resources.files("lt_train.evaluation").joinpath("published", "figure_1.csv").read_text(encoding="utf-8")
    rows = []
    for cells in csv.DictReader(io.StringIO(text)):
        kind = "class-balanced focal" if cells["loss"] == "focal" else "class-balanced softmax"
        published = _published("lvis-v0.5", FASTER, kind) if cells["AP"] else ()
        suffix = "-no-caps" if cells["caps"] == "none" else ""
        name = f"balanced-{cells['loss']}-{cells['beta']}{suffix}"
        entry = Entry(name, cells["method"], tuple(cells["overrides"].split()), start=BASELINE)
        rows.append(PaperRow(entry, FIGURE_1, 0, published))
    for background in _BACKGROUNDS:
        entry = Entry(
            f"tau-norm-background-{background}", "tau-norm", (f"calibration.background={background}",), BASELINE
        )
        rows.append(PaperRow(entry, FIGURE_1))
    entry = Entry("tau-norm-search", "tau-norm-select", (), BASELINE, search=_TAUS)
    return [*rows, PaperRow(entry, FIGURE_1)]


def _section_3() -> list[PaperRow]:
    """Masks: the winners of LVIS 2019 beside the baseline and BAGS."""
    recipe, baseline = _MASK_RECIPES["lvis-v0.5"], f"mask-{BASELINE}"
    called = {"softmax": "softmax", "bags": "BAGS", "equalization": "EQL", "simcal": "SimCal"}
    return [
        PaperRow(
            Entry(f"mask-{method}", method, start=baseline if METHODS[method].starts_from_run else "", recipe=recipe),
            SECTION_3,
            0,
            _published("lvis-v0.5", MASK, name),
        )
        for method, name in called.items()
    ]


def _published(dataset: Dataset, model: str, method: str) -> tuple[PublishedRow, ...]:
    """What was printed of a method with a detector: the first row for boxes, and the first for masks."""
    rows = read_published("coco-lt" if dataset == "coco-lt" else "lvis")
    own = [row for row in rows if (row.dataset, row.model, row.method) == (dataset, model, method)]
    first: dict[IouType, PublishedRow] = {}
    for row in own:
        first.setdefault(row.iou_type, row)
    return tuple(first.values())


def checksum(metrics: Mapping[str, Any], iou_type: str) -> float | None:
    """AP as the mean of the groups' weighted by their classes, less AP itself, in points; nothing without groups.

    Args:
        metrics: Content of ``metrics.json``.
        iou_type: ``bbox`` or ``segm``.
    """
    block, classes = metrics[iou_type], metrics["counts"]["classes"]["groups"]
    known = [(classes[name], value) for name, value in block["groups"].items() if value is not None]
    weight = sum(number for number, _ in known)
    if not weight or block["AP"] is None:
        return None
    return float(100.0 * (sum(number * value for number, value in known) / weight - block["AP"]))
