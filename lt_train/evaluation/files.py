"""The files of an evaluation: metrics, classes, inputs and predictions; UTF-8, newline ends.

A file appears whole or not at all: it is written beside its place and then moved there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lt_data.errors import OutputError

from .detections import Results
from .ground_truth import plain_number
from .inputs import NAME, EvaluationInputs, inputs_to_json
from .per_class import Cell, per_class_csv


def write_evaluation(
    out_dir: Path | str,
    metrics: Mapping[str, Any],
    per_class: Sequence[Mapping[str, Cell]],
    results: Results | None = None,
    *,
    inputs: EvaluationInputs | None = None,
) -> None:
    """Write the files of one evaluation, replacing older ones.

    Args:
        out_dir: Made if it does not exist.
        metrics: What :func:`lt_train.evaluation.summarise` returned.
        per_class: What :func:`lt_train.evaluation.per_class_rows` returned.
        results: COCO results; no ``predictions.json`` is written without.
        inputs: What was measured; no ``inputs.json`` is written without.

    Raises:
        OutputError: The directory or a file cannot be written.
    """
    out = Path(out_dir)
    _write(out / "metrics.json", (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())
    write_per_class(out / "per_class.csv", per_class)
    if inputs is not None:
        _write(out / NAME, inputs_to_json(inputs))
    if results is not None:
        write_results(out / "predictions.json", results)


def write_per_class(path: Path | str, rows: Sequence[Mapping[str, Cell]]) -> None:
    """Write the per-class table as CSV.

    Raises:
        OutputError: The file cannot be written.
    """
    _write(Path(path), per_class_csv(rows).encode())


def write_results(path: Path | str, results: Results) -> None:
    """Write COCO results as JSON, one record per line.

    Raises:
        OutputError: The file cannot be written.
    """
    encoder = msgspec.json.Encoder(enc_hook=plain_number)
    lines = b",\n".join(encoder.encode(_with_text_counts(record)) for record in results)
    _write(Path(path), b"[\n" + lines + b"\n]\n" if results else b"[]\n")


def remove_results(out_dir: Path | str) -> None:
    """Remove the ``predictions.json`` of an evaluation that was replaced by one of another results file.

    Raises:
        OutputError: It cannot be removed.
    """
    path = Path(out_dir) / "predictions.json"
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error
