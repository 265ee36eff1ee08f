"""Everything about one set of predictions: AP of boxes and masks, per group and class, with a record of the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.counts.categories import CategoryCounts, count_categories
from lt_data.counts.training import load_train_counts
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError
from lt_data.groups import Group
from lt_data.progress import SILENT, Progress
from lt_train.evaluation.directory import (
    METRICS,
    PREDICTIONS,
    EvaluationInputs,
    check_evaluation_dir,
    evaluation_inputs,
    remove_results,
    write_evaluation,
)
from lt_train.evaluation.engines.choose import EngineName
from lt_train.evaluation.engines.protocols import ProtocolChoice
from lt_train.evaluation.figures.average_precision import Evaluation, evaluate_checked
from lt_train.evaluation.figures.group_sets import GROUP_SETS, evaluation_groups
from lt_train.evaluation.figures.metrics import summarise
from lt_train.evaluation.figures.per_class import Cell, per_class_rows
from lt_train.evaluation.figures.table import format_metrics
from lt_train.evaluation.predictions.columns import IouType, Problem
from lt_train.evaluation.predictions.reading import Predictions, read_detections
from lt_train.evaluation.truth.columns import GroundTruth, load_ground_truth


@dataclass(frozen=True)
class Choices:
    """How to measure.

    Attributes:
        protocol: ``auto`` (what the annotation file is made for), ``coco`` or ``lvis``.
        engine: ``auto`` (hotcoco if it agrees with the official tool here), ``fast`` (refused if not) or ``official``.
        fixed: Add AP with the best 10,000 detections of a category over all images.
        skip_invalid: Leave out invalid predictions instead of refusing all.
    """

    protocol: ProtocolChoice = "auto"
    engine: EngineName = "auto"
    fixed: bool = False
    skip_invalid: bool = False


@dataclass(frozen=True)
class Measured:
    """An evaluation.

    Attributes:
        metrics: Content of ``metrics.json``.
        per_class: Rows of ``per_class.csv``.
        inputs: Content of ``inputs.json``.
        text: The figures as a table.
        skipped: Invalid predictions that were left out.
        notes: What of the annotations was not measured, and how images were found, one line each.
    """

    metrics: dict[str, Any]
    per_class: list[dict[str, Cell]]
    inputs: EvaluationInputs
    text: str
    skipped: tuple[Problem, ...]
    notes: tuple[str, ...] = ()


def measure(
    annotations: AnnotationFile,
    predictions: Predictions,
    *,
    truth: GroundTruth | None = None,
    iou_types: Sequence[IouType] | None = None,
    groups: Sequence[Group] = (),
    train_counts: CategoryCounts | None = None,
    choices: Choices | None = None,
    stored_as: str = PREDICTIONS,
) -> Measured:
    """Measures predictions.

    Args:
        annotations: What they are measured against.
        predictions: A COCO results file, its records, or columns.
        truth: The annotations as columns, where they were read before.
        iou_types: ``bbox`` and/or ``segm``; what the predictions have, unless given.
        groups: Groups of the training set.
        train_counts: Counts of the training set; without them r, c and f are those of the annotation file.
        choices: How to measure.
        stored_as: Where the predictions will lie, from the directory of the evaluation.

    Raises:
        DataError: Annotations or predictions that cannot be measured, or not by this protocol.
        RecipeError: The engine is not installed.
    """
    choices = choices or Choices()
    if truth is None:
        truth = load_ground_truth(annotations, masks=False)
    found = read_detections(predictions, truth, iou_types=iou_types, skip_invalid=choices.skip_invalid)
    if "segm" in found.iou_types:
        # masks take long to decode, so they come last: only if they are measured, and the predictions are whole
        found = found.with_truth_masks(annotations)

    def run(*, fixed: bool) -> dict[str, Evaluation]:
        return {
            kind: evaluate_checked(found, iou_type=kind, protocol=choices.protocol, engine=choices.engine, fixed=fixed)
            for kind in found.iou_types
        }

    evaluations = run(fixed=False)
    fixed = run(fixed=True) if choices.fixed else None
    metrics = summarise(evaluations, groups=groups, frequency=_frequencies(train_counts), fixed=fixed)
    return Measured(
        metrics=metrics,
        per_class=per_class_rows(evaluations, groups=groups, train_counts=train_counts),
        inputs=evaluation_inputs(
            annotations.path,
            annotations.sha256,
            protocol=metrics["protocol"],
            max_detections=metrics["max_detections"],
            groups=groups,
            train_counts=train_counts,
            predictions=stored_as,
            skip_invalid=choices.skip_invalid,
        ),
        text=format_metrics(metrics),
        skipped=found.skipped,
        notes=truth.notes,
    )


def _frequencies(counts: CategoryCounts | None) -> dict[int, str] | None:
    if counts is None or not all(counts.frequencies):
        return None
    return dict(zip(counts.category_ids.tolist(), counts.frequencies, strict=True))


def evaluate_predictions(
    predictions: Path,
    annotations: Path,
    *,
    train_counts: Path | None = None,
    groups: str | None = None,
    choices: Choices | None = None,
    out: Path | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Measured:
    """Measures a COCO results file of any framework.

    Args:
        predictions: The results file (JSON, may be ``.gz`` or ``.zip``).
        annotations: A COCO or LVIS annotation file, or a dataset directory.
        train_counts: What was trained on: a dataset directory, an annotation file, or a CSV with ``category_id`` and
            ``instances``. Without it there are no groups.
        groups: A preset, bounds such as ``10,100,1000``, or ``coco-lt-paper``; ``bags`` unless given.
        choices: How to measure.
        out: Directory for ``metrics.json``, ``per_class.csv`` and ``inputs.json``; nothing is written without.
        force: Replace an evaluation that is there.
        progress: Told of each long step, and of the bytes or images that are done.

    Raises:
        DataError: An input cannot be used.
        RecipeError: The engine is not installed.
        OutputError: The output exists, or cannot be written.
    """
    if out is not None:
        check_evaluation_dir(out, force=force, inputs=[predictions])
    path = annotations_path(Path(annotations))
    counts = None
    if train_counts is not None:
        progress.step(f"counting {train_counts}")
        counts = load_train_counts(train_counts)
    progress.step(f"reading {path}")
    file = read_annotations(path, progress=progress)
    if counts is not None:
        _check_counts(counts, file, train_counts)
    chosen = _groups(groups, counts, file)
    progress.step(f"measuring {predictions}")
    stored_as = str(Path(predictions).resolve())
    measured = measure(
        file, Path(predictions), groups=chosen, train_counts=counts, choices=choices, stored_as=stored_as
    )
    if out is not None:
        replaced = (out / METRICS).exists()
        write_evaluation(out, measured.metrics, measured.per_class, inputs=measured.inputs)
        if replaced and force:
            # an input lies elsewhere: check_evaluation_dir saw to that
            remove_results(out)
    return measured


def _check_counts(counts: CategoryCounts, file: AnnotationFile, source: Path | None) -> None:
    """Refuses counts that would leave every group empty."""
    ours, theirs = file.categories.ids, counts.category_ids
    if not np.isin(ours, theirs).any():
        shown = [", ".join(map(str, ids[:3].tolist())) for ids in (theirs, ours)]
        raise DataError(
            f"--train-counts {source}: has none of the category ids of {file.path} ({shown[0]}, ... there; {shown[1]}, "
            "... here), so they may be labels or ids of another data set; write the ids of the annotation file"
        )


def _groups(name: str | None, counts: CategoryCounts | None, file: AnnotationFile) -> tuple[Group, ...]:
    if name in GROUP_SETS:
        # fixed lists, whatever the counts
        return evaluation_groups(str(name), counts or count_categories(file))
    if counts is not None:
        return evaluation_groups(name or "bags", counts)
    if name is not None:
        raise DataError(
            f"--groups {name}: groups are made of the instances in the training set; say what was trained on with "
            "--train-counts (a dataset directory, an annotation file, or a CSV)"
        )
    return ()
