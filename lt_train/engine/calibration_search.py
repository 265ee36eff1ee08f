"""Searching an option of a calibration: every image goes through the detector once, its regions are scored often.

Shapes: V values, D detections of one value over all images. Only boxes are measured: masks do not depend on scores.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lt_data.annotations.category_ids import CategoryIds
from lt_data.errors import DataError, RecipeError
from lt_data.progress import SILENT
from lt_data.terminal import Bar
from lt_train.data.detection_data import DetectionData
from lt_train.data.images import as_input
from lt_train.detectors import LongTailDetector
from lt_train.evaluation import Detections, join_detections, model_detections
from lt_train.evaluation.figures.table import percent
from lt_train.evaluation.measure import measure
from lt_train.features.evaluation import KnownValidation
from lt_train.inference.detect import ImageList, loaded_images, pack, unpack
from lt_train.memory import inference_advice, named_memory
from lt_train.processes import Processes
from lt_train.recipe.sections import Files, Recipe
from lt_train.report.search_curve import plot_search
from lt_train.runs.data import RunData, ValidationData, load_validation
from lt_train.runs.directory import write_text

MOST_VALUES = 101


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        option: A numeric option of the calibration.
        values: V values, ascending.
        files: The split that decides; the recipe's validation data unless given.
    """

    option: str
    values: tuple[float, ...]
    files: Files | None = None


def parse_search(text: str) -> tuple[str, tuple[float, ...]]:
    """Option and values of a text: ``tau=0:1:0.1`` (first, last, step) or ``tau=0,0.5,1``.

    Raises:
        RecipeError: The text is neither, or asks for no value or very many.
    """
    option, sign, spelled = text.partition("=")
    try:
        if not sign or not option:
            raise ValueError
        if ":" in spelled:
            first, last, step = (Decimal(part) for part in spelled.split(":"))
            if not step > 0 or not first <= last or (last - first) / step >= MOST_VALUES:
                raise ValueError
            values = [first + step * i for i in range(int((last - first) / step) + 1)]
        else:
            values = sorted({Decimal(part) for part in spelled.split(",")})
        if not all(value.is_finite() for value in values):
            raise ValueError
    except (ValueError, InvalidOperation):
        raise RecipeError(
            f"--search: got '{text}'; write OPTION=FIRST:LAST:STEP, for example tau=0:1:0.1, or OPTION=A,B,C; "
            f"at most {MOST_VALUES} values"
        ) from None
    return option, tuple(float(value) for value in values)


def search_split(search: Search, data: RunData) -> ValidationData:
    """What the search measures on.

    Raises:
        DataError: The split cannot be used.
    """
    split = data.val
    if search.files is not None:
        split = load_validation(search.files, data.train.counts, masks=False, reading=data.train.reading)
    assert split is not None, "internal error: checked before anything was read"
    if not split.counts.instances.any():
        raise DataError(
            f"{split.file.path}: no object to measure an AP on, by which a search takes a value; "
            "give another split with --annotations and --images"
        )
    return split


def search_option(
    model: LongTailDetector,
    recipe: Recipe,
    data: RunData,
    search: Search,
    split: ValidationData,
    processes: Processes,
    known: KnownValidation | None = None,
) -> list[dict[str, Any]] | None:
    """Metrics of the detections with each value, in the order of the values.

    Args:
        model: The detector with a fitted calibration, on its device; its option is left at the last value.
        recipe: Batch size and workers.
        data: Data of the run.
        search: Option and values.
        split: See :func:`search_split`.
        processes: This process among others, each of which looks at its share of the images.
        known: Features of the images, to open none of them.

    Returns:
        The metrics; ``None`` in all processes but the first.

    Raises:
        DataError: An image cannot be read.
    """
    if known is None:
        found = _detections_of_values(model, split, recipe, search, processes)
    else:
        found = known.predict_values(model, split, search.option, search.values, processes)
    if found is None:
        return None
    options: dict[str, Any] = {"groups": data.groups, "train_counts": data.train.counts}
    return [measure(split.file, one, truth=split.truth, iou_types=("bbox",), **options).metrics for one in found]


def _detections_of_values(
    model: LongTailDetector, split: DetectionData, recipe: Recipe, search: Search, processes: Processes
) -> list[Detections] | None:
    """V detections over all images, in their order; at the first process."""
    images, size = ImageList.of(split), recipe.eval.batch
    rows = list(range(len(images.ids)))
    batches = processes.share([rows[start : start + size] for start in range(0, len(rows), size)])
    # of each batch, the detections of each value
    own: list[list[Detections]] = []
    device = next(model.parameters()).device
    model.eval()
    memory = named_memory("searching", inference_advice(recipe))
    with memory, torch.inference_mode(), Bar("searching") if processes.is_first else nullcontext(SILENT) as bar:
        for batch in loaded_images(images, batches, recipe.data.workers):
            processes.check()
            for _, image in batch:
                if isinstance(image, DataError):
                    raise image
            pixels = [image for _, image in batch if isinstance(image, Tensor)]
            image_ids = images.ids[[row for row, _ in batch]].tolist()
            inputs = [as_input(image, device) for image in pixels]
            of_values = model.detections_with(inputs, search.option, search.values)
            own.append([join_detections(_columns(image_ids, pixels, found, split.ids)) for found in of_values])
            bar(batch[-1][0] + 1, len(rows))
    parts = processes.gather(pack(own))
    if parts is None:
        return None
    shares = [unpack(part, list[list[Detections]]) for part in parts]
    # the processes took the batches in turns
    in_order = [batch for turn in zip_longest(*shares) for batch in turn if batch is not None]
    return [join_detections(list(one)) for one in zip(*in_order, strict=True)]


def _columns(
    image_ids: Sequence[int], images: Sequence[Tensor], found: Sequence[dict[str, Tensor]], category_ids: CategoryIds
) -> list[Detections]:
    """What was found in each image of a batch, as columns."""
    return [
        model_detections(image_id, detection, height=image.shape[-2], width=image.shape[-1], category_ids=category_ids)
        for image_id, image, detection in zip(image_ids, images, found, strict=True)
    ]


def write_search(report: Path, search: Search, tried: Sequence[dict[str, Any]]) -> list[str]:
    """Writes ``search.csv`` and ``search.png``; lines for people.

    Args:
        report: Directory of the run's pictures.
        search: What was searched.
        tried: Metrics of each value.
    """
    report.mkdir(exist_ok=True)
    names = list(tried[0]["bbox"]["groups"])
    rows = [
        [value, metrics["bbox"]["AP"], *(metrics["bbox"]["groups"][name] for name in names)]
        for value, metrics in zip(search.values, tried, strict=True)
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[search.option, "AP", *names], *rows])
    write_text(report / "search.csv", text.getvalue())
    plot_search(report / "search.png", search.option, search.values, tried)
    table = [[search.option, "AP", *names], *([f"{row[0]:g}", *map(percent, row[1:])] for row in rows)]
    width = max(len(cell) for row in table for cell in row) + 2
    lines = ["box AP in percent:", *("".join(cell.rjust(width) for cell in row) for row in table)]
    best = max(rows, key=lambda row: row[1] or 0.0)
    lines.append(f"best: {search.option}={best[0]:g}")
    return lines
