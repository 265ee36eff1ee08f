"""Repeat factors: how often an image should be seen per epoch so that rare categories are seen more.

A category c that the share f_c of the annotated images holds has the factor ``max(1, sqrt(t / f_c))``; an image has
the largest factor of its categories. A rounding rule turns a factor r into the times an image is seen in an epoch:

    none        r itself; nothing is rounded, the length is an expectation
    stochastic  floor(r), and one more with the probability of the rest; drawn anew in every epoch, r on average
    ceil        ceil(r) in every epoch
    bags        1 + ceil(r) where r > 1, else 1, as the released code of BAGS lists images

Shapes: N images, C categories, P (category, image) pairs.
"""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, TextIO, get_args

import numpy as np

from lt_data.annotations import AnnotationFile, read_annotations
from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_data.counts import CategoryCounts, category_image_pairs, count_categories
from lt_data.dataset_dir import annotations_path, beside
from lt_data.errors import DataError, OutputError
from lt_data.file_bytes import Progress

Rounding = Literal["none", "stochastic", "ceil", "bags"]

DEFAULT_THRESHOLD = 0.001
LARGEST_THRESHOLD = 1e6
ADVISED = 5
ROUNDINGS: Final[tuple[Rounding, ...]] = get_args(Rounding)


def category_repeat_factors(images: IntArray, images_with_annotations: int, threshold: float) -> FloatArray:
    """``max(1, sqrt(t / f_c))`` with f_c the share of annotated images that hold category c, shape [C].

    Args:
        images: Images that hold each category, shape [C]; a category without images has factor 1.
        images_with_annotations: Images with at least one non-crowd annotation.
        threshold: t, the share below which a category is repeated.

    Raises:
        DataError: The threshold is not positive and finite.

    Source: LVIS (CVPR 2019), appendix B.
    """
    check_threshold(threshold)
    return factors_of_shares(images / max(images_with_annotations, 1), threshold)


def instance_aware_category_factors(
    images: IntArray, instances: IntArray, images_with_annotations: int, threshold: float
) -> FloatArray:
    """``max(1, sqrt(t / sqrt(f_c * g_c)))`` with g_c the share of all instances that are of category c, shape [C].

    Args:
        images: Images that hold each category, shape [C].
        instances: Non-crowd instances of each category, shape [C].
        images_with_annotations: Images with at least one non-crowd annotation; f_c is a share of these, as above.
        threshold: t, the geometric mean of both shares below which a category is repeated.

    Raises:
        DataError: The threshold is not positive and finite.

    Source: Yaman, Mahmud, Liu, "Instance-Aware Repeat Factor Sampling for Long-Tailed Object Detection",
    arXiv:2305.08069 (2023), the variant with the geometric mean. Known to us from accounts of the paper, not from
    its text or code; whether images without annotations count in its f_c is not settled by them.
    """
    check_threshold(threshold)
    return factors_of_shares(mean_shares(images, instances, images_with_annotations), threshold)


def mean_shares(images: IntArray, instances: IntArray, images_with_annotations: int) -> FloatArray:
    """Geometric mean of the share of images and the share of instances of each category, shape [C]."""
    of_images = images / max(images_with_annotations, 1)
    of_instances = instances / max(int(instances.sum()), 1)
    mean: FloatArray = np.sqrt(of_images * of_instances)
    return mean


def factors_of_shares(shares: FloatArray, threshold: float) -> FloatArray:
    """``max(1, sqrt(t / share))``, 1 where the share is 0."""
    with np.errstate(divide="ignore"):
        factors = np.sqrt(threshold / shares)
    return np.where(shares > 0, np.maximum(1.0, factors), 1.0)


def check_threshold(threshold: float) -> None:
    """Raises DataError unless the threshold is positive and finite."""
    if not 0 < threshold <= LARGEST_THRESHOLD:
        raise DataError(f"--threshold: got {threshold}; allowed is a positive number up to 1e6, for example 0.001")


def image_repeat_factors(
    file: AnnotationFile, threshold: float = DEFAULT_THRESHOLD, *, instance_aware: bool = False
) -> FloatArray:
    """Factor of every image of a file: the largest of its categories'; 1.0 without annotations.

    Args:
        file: The training annotations; crowds do not count.
        threshold: t of the category factors.
        instance_aware: Take the category factors of :func:`instance_aware_category_factors`.

    Returns:
        Shape [N], in the order of the file's images.

    Raises:
        DataError: The threshold is not positive and finite.
    """
    check_threshold(threshold)
    held = _Held(file)
    return held.image_factors(factors_of_shares(held.shares(instance_aware), threshold))


class _Held:
    """Which image of a file holds which category, in non-crowd annotations."""

    def __init__(self, file: AnnotationFile) -> None:
        self.counts: CategoryCounts = count_categories(file)
        self.image_ids = file.image_ids
        self._row, self._image = category_image_pairs(file, self.counts.category_ids)
        self.annotated: BoolArray = np.zeros(len(file.image_ids), bool)
        self.annotated[self._image] = True

    def shares(self, instance_aware: bool) -> FloatArray:
        """What the threshold is compared with, shape [C]."""
        annotated = int(self.annotated.sum())
        if instance_aware:
            return mean_shares(self.counts.images, self.counts.instances, annotated)
        return self.counts.images / max(annotated, 1)

    def image_factors(self, factors: FloatArray) -> FloatArray:
        """The largest of the category factors [C] in each image, 1.0 without any, shape [N]."""
        result = np.ones(len(self.image_ids))
        np.maximum.at(result, self._image, factors[self._row])
        return result


def whole_copies(factors: FloatArray, rounding: str) -> IntArray:
    """How often each image is seen in an epoch under a rule without chance, shape [N].

    Args:
        factors: Repeat factors >= 1, shape [N].
        rounding: ``ceil`` or ``bags``.

    Raises:
        DataError: The rule draws (``stochastic``), does not round (``none``) or does not exist.

    Source: for ``bags`` the released sampler of BAGS (CVPR 2020).
    """
    if rounding not in ("ceil", "bags"):
        raise DataError(f"--rounding: got '{rounding}'; only ceil and bags give every image a fixed number of copies")
    copies = np.ceil(factors)
    if rounding == "bags":
        copies = np.where(factors > 1, 1 + copies, 1)
    return copies.astype(np.int64)


def expected_copies(factors: FloatArray, rounding: str) -> FloatArray:
    """How often each image is seen in an epoch on average, shape [N]; the sum is the expected epoch length.

    Args:
        factors: Repeat factors >= 1, shape [N].
        rounding: One of ``ROUNDINGS``.

    Raises:
        DataError: There is no such rule.
    """
    if rounding not in ROUNDINGS:
        raise DataError(f"--rounding: got '{rounding}'; allowed are {', '.join(ROUNDINGS)}")
    return factors if rounding in ("none", "stochastic") else whole_copies(factors, rounding).astype(np.float64)


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


def threshold_advice(file: AnnotationFile, *, instance_aware: bool = False) -> tuple[ThresholdRow, ...]:
    """Five thresholds that do something on this file, and what.

    They are the five smallest numbers of the series 1, 2, 5, 10, 20, 50, ... (times powers of ten) above the share
    of the rarest category that has instances, so already the first repeats an image.

    Args:
        file: The training annotations; crowds do not count.
        instance_aware: Shares and factors of :func:`instance_aware_category_factors`.

    Returns:
        Ascending thresholds; nothing for a file without instances.
    """
    return _advice(_Held(file), instance_aware)


def _advice(held: _Held, instance_aware: bool) -> tuple[ThresholdRow, ...]:
    shares = held.shares(instance_aware)
    if not (shares > 0).any():
        return ()
    series = [float(f"{digit}e{power}") for power in range(-18, 2) for digit in (1, 2, 5)]
    thresholds = [t for t in series if t > shares[shares > 0].min()][:ADVISED]
    rows = []
    for threshold in thresholds:
        categories = factors_of_shares(shares, threshold)
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
        rounding: The rule behind ``copies``.
        instance_aware: Whether instances count beside images.
        counts: Instances and images of each category, C rows.
        category_factors: Shape [C], in the rows of ``counts``.
        image_ids: Shape [N], in file order.
        annotated: Images with a non-crowd annotation, shape [N].
        factors: Factor of each image, shape [N].
        copies: Times an image is seen in an epoch, on average; whole numbers under ``ceil`` and ``bags``, shape [N].
        advice: Other thresholds, if this one repeats nothing.
    """

    name: str
    threshold: float
    rounding: str
    instance_aware: bool
    counts: CategoryCounts
    category_factors: FloatArray
    image_ids: IntArray
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
    path: Path,
    threshold: float = DEFAULT_THRESHOLD,
    *,
    rounding: str = "none",
    instance_aware: bool = False,
    progress: Progress | None = None,
) -> RepeatFactorTable:
    """Repeat factors of a dataset directory or of any COCO or LVIS annotation file.

    Args:
        path: The directory or the file; crowds do not count.
        threshold: t of the category factors.
        rounding: One of ``ROUNDINGS``.
        instance_aware: Take the category factors of :func:`instance_aware_category_factors`.
        progress: Called with the bytes read and the bytes in all.

    Raises:
        DataError: The path cannot be read, the threshold is not positive, or there is no such rule.
    """
    path = Path(path)
    check_threshold(threshold)
    expected_copies(np.ones(0), rounding)
    held = _Held(read_annotations(annotations_path(path), progress=progress))
    categories = factors_of_shares(held.shares(instance_aware), threshold)
    factors = held.image_factors(categories)
    return RepeatFactorTable(
        name=path.name,
        threshold=threshold,
        rounding=rounding,
        instance_aware=instance_aware,
        counts=held.counts,
        category_factors=categories,
        image_ids=held.image_ids,
        annotated=held.annotated,
        factors=factors,
        copies=expected_copies(factors, rounding),
        advice=() if (factors > 1).any() else _advice(held, instance_aware),
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
    work = beside(path)
    try:
        with work.open("x", encoding="utf-8", newline="") as out:
            _write_rows(out, table)
        os.replace(work, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another file") from None
    finally:
        work.unlink(missing_ok=True)


def _write_rows(out: TextIO, table: RepeatFactorTable) -> None:
    copies = table.copies.astype(np.int64) if table.rounding in ("ceil", "bags") else table.copies
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("image_id", "repeat_factor"))
    writer.writerows(zip(table.image_ids.tolist(), copies.tolist(), strict=True))


def format_repeat_factors(table: RepeatFactorTable, style: str = "table") -> str:
    """Repeat factors as text: ``table`` (a summary), ``csv`` (one row an image) or ``json`` (summary, categories)."""
    return {"table": _as_table, "csv": _as_csv, "json": _as_json}[style](table)


def _as_csv(table: RepeatFactorTable) -> str:
    out = io.StringIO()
    _write_rows(out, table)
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
    lines = [
        f"{table.name}: {kind}, threshold {table.threshold:g}",
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
