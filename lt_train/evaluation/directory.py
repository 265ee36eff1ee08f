"""The files of an evaluation: metrics, classes, inputs and predictions; UTF-8, newline ends.

A file appears whole or not at all: it is written beside its place and then moved there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from lt_data.counts.categories import CategoryCounts
from lt_data.counts.training import UNKNOWN
from lt_data.errors import DataError, OutputError
from lt_data.files.writing import adding_files, refuse_unnamable, write_whole
from lt_data.groups import Group
from lt_train.evaluation.engines.protocols import Protocol
from lt_train.evaluation.figures.confusion import Confusion, confusion_csv, confusion_groups_csv
from lt_train.evaluation.figures.per_class import Cell, per_class_csv
from lt_train.evaluation.predictions.columns import IOU_TYPES, Detections, IouType, Results
from lt_train.evaluation.truth.columns import plain_number

METRICS: Final = "metrics.json"
PER_CLASS: Final = "per_class.csv"
INPUTS: Final = "inputs.json"
PREDICTIONS: Final = "predictions.json"
CONFUSION: Final = "confusion.csv"
CONFUSION_GROUPS: Final = "confusion_groups.csv"
CONFUSION_PICTURE: Final = "confusion.png"
CONFUSION_GROUPS_PICTURE: Final = "confusion_groups.png"
# AP of every class, by what was measured
CLASS_PICTURES: Final[dict[IouType, str]] = {"bbox": "class_ap_bbox.png", "segm": "class_ap_segm.png"}
EVALUATION_FILES: Final = (
    *(METRICS, PER_CLASS, INPUTS, PREDICTIONS),
    *(CONFUSION, CONFUSION_GROUPS, CONFUSION_PICTURE, CONFUSION_GROUPS_PICTURE),
    *CLASS_PICTURES.values(),
)


def write_evaluation(
    out_dir: Path | str,
    metrics: Mapping[str, Any],
    per_class: Sequence[Mapping[str, Cell]],
    results: Results | Detections | None = None,
    *,
    inputs: EvaluationInputs | None = None,
    confusion: Confusion | None = None,
) -> None:
    """Writes the files of one evaluation, replacing older ones: all of them, or none if one cannot be written.

    Args:
        out_dir: Made if it does not exist.
        metrics: What :func:`lt_train.evaluation.summarise` returned.
        per_class: What :func:`lt_train.evaluation.per_class_rows` returned.
        results: COCO results, or detections as columns; no ``predictions.json`` is written without.
        inputs: What was measured; no ``inputs.json`` is written without.
        confusion: What objects are taken for; no ``confusion.csv`` and ``confusion_groups.csv`` are written without.

    Raises:
        OutputError: The directory or a file cannot be written.
    """
    with adding_files(Path(out_dir)) as out:
        _write(out / METRICS, (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())
        write_per_class(out / PER_CLASS, per_class)
        if inputs is not None:
            _write(out / INPUTS, inputs_to_json(inputs))
        if confusion is not None:
            _write(out / CONFUSION, confusion_csv(confusion).encode())
            _write(out / CONFUSION_GROUPS, confusion_groups_csv(confusion).encode())
        if results is not None:
            write_results(out / PREDICTIONS, results)


def write_per_class(path: Path | str, rows: Sequence[Mapping[str, Cell]]) -> None:
    """Writes the per-class table as CSV.

    Raises:
        OutputError: The file cannot be written.
    """
    _write(Path(path), per_class_csv(rows).encode())


def write_results(path: Path | str, results: Results | Detections) -> None:
    """Writes COCO results as JSON, one record per line.

    Raises:
        OutputError: The file cannot be written.
    """
    encoder = msgspec.json.Encoder(enc_hook=plain_number)
    records = results.records() if isinstance(results, Detections) else results
    lines = b",\n".join(encoder.encode(_with_text_counts(record)) for record in records)
    _write(Path(path), b"[\n" + lines + b"\n]\n" if len(results) else b"[]\n")


def remove_results(out_dir: Path | str) -> None:
    """Remove the ``predictions.json`` of an evaluation that was replaced by one of another results file.

    Raises:
        OutputError: It cannot be removed.
    """
    path = Path(out_dir) / PREDICTIONS
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: of an earlier evaluation, cannot be removed ({error.strerror})") from error


def _with_text_counts(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """RLE counts that pycocotools gave as bytes become text: JSON has no bytes."""
    counts = (record.get("segmentation") or {}).get("counts")
    if not isinstance(counts, bytes):
        return record
    return {**record, "segmentation": {**record["segmentation"], "counts": counts.decode("ascii")}}


def _write(path: Path, content: bytes) -> None:
    write_whole(path, content, make_folder=True, advice="choose another --out")


_Figure = Annotated[float, msgspec.Meta(ge=0, le=1)] | None


_Number = Annotated[int, msgspec.Meta(ge=0)]


def check_evaluation_dir(out: Path, *, force: bool, inputs: Sequence[Path] = ()) -> None:
    """Refuses a place for an evaluation before anything is read.

    Args:
        out: The directory to write.
        force: Whether the user asked to replace an evaluation that is there.
        inputs: Files that are read, which are never replaced.

    Raises:
        OutputError: It is a file, cannot be written, or holds an evaluation or an input; the path of an input is not
            UTF-8.
    """
    # Path.exists raises in a directory that one may not look into
    there_already = next(path for path in (out, *out.absolute().parents) if os.path.exists(path))
    if not there_already.is_dir():
        raise OutputError(f"{there_already}: is a file; choose another --out")
    if not os.access(there_already, os.W_OK | os.X_OK):
        raise OutputError(f"{out}: cannot be written (no permission in {there_already}); choose another --out")
    names = [out / name for name in EVALUATION_FILES if (out / name).exists()]
    refuse_unnamable(inputs, INPUTS)
    for path in inputs:
        if any(path.exists() and path.resolve() == name.resolve() for name in names):
            raise OutputError(f"{out}: holds {path.name}, which is read; choose another --out")
    if names and not force:
        there = ", ".join(path.name for path in names)
        raise OutputError(f"{out}: holds {there}; choose another --out, or replace them with --force")


class _Block(msgspec.Struct):
    """The figures of one IoU type that are read here or stand beside published ones."""

    AP: _Figure
    AP50: _Figure
    AP75: _Figure
    groups: dict[str, _Figure]
    frequency: dict[str, _Figure]


class _Classes(msgspec.Struct):
    AP: _Number
    groups: dict[str, _Number]
    frequency: dict[str, _Number]


class _Counts(msgspec.Struct):
    classes: _Classes


class _Metrics(msgspec.Struct):
    """What must be as it was written; the rest of the file is nobody's concern here."""

    schema: Literal[1]
    counts: _Counts
    bbox: _Block | msgspec.UnsetType = msgspec.UNSET
    segm: _Block | msgspec.UnsetType = msgspec.UNSET


def read_metrics(directory: Path) -> dict[str, Any]:
    """The content of the ``metrics.json`` of an evaluation directory.

    Raises:
        DataError: It is missing, cannot be read, or is of another version.
    """
    path = directory / METRICS
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        raise DataError(
            f"{directory}: holds no {METRICS}; give a run that was evaluated, or a directory that lt-train eval wrote"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: not the metrics of an evaluation ({error}); evaluate again") from None
    if content.get("schema") != 1 or not any(isinstance(content.get(kind), dict) for kind in IOU_TYPES):
        raise DataError(f"{path}: not metrics that this version knows (schema 1 with bbox or segm); evaluate again")
    try:
        msgspec.convert(content, _Metrics)
    except msgspec.ValidationError as error:
        raise DataError(f"{path}: not the metrics of an evaluation ({error}); evaluate again") from None
    return content


class GroupOfInputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group of the training set, as in ``groups.json``.

    Attributes:
        name: As in ``metrics.json``.
        lower: Smallest instance count; None where no bounds make the group.
        upper: First count beyond it, or None.
        category_ids: Dataset ids.
    """

    name: str
    lower: int | None
    upper: int | None
    category_ids: tuple[int, ...]


class TrainCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a category was trained on.

    Attributes:
        category_id: Dataset id.
        images: Training images with it; None where only instances are known.
        instances: Training annotations, without crowds.
    """

    category_id: int
    images: int | None
    instances: int


class EvaluationInputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``inputs.json`` (schema 1).

    Attributes:
        schema: 1.
        annotations: Path of the annotation file.
        sha256: Digest of its content (of the unpacked JSON).
        protocol: ``coco`` or ``lvis``.
        max_detections: The protocol's limit that was used.
        groups: Groups of the training set; empty where nothing is known of it.
        train_counts: Counts of the training set; None where nothing is known of it.
        predictions: Path of the COCO results file, from the directory of ``inputs.json``.
        skip_invalid: Whether invalid predictions were left out.
    """

    schema: Literal[1]
    annotations: str
    sha256: str
    protocol: Protocol
    max_detections: int
    groups: tuple[GroupOfInputs, ...] = ()
    train_counts: tuple[TrainCount, ...] | None = None
    predictions: str = PREDICTIONS
    skip_invalid: bool = False

    def group_list(self) -> tuple[Group, ...]:
        """The groups as the rest of the code has them."""
        return tuple(Group(g.name, g.lower, g.upper, g.category_ids) for g in self.groups)


def evaluation_inputs(
    annotations: Path | str,
    sha256: str,
    *,
    protocol: Protocol,
    max_detections: int,
    groups: Sequence[Group] = (),
    train_counts: CategoryCounts | None = None,
    predictions: str = PREDICTIONS,
    skip_invalid: bool = False,
) -> EvaluationInputs:
    """The record of an evaluation; see :class:`EvaluationInputs` for the arguments."""
    counts = None
    if train_counts is not None:
        columns = (train_counts.category_ids, train_counts.images, train_counts.instances)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        counts = tuple(TrainCount(i, None if images == UNKNOWN else images, n) for i, images, n in rows)
    return EvaluationInputs(
        schema=1,
        annotations=str(Path(annotations).resolve()),
        sha256=sha256,
        protocol=protocol,
        max_detections=max_detections,
        groups=tuple(GroupOfInputs(g.name, g.lower, g.upper, g.category_ids) for g in groups),
        train_counts=counts,
        predictions=predictions,
        skip_invalid=skip_invalid,
    )


def inputs_to_json(inputs: EvaluationInputs) -> bytes:
    """The file's content: indented JSON in UTF-8 with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(inputs), indent=2) + b"\n"


def read_inputs(directory: Path | str) -> EvaluationInputs:
    """Reads the ``inputs.json`` of an evaluation directory.

    Raises:
        DataError: It is missing, cannot be read or is of another version.
    """
    path = Path(directory) / INPUTS
    try:
        return msgspec.json.decode(path.read_bytes(), type=EvaluationInputs)
    except FileNotFoundError:
        raise DataError(
            f"{path}: not there, so nobody knows what was measured; evaluate again with lt-train eval"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except msgspec.DecodeError as error:
        raise DataError(
            f"{path}: not the record of an evaluation ({error}); evaluate again with lt-train eval"
        ) from None
