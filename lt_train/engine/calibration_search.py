"""Searching an option of a calibration: every image goes through the detector once, its regions are scored often.

Shapes: V values, D detections of one value over all images. Only boxes are measured: masks do not depend on scores.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
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
from lt_train.calibration import searchable_options
from lt_train.data.images import as_input
from lt_train.detectors import LongTailDetector
from lt_train.evaluation import Detections, join_detections, model_detections
from lt_train.evaluation.figures.table import percent
from lt_train.evaluation.measure import measure
from lt_train.features.calibrating import Known
from lt_train.features.evaluation import KnownValidation
from lt_train.inference.detect import ImageList, loaded_images, pack, unpack
from lt_train.memory import inference_advice, named_memory
from lt_train.processes import Processes
from lt_train.recipe.load import make_recipe
from lt_train.recipe.sections import Files, Recipe
from lt_train.report.search_curve import plot_search
from lt_train.runs.data import RunData
from lt_train.runs.directory import write_text
from lt_train.runs.search_images import SearchImages, SearchOn

MOST_VALUES = 101


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        option: A numeric option of the calibration.
        values: V values, ascending.
        files: The split that decides, if one is named.
        on: ``training``: the images that training held out, else some that it has seen; ``val``: the validation data.
    """

    option: str
    values: tuple[float, ...]
    files: Files | None = None
    on: SearchOn = "training"


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


def candidates(recipe: Recipe, search: Search) -> list[Recipe]:
    """The recipe with each value of the option that is searched.

    Raises:
        RecipeError: The calibration has no such number among its options, a value is out of range, or two splits are
            named.
        DataError: There is nothing to measure on.
    """
    name, option = recipe.calibration.name, search.option
    numbers = searchable_options(name)
    if not numbers:
        raise RecipeError(f"--search: got '{option}'; calibration {name} has no option that is a number; leave it out")
    if option not in numbers:
        raise RecipeError(
            f"--search: got '{option}'; options of calibration {name} that can be searched are {', '.join(numbers)}; "
            f"write for example --search {numbers[0]}=0.5,1"
        )
    if search.on == "val" and search.files is not None:
        raise RecipeError("--on val: --annotations and --images name another split; leave one of them out")
    if search.on == "val" and recipe.data.val is None:
        raise DataError("--on val: the recipe has no data.val; give the split with --annotations and --images")
    content = recipe.to_plain()
    return [make_recipe(content, [f"calibration.{option}={value!r}"], where="--search") for value in search.values]


def best_value(
    model: LongTailDetector,
    recipe: Recipe,
    data: RunData,
    search: Search,
    images: SearchImages,
    report: Path,
    say: Callable[[str], None],
    processes: Processes,
    known: Known | None = None,
) -> int:
    """Which value has the best box AP, the first of equals, in all processes; the first of them writes what it found.

    Args:
        model: As for :func:`search_option`.
        recipe: Batch size and workers.
        data: Data of the run.
        search: Option and values.
        images: What to measure on.
        report: Directory of the run's pictures.
        say: Takes lines for people.
        processes: This process among others.
        known: Features that the run is calibrated from, which may be of these images.

    Raises:
        DataError: An image cannot be read.
    """
    say(images.line)
    # of training images the candidates are kept with the objects among them, which a detector does not have
    validation = None if known is None or len(images.rows) < len(images.data.file.image_ids) else known.of(images.data)
    tried = search_option(model, recipe, data, search, images, processes, validation)
    if tried is not None:
        for line in write_search(report, search, images, tried):
            say(line)
    return processes.tell(0 if tried is None else _best(tried))


def _best(tried: Sequence[dict[str, Any]]) -> int:
    return max(range(len(tried)), key=lambda i: (tried[i]["bbox"]["AP"] or 0.0, -i))


def search_option(
    model: LongTailDetector,
    recipe: Recipe,
    data: RunData,
    search: Search,
    images: SearchImages,
    processes: Processes,
    known: KnownValidation | None = None,
) -> list[dict[str, Any]] | None:
    """Metrics of the detections with each value, in the order of the values.

    Args:
        model: The detector with a fitted calibration, on its device; its option is left at the last value.
        recipe: Batch size and workers.
        data: Data of the run.
        search: Option and values.
        images: What to measure on.
        processes: This process among others, each of which looks at its share of the images.
        known: Features of the images, to open none of them.

    Returns:
        The metrics; ``None`` in all processes but the first.

    Raises:
        DataError: An image cannot be read.
    """
    if known is None:
        found = _detections_of_values(model, images, recipe, search, processes)
    else:
        found = known.predict_values(model, images.data, search.option, search.values, processes)
    if found is None:
        return None
    options: dict[str, Any] = {"groups": data.groups, "train_counts": data.train.counts}
    file = images.data.file
    return [measure(file, one, truth=images.truth, iou_types=("bbox",), **options).metrics for one in found]


def _detections_of_values(
    model: LongTailDetector, measured: SearchImages, recipe: Recipe, search: Search, processes: Processes
) -> list[Detections] | None:
    """V detections over all images, in their order; at the first process."""
    images, size = ImageList.of(measured.data, measured.rows), recipe.eval.batch
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
            own.append([join_detections(_columns(image_ids, pixels, found, measured.data.ids)) for found in of_values])
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


def write_search(report: Path, search: Search, images: SearchImages, tried: Sequence[dict[str, Any]]) -> list[str]:
    """Writes ``search.csv`` and ``search.png``; lines for people.

    Args:
        report: Directory of the run's pictures.
        search: What was searched.
        images: What was measured on, which the table, the file and the picture name.
        tried: Metrics of each value.
    """
    report.mkdir(exist_ok=True)
    names = list(tried[0]["bbox"]["groups"])
    rows = [
        [value, metrics["bbox"]["AP"], *(metrics["bbox"]["groups"][name] for name in names)]
        for value, metrics in zip(search.values, tried, strict=True)
    ]
    text = io.StringIO()
    header = [search.option, "AP", *names, "measured_on"]
    csv.writer(text, lineterminator="\n").writerows([header, *([*row, images.kind] for row in rows)])
    write_text(report / "search.csv", text.getvalue())
    plot_search(report / "search.png", search.option, search.values, tried, mark=images.mark)
    table = [[search.option, "AP", *names], *([f"{row[0]:g}", *map(percent, row[1:])] for row in rows)]
    width = max(len(cell) for row in table for cell in row) + 2
    lines = [f"box AP in percent, {images.mark}:", *("".join(cell.rjust(width) for cell in row) for row in table)]
    best = _best(tried)
    lines.append(f"best: {search.option}={search.values[best]:g} ({images.mark})")
    equal = sum(metrics["bbox"]["AP"] == tried[best]["bbox"]["AP"] for metrics in tried)
    if equal > 1:
        lines.append(
            f"warning: {equal} of {len(tried)} values have the same AP, of which the first is taken: these images do "
            f"not tell them apart; name other ones with --annotations and --images, or set calibration.{search.option}"
        )
    return lines
