"""Predictions of a model on a data set, measured and written: AP of boxes and masks, overall, per group, per class."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from lt_data.counts import CategoryCounts
from lt_data.errors import DataError, OutputError, RecipeError
from lt_data.groups import Group, make_groups
from lt_train.data.dataset import DetectionData, DetectionDataset, make_loader
from lt_train.data.plan import Draw
from lt_train.detectors import LongTailDetector
from lt_train.engine.checkpoint import load_checkpoint
from lt_train.engine.log import make_bar
from lt_train.engine.run_dir import RunDir
from lt_train.engine.setup import choose_device, counts_from_plain, has_masks, load_validation, make_model
from lt_train.evaluation import (
    Evaluation,
    detection_results,
    evaluate_coco,
    format_metrics,
    per_class_rows,
    summarise,
    write_evaluation,
)
from lt_train.evaluation.detections import IouType
from lt_train.recipe import Files, Recipe

EVALUATION_FILES = ("metrics.json", "per_class.csv", "predictions.json")
# seconds between progress lines where there is no terminal
LINE_EVERY = 10.0


@dataclass(frozen=True)
class Measured:
    """An evaluation.

    Attributes:
        metrics: The content of ``metrics.json``.
        results: COCO result records.
        text: The metrics as a table.
    """

    metrics: dict[str, Any]
    results: list[dict[str, Any]]
    text: str


def evaluate_run(
    path: Path,
    *,
    checkpoint: str = "last",
    files: Files | None = None,
    out: Path | None = None,
    force: bool = False,
    device: str | None = None,
    console: Console | None = None,
) -> tuple[Measured, Path]:
    """Evaluates a checkpoint of a run.

    Args:
        path: The run directory.
        checkpoint: ``last`` or ``best``.
        files: Annotations and images to evaluate on; the recipe's validation data unless given.
        out: Where to write; ``eval`` in the run directory for the run's own data and last checkpoint, which is renewed.
        force: Replace an evaluation that exists elsewhere.
        device: Device, the recipe's unless given.
        console: Where the progress bar goes.

    Returns:
        The evaluation and the directory that it was written to.

    Raises:
        DataError: The run, the checkpoint or the data cannot be used.
        OutputError: The output exists.
    """
    run = RunDir(path)
    recipe = run.load_recipe()
    out = _output(run, checkpoint, files, out, force)
    source = files or recipe.data.val
    if source is None:
        raise RecipeError(f"{path}: its recipe has no data.val; give --annotations and --images")
    if checkpoint == "best" and not run.best.is_file():
        raise DataError(f"{run.best}: not there; a run has a best checkpoint once it was evaluated on validation data")
    content = load_checkpoint(run.checkpoint(checkpoint))
    counts = counts_from_plain(content["categories"])
    model = make_model(recipe, counts, load_pretrained=False)
    model.load_state_dict(content["model"])
    where = choose_device(device or recipe.device)
    data = load_validation(source, counts, masks=has_masks(recipe))
    groups = make_groups(counts.category_ids, counts.instances, recipe.data.groups)
    measured = evaluate_model(model.to(where), data, recipe, counts=counts, groups=groups, console=console, out=out)
    return measured, out


def _output(run: RunDir, checkpoint: str, files: Files | None, out: Path | None, force: bool) -> Path:
    if out is None and files is None and checkpoint == "last":
        return run.evaluation
    if out is None:
        stem = f"-{files.annotations.stem}" if files else ""
        out = run.path / f"eval-{checkpoint}{stem}"
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; choose another --out")
    there = [name for name in EVALUATION_FILES if (out / name).exists()]
    if there and not force:
        raise OutputError(f"{out}: holds {', '.join(there)}; choose another --out, or replace them with --force")
    return out


def evaluate_model(
    model: LongTailDetector,
    data: DetectionData,
    recipe: Recipe,
    *,
    counts: CategoryCounts,
    groups: tuple[Group, ...],
    out: Path,
    console: Console | None = None,
) -> Measured:
    """Predicts, measures and writes ``metrics.json``, ``per_class.csv`` and ``predictions.json``.

    Args:
        model: The detector, on its device.
        data: What to evaluate on.
        recipe: Batch size, workers and whether there are masks.
        counts: Counts of the training file.
        groups: Groups of the training file.
        out: Directory to write to.
        console: Where the progress bar goes.
    """
    results = predict(model, data, recipe, console=console)
    kinds: tuple[IouType, ...] = ("bbox", "segm") if has_masks(recipe) else ("bbox",)
    evaluations: dict[str, Evaluation] = {kind: evaluate_coco(data.file, results, iou_type=kind) for kind in kinds}
    frequency = dict(zip(counts.category_ids.tolist(), counts.frequencies, strict=True))
    metrics = summarise(evaluations, groups=groups, frequency=frequency)
    rows = per_class_rows(evaluations, groups=groups, train_counts=counts)
    write_evaluation(out, metrics, rows, results)
    return Measured(metrics, results, format_metrics(metrics))


def predict(
    model: LongTailDetector, data: DetectionData, recipe: Recipe, *, console: Console | None = None
) -> list[dict[str, Any]]:
    """Detections of every image as COCO results, in the order of the file.

    Args:
        model: The detector, on its device; left in the mode it was in.
        data: The images.
        recipe: Batch size and workers.
        console: Where the progress bar goes.
    """
    rows = np.arange(len(data.paths))
    dataset = DetectionDataset(data, rows)
    draws = [Draw(0, int(row), int(row)) for row in rows]
    batches = [draws[i : i + recipe.eval.batch] for i in range(0, len(draws), recipe.eval.batch)]
    loader = make_loader(dataset, batches, workers=recipe.data.workers)
    device = next(model.parameters()).device
    results: list[dict[str, Any]] = []
    was_training = model.training
    model.eval()
    console = console or Console(stderr=True)
    last_line = time.monotonic()
    with torch.inference_mode(), make_bar(console, "evaluating") as bar:
        task = bar.add_task("", total=len(rows), note="")
        for images, targets in loader:
            detections = model([image.to(device).float() / 255 for image in images])
            for image, target, detection in zip(images, targets, detections, strict=True):
                height, width = image.shape[-2:]
                results += detection_results(
                    target["image_id"], detection, height=height, width=width, category_ids=data.ids
                )
            bar.advance(task, len(images))
            if bar.disable and time.monotonic() - last_line > LINE_EVERY:
                last_line = time.monotonic()
                done = int(bar.tasks[task].completed)
                console.print(f"evaluating: {done:,} of {len(rows):,} images", highlight=False)
    model.train(was_training)
    return results


def selection_ap(metrics: dict[str, Any]) -> float | None:
    """The figure that decides which checkpoint is best: mask AP, or box AP without masks."""
    value = metrics.get("segm", metrics["bbox"])["AP"]
    return None if value is None else float(value)
