"""Class weights: how much a loss should count each class so that rare classes are not drowned by frequent ones.

A raw weight falls with the instances n of a class; raw weights are divided by their mean over the classes that have
instances, so that the average class weighs 1, and then capped:

    inverse           1 / n^power, with a power of 1 unless said
    effective-number  (1 - beta) / (1 - beta^n), which for beta = 1 is taken as its limit 1 / n

Shapes: C foreground classes by ascending dataset id; a table of weights has C + 1 rows, row 0 is the background.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from lt_data.annotations.file import read_annotations
from lt_data.arrays import FloatArray, IntArray
from lt_data.counts.categories import CategoryCounts, count_categories
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError, one_line
from lt_data.progress import Progress

Kind = Literal["inverse", "effective-number"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
DEFAULT_BETA = 0.999
# rows of each end of the table that are shown
SHOWN = 5


def raw_class_weights(
    instances: npt.ArrayLike, *, kind: str, beta: float = DEFAULT_BETA, power: float = 1.0
) -> FloatArray:
    """Weights before normalising and capping, NaN for a class without instances, shape [C].

    Args:
        instances: Non-crowd instances of classes 1..C, shape [C].
        kind: ``inverse`` or ``effective-number``.
        beta: 0 <= beta <= 1, for the effective number only; 0 gives equal weights, 1 is ``inverse``.
        power: >= 0, of the inverse count only; 0 gives equal weights. DisAlign (CVPR 2021) calls it rho, 0.8.

    Raises:
        DataError: The kind does not exist, beta or power is out of range, a count is negative, or no
            class has an instance.

    Source: effective number: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019,
    proposition 1 (E_n = (1 - beta^n) / (1 - beta); the weight is 1 / E_n).
    """
    if kind not in KINDS:
        raise DataError(f"--kind: got '{kind}'; allowed are {', '.join(KINDS)}")
    if not 0 <= beta <= 1:
        raise DataError(f"--beta: got {beta}; allowed is 0 <= beta <= 1, for example 0.999")
    if not 0 <= power < float("inf"):
        raise DataError(f"--power: got {power}; allowed is a number >= 0, for example 1")
    counts = np.asarray(instances, np.int64)
    if (counts < 0).any() or not (counts > 0).any():
        got = f"{int(counts.min())} for a class" if (counts < 0).any() else "no class with an instance"
        raise DataError(f"class weights: got {got}; needed are counts >= 0, at least one of them positive")
    n = np.where(counts > 0, counts, np.nan)
    if kind == "inverse" or beta == 1:
        inverse: FloatArray = 1.0 / n
        return inverse if kind != "inverse" or power == 1 else inverse**power
    with np.errstate(divide="ignore"):
        # expm1 keeps 1 - beta^n exact where beta is so close to 1 that the power rounds
        weights: FloatArray = (1.0 - beta) / -np.expm1(n * np.log(np.float64(beta)))
    return weights


def class_weights(
    instances: npt.ArrayLike,
    *,
    kind: str,
    beta: float = DEFAULT_BETA,
    power: float = 1.0,
    lower: float | None = None,
    upper: float | None = None,
    background: float = 1.0,
    background_ratio: float | None = None,
) -> FloatArray:
    """Weight of every label, background first: divided by the mean over classes with instances, then capped.

    The background has a weight of its own, or is counted like a class: then it takes part in mean and caps.

    A class without instances is never the label of a training box, so its weight matters only where a loss looks at
    all classes; it gets ``upper``, or without an upper cap the largest weight of the others.

    Args:
        instances: Non-crowd instances of classes 1..C, shape [C].
        kind: ``inverse`` or ``effective-number``.
        beta: 0 <= beta <= 1, for the effective number only.
        power: >= 0, of the inverse count only.
        lower: Smallest weight of a class, or ``None``; the released code of BAGS has 0.1, its supplement 0.01.
        upper: Largest weight of a class, or ``None``; BAGS has 5.
        background: Weight of label 0, taken as it is.
        background_ratio: Count the background as so many times all instances, in place of ``background``; BAGS has 3.

    Returns:
        Shape [C + 1], indexed by label; finite everywhere.

    Raises:
        DataError: As :func:`raw_class_weights`, or a cap or the background's weight is out of range.

    Source: order of the steps and the background: the weight tables of the released code of BAGS (CVPR 2020).
    """
    _check_caps(lower, upper, background)
    counts = np.asarray(instances, np.int64)
    if background_ratio is None:
        weights = _normalised(raw_class_weights(counts, kind=kind, beta=beta, power=power), upper)
        return np.concatenate([[background], np.clip(weights, lower, upper)])
    if background != 1.0:
        raise DataError("--background, --background-ratio: both are given; the second takes the place of the first")
    raw = raw_class_weights(_with_background(counts, background_ratio), kind=kind, beta=beta, power=power)
    return np.clip(_normalised(raw, upper), lower, upper)


def _with_background(counts: IntArray, ratio: float | None) -> IntArray:
    """The counts; with a ratio, the background's in front of them."""
    if ratio is None:
        return counts
    if not 0 < ratio < float("inf"):
        raise DataError(f"--background-ratio: got {ratio}; allowed is a number > 0, for example 3")
    return np.concatenate([[round(ratio * int(counts.sum()))], counts])


def _normalised(raw: FloatArray, upper: float | None) -> FloatArray:
    """Raw weights divided by their mean; those of classes without instances filled in."""
    weights: FloatArray = raw / np.nanmean(raw)
    return np.where(np.isnan(weights), np.nanmax(weights) if upper is None else upper, weights)


def _check_caps(lower: float | None, upper: float | None, background: float) -> None:
    low, high = 0.0 if lower is None else lower, float("inf") if upper is None else upper
    problems = []
    if not 0 <= low <= high or (upper is not None and not 0 < upper < float("inf")):
        problems.append(f"--lower, --upper: got {lower} and {upper}; allowed is 0 <= lower <= upper, upper positive")
    if not 0 <= background < float("inf"):
        problems.append(f"--background: got {background}; allowed is a number >= 0, for example 1")
    if problems:
        raise DataError(problems)


@dataclass(frozen=True)
class ClassWeightTable:
    """Class weights of a file.

    Attributes:
        name: Base name of the file or dataset directory.
        options: ``kind``, ``beta``, ``power``, ``lower``, ``upper``, ``background``.
        counts: Instances of each category, C rows; row i is label i + 1.
        mean: Mean of the raw weights over the classes with instances (and a counted background), by which they were
            divided.
        weights: Weight of each label, background first, shape [C + 1].
    """

    name: str
    options: dict[str, Any]
    counts: CategoryCounts
    mean: float
    weights: FloatArray

    def capped(self) -> tuple[int, int]:
        """Classes with instances at the lower and at the upper cap."""
        held = self.weights[1:][self.counts.instances > 0]
        lower, upper = self.options["lower"], self.options["upper"]
        at_lower = 0 if lower is None else int((held <= lower).sum())
        return at_lower, 0 if upper is None else int((held >= upper).sum())


def class_weight_table(
    path: Path,
    *,
    kind: str,
    beta: float = DEFAULT_BETA,
    power: float = 1.0,
    lower: float | None = None,
    upper: float | None = None,
    background: float = 1.0,
    background_ratio: float | None = None,
    progress: Progress | None = None,
) -> ClassWeightTable:
    """Class weights of a dataset directory or of any COCO or LVIS annotation file, by its non-crowd annotations.

    Args:
        path: The directory or the file.
        kind: ``inverse`` or ``effective-number``.
        beta: For the effective number only.
        power: Of the inverse count only.
        lower: Smallest weight of a class, or ``None``.
        upper: Largest weight of a class, or ``None``.
        background: Weight of label 0.
        background_ratio: Count the background as so many times all instances instead.
        progress: Called with the bytes read and the bytes in all.

    Raises:
        DataError: The path cannot be read, an option is out of range, or the file has no non-crowd annotation.
    """
    path = Path(path)
    counts = count_categories(read_annotations(annotations_path(path), only_matched=True, progress=progress))
    if not (counts.instances > 0).any():
        raise DataError(f"{path}: no annotation is of an instance (crowds do not count); give a training set")
    caps: dict[str, Any] = {"lower": lower, "upper": upper, "background": background}
    caps["background_ratio"] = background_ratio
    weights = class_weights(counts.instances, kind=kind, beta=beta, power=power, **caps)
    raw = raw_class_weights(_with_background(counts.instances, background_ratio), kind=kind, beta=beta, power=power)
    return ClassWeightTable(
        name=path.name,
        options={"kind": kind, "beta": beta, "power": power, **caps},
        counts=counts,
        mean=float(np.nanmean(raw)),
        weights=weights,
    )


def format_class_weights(table: ClassWeightTable, style: str = "table") -> str:
    """Class weights as text: ``table`` (the ends of the list), ``csv`` or ``json`` (one row a label)."""
    return {"table": _as_table, "csv": _as_csv, "json": _as_json}[style](table)


def _rows(table: ClassWeightTable) -> list[tuple[int, int | None, str, int | None, float]]:
    """Label, dataset id, name, instances and weight; the background has neither id nor count."""
    counts, weights = table.counts, table.weights.tolist()
    columns = (counts.category_ids.tolist(), counts.names, counts.instances.tolist(), weights[1:])
    classes = [(label, *row) for label, row in enumerate(zip(*columns, strict=True), start=1)]
    return [(0, None, "background", None, weights[0]), *classes]


_COLUMNS = ("label", "category_id", "name", "instances", "weight")


def _as_csv(table: ClassWeightTable) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_rows(table))
    return out.getvalue().rstrip("\n")


def _as_json(table: ClassWeightTable) -> str:
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in _rows(table)]
    content = {"schema": 1, **table.options, "mean": table.mean, "weights": rows}
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_table(table: ClassWeightTable) -> str:
    options, counts = table.options, table.counts
    beta = f", beta {options['beta']}" if options["kind"] == "effective-number" else ""
    power = f", power {options['power']:g}" if options["kind"] == "inverse" and options["power"] != 1 else ""
    empty = int((counts.instances == 0).sum())
    lines = [
        f"{one_line(table.name)}: {options['kind']}{beta}{power}, {len(counts.names):,} classes; raw weights divided "
        f"by their mean {table.mean:.7f}",
        f"background {table.weights[0]:g}{_background_count(table)}; capped: {_caps(table)}",
        "",
        f"{'instances':>10}{'weight':>12}  category",
    ]
    order = np.argsort(counts.instances, kind="stable")
    shown: list[int | None] = [int(row) for row in order]
    if len(order) > 2 * SHOWN:
        shown = [*shown[:SHOWN], None, *shown[-SHOWN:]]
    lines += [_line(table, row) for row in shown]
    if empty:
        weight = table.weights[1:][counts.instances == 0][0]
        lines.append(f"classes without instances: {empty:,}, each of weight {weight:.5f}")
    return "\n".join(lines)


def _background_count(table: ClassWeightTable) -> str:
    ratio = table.options["background_ratio"]
    return "" if ratio is None else f" (counted as {ratio:g} x all instances)"


def _line(table: ClassWeightTable, row: int | None) -> str:
    if row is None:
        return f"{'...':>10}{'...':>12}"
    return f"{table.counts.instances[row]:>10,}{table.weights[row + 1]:>12.5f}  {one_line(table.counts.names[row])}"


def _caps(table: ClassWeightTable) -> str:
    at_lower, at_upper = table.capped()
    parts = []
    if table.options["lower"] is not None:
        parts.append(f"{at_lower:,} classes at the lower cap {table.options['lower']:g}")
    if table.options["upper"] is not None:
        parts.append(f"{at_upper:,} at the upper cap {table.options['upper']:g}")
    return ", ".join(parts) or "no caps"
