"""Everything about one set of predictions: AP of boxes and masks, per group and class, with a record of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.counts.categories import CategoryCounts, count_categories
from lt_data.counts.group_file import load_groups
from lt_data.dataset.names import ANNOTATIONS, GROUPS, annotations_path, is_dataset_dir
from lt_data.errors import DataError
from lt_data.files.writing import sha256_of
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
from lt_train.evaluation.engines.protocols import Protocol, ProtocolChoice
from lt_train.evaluation.figures.average_precision import Evaluation, evaluate_checked
from lt_train.evaluation.figures.confusion import LOWEST_SCORE, Confusion, confusion_of
from lt_train.evaluation.figures.group_sets import evaluation_groups, needs_counts
from lt_train.evaluation.figures.metrics import summarise
from lt_train.evaluation.figures.per_class import Cell, per_class_rows
from lt_train.evaluation.figures.table import format_metrics
from lt_train.evaluation.predictions.columns import CheckedDetections, IouType, Problem
from lt_train.evaluation.predictions.notes import prediction_notes
from lt_train.evaluation.predictions.reading import Predictions, read_detections
from lt_train.evaluation.trained_on import Match, load_training, match_counts, trained_images_note
from lt_train.evaluation.truth.columns import GroundTruth, load_ground_truth
from lt_train.evaluation.truth.notes import frequency_notes, truth_notes


@dataclass(frozen=True)
class Choices:
    """How to measure.

    Attributes:
        protocol: ``auto`` (what the annotation file is made for), ``coco`` or ``lvis``.
        engine: ``auto`` (hotcoco if it agrees with the official tool here), ``fast`` (refused if not) or ``official``.
        fixed: Add AP with the best 10,000 detections of a category over all images.
        skip_invalid: Leave out invalid predictions instead of refusing all.
        boxes_only: Measure boxes, whether there are masks or not.
        confusion_score: Detections above it count in the confusion matrix.
    """

    protocol: ProtocolChoice = "auto"
    engine: EngineName = "auto"
    fixed: bool = False
    skip_invalid: bool = False
    boxes_only: bool = False
    confusion_score: float = LOWEST_SCORE


@dataclass(frozen=True)
class Measured:
    """An evaluation.

    Attributes:
        metrics: Content of ``metrics.json``.
        per_class: Rows of ``per_class.csv``.
        inputs: Content of ``inputs.json``.
        text: The figures as a table.
        skipped: Invalid predictions that were left out.
        notes: What was read in another way than it is written, what of the annotations was not measured, and how images
            were found, one line each.
        warnings: What is odd about the inputs and changes what the figures mean, one line each.
        confusion: What objects are taken for, if that was asked for.
    """

    metrics: dict[str, Any]
    per_class: list[dict[str, Cell]]
    inputs: EvaluationInputs
    text: str
    skipped: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    confusion: Confusion | None = None


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
    with_confusion: bool = False,
) -> Measured:
    """Measures predictions.

    Args:
        annotations: What they are measured against.
        predictions: A COCO results file, its records, or columns.
        truth: The annotations as columns, where they were read before.
        iou_types: ``bbox`` and/or ``segm``; what the predictions have, unless given or ``choices`` has boxes only.
        groups: Groups of the training set.
        train_counts: Counts of the training set; r, c and f come from them where the annotation file states none.
        choices: How to measure.
        stored_as: Where the predictions will lie, from the directory of the evaluation.
        with_confusion: Count what objects are taken for, too.

    Raises:
        DataError: Annotations or predictions that cannot be measured, or not by this protocol.
        RecipeError: The engine is not installed.
    """
    choices = choices or Choices()
    if truth is None:
        truth = load_ground_truth(annotations, masks=False)
    found = _checked(annotations, predictions, truth, ("bbox",) if choices.boxes_only else iou_types, choices)

    def run(*, fixed: bool) -> dict[str, Evaluation]:
        return {
            kind: evaluate_checked(found, iou_type=kind, protocol=choices.protocol, engine=choices.engine, fixed=fixed)
            for kind in found.iou_types
        }

    evaluations = run(fixed=False)
    fixed = run(fixed=True) if choices.fixed else None
    metrics = summarise(
        evaluations,
        groups=groups,
        frequency=None if annotations.categories.frequencies else _frequencies(train_counts),
        untrained=_untrained(train_counts),
        fixed=fixed,
    )
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
        notes=(*truth.notes, *found.notes),
        warnings=(
            *_warnings(annotations, found, predictions, choices),
            *frequency_notes(annotations, counted=_frequencies(train_counts) is not None),
        ),
        confusion=_confusion(found, metrics["protocol"], groups, choices) if with_confusion else None,
    )


def _confusion(found: CheckedDetections, protocol: Protocol, groups: Sequence[Group], choices: Choices) -> Confusion:
    return confusion_of(found.truth, found, protocol=protocol, groups=groups, lowest_score=choices.confusion_score)


def _checked(
    annotations: AnnotationFile,
    predictions: Predictions,
    truth: GroundTruth,
    iou_types: Sequence[IouType] | None,
    choices: Choices,
) -> CheckedDetections:
    """The predictions beside the annotations, with masks if these are measured."""
    found = read_detections(predictions, truth, iou_types=iou_types, skip_invalid=choices.skip_invalid)
    if "segm" not in found.iou_types:
        return found
    # masks take long to decode, so they come last: only if they are measured, and the predictions are whole
    return found.with_truth_masks(annotations)


def _warnings(
    annotations: AnnotationFile, found: CheckedDetections, predictions: Predictions, choices: Choices
) -> tuple[str, ...]:
    """What is odd about the inputs; detections in memory were made here and now."""
    lines = [*truth_notes(annotations, found.truth, protocol=choices.protocol), *found.warnings]
    if isinstance(predictions, str | Path):
        lines += prediction_notes(found, source=Path(predictions).name)
    return tuple(lines)


def _frequencies(counts: CategoryCounts | None) -> dict[int, str] | None:
    if counts is None or not all(counts.frequencies):
        return None
    return dict(zip(counts.category_ids.tolist(), counts.frequencies, strict=True))


def _untrained(counts: CategoryCounts | None) -> list[int]:
    """Dataset ids of the categories without a training instance."""
    return [] if counts is None else [int(i) for i in counts.category_ids[counts.instances == 0]]


def evaluate_predictions(
    predictions: Path | str,
    annotations: Path | str,
    *,
    train_counts: Path | str | None = None,
    match: Match | None = None,
    groups: str | None = None,
    choices: Choices | None = None,
    out: Path | str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Measured:
    """Measures a COCO results file of any framework.

    Args:
        predictions: The results file (JSON, may be ``.gz`` or ``.zip``).
        annotations: A COCO or LVIS annotation file, or a dataset directory.
        train_counts: What was trained on: a dataset directory, an annotation file, or a CSV with ``category_id`` and
            ``instances``. Without it there are no groups.
        match: What tells that a category of the training set is one of the annotations: its ``ids`` (names must agree
            where both sides have them, unless ``ids`` is given) or its ``names``.
        groups: A preset, bounds such as ``10,100,1000``, ``coco-lt-paper`` or a groups file; those of the dataset
            directory that was trained on, else ``bags``, unless given.
        choices: How to measure.
        out: Directory for ``metrics.json``, ``per_class.csv`` and ``inputs.json``; nothing is written without.
        force: Replace an evaluation that is there.
        progress: Told of each long step, and of the bytes or images that are done.

    Raises:
        DataError: An input cannot be used.
        RecipeError: The engine is not installed.
        OutputError: The output exists, or cannot be written.
    """
    out = None if out is None else Path(out)
    train_counts = None if train_counts is None else Path(train_counts)
    if out is not None:
        check_evaluation_dir(out, force=force, inputs=[Path(predictions), Path(annotations)])
    path = annotations_path(Path(annotations))
    counts = trained_file = None
    if train_counts is not None:
        progress.step(f"counting {train_counts}")
        counts, trained_file = load_training(train_counts)
    progress.step(f"reading {path}")
    file = read_annotations(path, only_matched=True, progress=progress)
    trained = counts
    warnings: tuple[str, ...] = ()
    if counts is not None:
        counts, warnings = match_counts(counts, file, source=str(train_counts), match=match)
        warnings += trained_images_note(trained_file, file, str(train_counts))
    chosen = _groups(groups, counts, file, _own_groups(train_counts, trained, counts))
    progress.step(f"measuring {predictions}")
    stored_as = str(Path(predictions).resolve())
    measured = measure(
        file,
        Path(predictions),
        groups=chosen,
        train_counts=counts,
        choices=choices,
        stored_as=stored_as,
        with_confusion=out is not None,
    )
    measured = replace(measured, warnings=(*warnings, *measured.warnings))
    if out is not None:
        replaced = (out / METRICS).exists()
        write_evaluation(
            out, measured.metrics, measured.per_class, inputs=measured.inputs, confusion=measured.confusion
        )
        if replaced and force:
            # an input lies elsewhere: check_evaluation_dir saw to that
            remove_results(out)
    return measured


def _directory_of(source: Path) -> Path | None:
    """The dataset directory that a path is, or whose annotation file it is."""
    directory = source.parent if source.name == ANNOTATIONS and (source.parent / GROUPS).is_file() else source
    return directory if is_dataset_dir(directory) else None


def _own_groups(
    source: Path | None, trained: CategoryCounts | None, matched: CategoryCounts | None
) -> Callable[[], tuple[Group, ...]] | None:
    """Reads the groups of a dataset directory, under the ids that its categories have in the annotations measured."""
    directory = None if source is None else _directory_of(source)
    if directory is None or trained is None or matched is None:
        return None

    def read() -> tuple[Group, ...]:
        groups = load_groups(directory / GROUPS, trained, sha256=sha256_of(directory / ANNOTATIONS)).groups
        if matched is trained:
            return groups
        names = dict(zip(trained.category_ids.tolist(), trained.names, strict=True))
        ids = dict(zip(matched.names, matched.category_ids.tolist(), strict=True))
        return tuple(
            replace(group, category_ids=tuple(sorted(ids[names[i]] for i in group.category_ids if names[i] in ids)))
            for group in groups
        )

    return read


def _groups(
    name: str | None,
    counts: CategoryCounts | None,
    file: AnnotationFile,
    own: Callable[[], tuple[Group, ...]] | None,
) -> tuple[Group, ...]:
    if name is not None and not needs_counts(name):
        # fixed lists, whatever the counts
        return evaluation_groups(name, counts or count_categories(file))
    if name is None and own is not None:
        return own()
    if counts is not None:
        return evaluation_groups(name or "bags", counts)
    if name is not None:
        raise DataError(
            f"--groups {name}: groups are made of the instances in the training set; say what was trained on with "
            "--train-counts (a dataset directory, an annotation file, or a CSV)"
        )
    return ()
