"""Repeat factors of a file as a table: epoch lengths by rounding, what other thresholds would do, CSV and JSON.

Shapes: N images, C categories.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.arrays import BoolArray, FloatArray
from lt_data.counts.categories import CategoryCounts
from lt_data.counts.repeat_factors import (
    ROUNDINGS,
    Holdings,
    check_exponent,
    check_threshold,
    expected_copies,
    factors_of_shares,
)
from lt_data.dataset.names import annotations_path
from lt_data.dataset.options import DEFAULT_EXPONENT, DEFAULT_THRESHOLD
from lt_data.errors import OutputError
from lt_data.files.writing import write_whole
from lt_data.progress import Progress

ADVISED = 5


@dataclass(frozen=True)
class ThresholdRow:
    """What one threshold would do.

    Attributes:
        threshold: t.
        categories: Categories with a factor above 1.
        images: Images with a factor above 1.
        epoch_length: Expected length of an epoch over the images with annotations.
    """

    threshold: float
    categories: int
    images: int
    epoch_length: float


def threshold_advice(
    file: AnnotationFile, *, instance_aware: bool = False, exponent: float = DEFAULT_EXPONENT
) -> tuple[ThresholdRow, ...]:
    """Five thresholds that do something on this file, and what.

    They are the five smallest numbers of the series 1, 2, 5, 10, 20, 50, ... (times powers of ten) above the share
    of the rarest category that has instances, so already the first repeats an image.

    Args:
        file: The training annotations; crowds do not count.
        instance_aware: Shares and factors of :func:`instance_aware_category_factors`.
        exponent: Of the category factors.

    Returns:
        Ascending thresholds; nothing for a file without instances.
    """
    return _advice(Holdings(file), instance_aware, exponent)


def _advice(held: Holdings, instance_aware: bool, exponent: float) -> tuple[ThresholdRow, ...]:
    shares = held.shares(instance_aware)
    if not (shares > 0).any():
        return ()
    series = [float(f"{digit}e{power}") for power in range(-18, 2) for digit in (1, 2, 5)]
    thresholds = [t for t in series if t > shares[shares > 0].min()][:ADVISED]
    rows = []
    for threshold in thresholds:
        categories = factors_of_shares(shares, threshold, exponent)
        images = held.image_factors(categories)
        length = float(images[held.annotated].sum())
        rows.append(ThresholdRow(threshold, int((categories > 1).sum()), int((images > 1).sum()), length))
    return tuple(rows)


@dataclass(frozen=True)
class RepeatFactorTable:
    """Repeat factors of a file.

    Attributes:
        name: Base name of the file or dataset directory.
        threshold: t.
        rounding: The rule of ``copies``.
        instance_aware: Whether instances count beside images.
        exponent: Of the category factors.
        counts: Instances and images of each category, C rows.
        category_factors: Shape [C], in the rows of ``counts``.
        image_ids: N ids as the file has them, in its order.
        annotated: Images with a non-crowd annotation, shape [N].
        factors: Factor of each image, shape [N].
        copies: Times an image is seen in an epoch, on average; whole numbers under ``ceil`` and ``bags``, shape [N].
        advice: Other thresholds, if this one repeats nothing.
    """

    name: str
    threshold: float
    rounding: str
    instance_aware: bool
    exponent: float
    counts: CategoryCounts
    category_factors: FloatArray
    image_ids: list[int] | list[str]
    annotated: BoolArray
    factors: FloatArray
    copies: FloatArray
    advice: tuple[ThresholdRow, ...]

    def epoch_length(self, rounding: str | None = None, *, empty_images: bool = False) -> float:
        """Expected images per epoch under a rounding rule (the table's own unless given).

        Args:
            rounding: One of ``ROUNDINGS``.
            empty_images: Count images without annotations too; training leaves them out by default.
        """
        copies = expected_copies(self.factors, rounding or self.rounding)
        return float(copies.sum() if empty_images else copies[self.annotated].sum())


def repeat_factor_table(
    path: Path | str,
    threshold: float = DEFAULT_THRESHOLD,
    *,
    rounding: str = "none",
    instance_aware: bool = False,
    exponent: float = DEFAULT_EXPONENT,
    progress: Progress | None = None,
) -> RepeatFactorTable:
    """Repeat factors of a dataset directory or of any COCO or LVIS annotation file.

    Args:
        path: The directory or the file; crowds do not count.
        threshold: t of the category factors.
        rounding: One of ``ROUNDINGS``.
        instance_aware: Take the category factors of :func:`instance_aware_category_factors`.
        exponent: Of the category factors; 0.5 is the published square root.
        progress: Called with the bytes read and the bytes in all.

    Raises:
        DataError: The path cannot be read, the threshold or the exponent is out of range, or there is no such rule.
    """
    path = Path(path)
    check_threshold(threshold)
    check_exponent(exponent)
    expected_copies(np.ones(0), rounding)
    held = Holdings(read_annotations(annotations_path(path), only_matched=True, progress=progress))
    categories = factors_of_shares(held.shares(instance_aware), threshold, exponent)
    factors = held.image_factors(categories)
    return RepeatFactorTable(
        name=path.name,
        threshold=threshold,
        rounding=rounding,
        instance_aware=instance_aware,
        exponent=exponent,
        counts=held.counts,
        category_factors=categories,
        image_ids=held.image_ids,
        annotated=held.annotated,
        factors=factors,
        copies=expected_copies(factors, rounding),
        advice=() if (factors > 1).any() else _advice(held, instance_aware, exponent),
    )


def write_repeat_factors(path: Path, table: RepeatFactorTable, *, force: bool = False) -> None:
    """Writes ``image_id,repeat_factor``, one row an image; the file appears whole or not at all.

    Under ``ceil`` and ``bags`` the second column holds whole copies, else the factor (as Python's repr).

    Raises:
        OutputError: The file exists and ``force`` is not set, or it cannot be written.
    """
    path = Path(path)
    if path.is_dir() or (path.exists() and not force):
        raise OutputError(f"{path}: exists; choose another file" + ("" if path.is_dir() else ", or use --force"))
    write_whole(path, f"{_as_csv(table)}\n".encode())


def format_repeat_factors(table: RepeatFactorTable, style: str = "table") -> str:
    """Repeat factors as text: ``table`` (a summary), ``csv`` (one row an image) or ``json`` (summary, categories)."""
    return {"table": _as_table, "csv": _as_csv, "json": _as_json}[style](table)


def _as_csv(table: RepeatFactorTable) -> str:
    copies = table.copies.astype(np.int64) if table.rounding in ("ceil", "bags") else table.copies
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("image_id", "repeat_factor"))
    writer.writerows(zip(table.image_ids, copies.tolist(), strict=True))
    return out.getvalue().rstrip("\n")


def _as_json(table: RepeatFactorTable) -> str:
    counts = table.counts
    keys = ("category_id", "name", "images", "instances", "repeat_factor")
    columns = (counts.category_ids.tolist(), counts.names, counts.images.tolist(), counts.instances.tolist())
    rows = zip(*columns, table.category_factors.tolist(), strict=True)
    content = {
        "schema": 1,
        "threshold": table.threshold,
        "rounding": table.rounding,
        "instance_aware": table.instance_aware,
        # the published one goes without saying
        **({} if table.exponent == DEFAULT_EXPONENT else {"exponent": table.exponent}),
        "images": len(table.image_ids),
        "images_with_annotations": int(table.annotated.sum()),
        "images_repeated": int((table.factors > 1).sum()),
        "categories_repeated": int((table.category_factors > 1).sum()),
        "largest_factor": float(table.factors.max(initial=1.0)),
        "epoch_length": {rule: table.epoch_length(rule) for rule in ROUNDINGS},
        "epoch_length_with_empty_images": {rule: table.epoch_length(rule, empty_images=True) for rule in ROUNDINGS},
        "categories": [dict(zip(keys, row, strict=True)) for row in rows],
        "other_thresholds": [asdict(row) for row in table.advice],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_table(table: RepeatFactorTable) -> str:
    annotated = int(table.annotated.sum())
    empty = len(table.image_ids) - annotated
    kind = "instance-aware repeat factors" if table.instance_aware else "repeat factors"
    power = "" if table.exponent == DEFAULT_EXPONENT else f", exponent {table.exponent:g}"
    lines = [
        f"{table.name}: {kind}, threshold {table.threshold:g}{power}",
        f"{int((table.category_factors > 1).sum()):,} of {len(table.category_factors):,} categories and "
        f"{int((table.factors > 1).sum()):,} of {annotated:,} images with annotations are repeated; "
        f"largest factor {table.factors.max(initial=1.0):.3f}",
        "",
        f"{'rounding':<12}{'images per epoch':>18}{'and empty images':>18}",
    ]
    for rule in ROUNDINGS:
        lengths = (table.epoch_length(rule), table.epoch_length(rule, empty_images=True))
        lines.append(f"{rule:<12}{lengths[0]:>18,.1f}{lengths[1]:>18,.1f}{'  <' if rule == table.rounding else ''}")
    note = f"{empty:,} images without annotations have factor 1; training leaves them out unless told otherwise"
    lines += [note] if empty else []
    return "\n".join([*lines, *_advice_lines(table)])


def _advice_lines(table: RepeatFactorTable) -> list[str]:
    if not table.advice:
        return []
    lines = [
        "",
        f"threshold {table.threshold:g} repeats nothing: no category is that rare in this file. What others would do:",
        f"{'threshold':<12}{'categories':>12}{'images':>12}{'images per epoch':>18}",
    ]
    return lines + [
        f"{row.threshold:<12g}{row.categories:>12,}{row.images:>12,}{row.epoch_length:>18,.1f}" for row in table.advice
    ]
