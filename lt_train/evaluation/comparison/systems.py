"""Finished evaluations read back for a comparison: runs, or directories that ``lt-train eval`` wrote."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError
from lt_data.groups import Group
from lt_train.evaluation.comparison.bootstrap import class_ap, mean_ap
from lt_train.evaluation.comparison.differences import System
from lt_train.evaluation.comparison.matches import match
from lt_train.evaluation.directory import METRICS, EvaluationInputs, read_inputs, read_metrics
from lt_train.evaluation.engines.choose import EngineName
from lt_train.evaluation.predictions.columns import IOU_TYPES, IouType
from lt_train.evaluation.predictions.reading import read_detections
from lt_train.evaluation.truth.columns import GroundTruth, load_ground_truth

# metrics.json may come from another engine than the one that matches here
_TOLERANCE: Final = 1e-9


@dataclass(frozen=True)
class Stored:
    """An evaluation on disk.

    Attributes:
        name: What to call it.
        directory: Where its files are.
        inputs: What it was measured on.
        metrics: Content of its ``metrics.json``.
    """

    name: str
    directory: Path
    inputs: EvaluationInputs
    metrics: Mapping[str, Any]

    @property
    def predictions(self) -> Path:
        """Its COCO results file."""
        return self.directory / self.inputs.predictions


def read_stored(path: Path | str, *, name: str | None = None) -> Stored:
    """What is known of an evaluation before anything is matched.

    Args:
        path: A run directory or an evaluation directory.
        name: What to call it; the directory's name unless given.

    Raises:
        DataError: It is neither, or a file of it is missing or broken.
    """
    path = Path(path)
    directory = path if (path / METRICS).is_file() or not (path / "eval").is_dir() else path / "eval"
    metrics = read_metrics(directory)
    return Stored(name or distinct_names([directory])[0], directory, read_inputs(directory), metrics)


def read_all(paths: Sequence[Path | str]) -> tuple[Stored, ...]:
    """Evaluations with distinct names; see :func:`read_stored`.

    Raises:
        DataError: One cannot be read, or is given twice.
    """
    stored = [read_stored(path) for path in paths]
    places = [one.directory.resolve() for one in stored]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise DataError(f"compare: {paths[i]} is the same evaluation as {paths[places.index(place)]}; give it once")
    names = distinct_names([one.directory for one in stored])
    return tuple(replace(one, name=name) for one, name in zip(stored, names, strict=True))


def distinct_names(directories: Sequence[Path]) -> list[str]:
    """What to call evaluation directories: the run's name, with that of the evaluation unless it is the usual one.

    Args:
        directories: No directory twice.

    Returns:
        One a directory, led by as many parent folders as it takes to tell them apart.
    """
    places = [Path(os.path.abspath(directory)) for directory in directories]
    shown = [place.parent if place.name == "eval" and place.parent not in places else place for place in places]
    lengths = [2 if place.name.startswith("eval-") else 1 for place in shown]
    while True:
        names = [Path(*place.parts[-length:]).as_posix() for place, length in zip(shown, lengths, strict=True)]
        times = Counter(names)
        if len(times) == len(names):
            return names
        lengths = [length + (times[name] > 1) for name, length in zip(names, lengths, strict=True)]


def load_systems(
    stored: Sequence[Stored],
    *,
    annotations: Path | str | None = None,
    iou_types: Sequence[IouType] | None = None,
    engine: EngineName = "auto",
) -> tuple[System, ...]:
    """Matches the predictions of finished evaluations again, all against the same annotations.

    Args:
        stored: At least one, of :func:`read_stored`.
        annotations: Where the annotation file, or its dataset directory, is now; where it was when the first was
            evaluated unless given.
        iou_types: ``bbox`` and/or ``segm``; those that all of them have unless given.
        engine: See :func:`lt_train.evaluation.engines.choose.choose_engine`.

    Raises:
        DataError: They were measured on different annotations, by different protocols or groups; the annotation file
            is not there or is another one; or predictions do not give the figures beside them.
        RecipeError: The engine is not installed.
    """
    problems = incomparable(stored)
    if problems:
        raise DataError(problems)
    types = _shared_types(stored, iou_types)
    file = _read_same(stored[0].inputs, annotations)
    ground_truth = load_ground_truth(file, masks="segm" in types)
    return tuple(_system(one, ground_truth, types, engine) for one in stored)


def shared_groups(stored: Sequence[Stored]) -> tuple[Group, ...]:
    """The groups of all; they are the same once :func:`load_systems` took them."""
    return stored[0].inputs.group_list()


def incomparable(stored: Sequence[Stored]) -> list[str]:
    """One line per evaluation that was not measured as the first was."""
    if not stored:
        return ["compare: nothing to compare; give at least two runs or evaluation directories"]
    first = stored[0]
    lines = []
    for other in stored[1:]:
        ours, theirs = first.inputs, other.inputs
        if theirs.sha256 != ours.sha256:
            lines.append(
                f"{other.name}: measured on other annotations ({theirs.annotations}, sha256 {theirs.sha256[:12]}) than "
                f"{first.name} ({ours.annotations}, sha256 {ours.sha256[:12]}); evaluate both on the same file"
            )
        elif (theirs.protocol, theirs.max_detections) != (ours.protocol, ours.max_detections):
            lines.append(
                f"{other.name}: measured by {theirs.protocol} with {theirs.max_detections} detections, {first.name} by "
                f"{ours.protocol} with {ours.max_detections}; evaluate both alike"
            )
        elif theirs.groups != ours.groups:
            lines.append(
                f"{other.name}: has other groups of the training set than {first.name}; evaluate both with the same "
                "--train-counts and --groups"
            )
    return lines


def _shared_types(stored: Sequence[Stored], wanted: Sequence[IouType] | None) -> tuple[IouType, ...]:
    lines = []
    for one in stored:
        missing = [kind for kind in wanted or () if kind not in one.metrics]
        if missing:
            lines.append(f"{one.name}: has no {' and '.join(missing)} figures; evaluate it with them first")
    if lines:
        raise DataError(lines)
    types = tuple(kind for kind in IOU_TYPES if all(kind in one.metrics for one in stored))
    if not types:
        raise DataError("compare: some have only bbox figures, the others only segm; evaluate all with the same ones")
    return tuple(kind for kind in types if wanted is None or kind in wanted)


def _read_same(inputs: EvaluationInputs, annotations: Path | str | None) -> AnnotationFile:
    """The annotation file that was measured on, once its content is known to be the same."""
    path = annotations_path(Path(annotations or inputs.annotations))
    if not path.is_file():
        raise DataError(f"{path}: the annotations that were measured on are not there; say where with --annotations")
    file = read_annotations(path, only_matched=True)
    if file.sha256 != inputs.sha256:
        raise DataError(
            f"{path}: not the annotations that were measured on (sha256 {file.sha256[:12]}, then "
            f"{inputs.sha256[:12]}); give those with --annotations, or evaluate again"
        )
    return file


def _system(stored: Stored, ground_truth: GroundTruth, types: Sequence[IouType], engine: EngineName) -> System:
    inputs = stored.inputs
    if not stored.predictions.is_file():
        raise DataError(f"{stored.predictions}: the predictions of {stored.name} are not there; evaluate it again")
    detections = read_detections(
        stored.predictions,
        ground_truth,
        # as they were read then: detections that differ in their masks alone are no repetitions
        iou_types=[kind for kind in IOU_TYPES if kind in stored.metrics],
        source=str(stored.predictions),
        skip_invalid=inputs.skip_invalid,
    )
    matches = {}
    for iou_type in types:
        found = match(
            ground_truth,
            detections,
            iou_type=iou_type,
            protocol=inputs.protocol,
            max_detections=inputs.max_detections,
            engine=engine,
        )
        ap = class_ap(found).ap
        _check_figure(stored, iou_type, float(mean_ap(ap, ap[0] >= 0)[0]))
        matches[iou_type] = found
    return System(stored.name, matches, stored.metrics)


def _check_figure(stored: Stored, iou_type: IouType, measured: float) -> None:
    """Predictions that were replaced since would give intervals around figures that nobody measured."""
    noted = stored.metrics[iou_type]["AP"]
    same = measured != measured if noted is None else abs(measured - noted) <= _TOLERANCE
    if not same:
        raise DataError(
            f"{stored.directory}: {stored.inputs.predictions} gives {iou_type} AP {100 * measured:.3f}, {METRICS} says "
            f"{'nothing' if noted is None else f'{100 * noted:.3f}'}; the files are not of one evaluation, do it again"
        )
