"""``inputs.json``: what an evaluation was measured on, so that it can be compared with another one later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from lt_data.errors import DataError
from lt_data.groups import Group
from lt_data.train_counts import UNKNOWN

from .protocols import Protocol

if TYPE_CHECKING:
    from lt_data.counts import CategoryCounts

NAME: Final = "inputs.json"


class GroupOfInputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group of the training set, as in ``groups.json``.

    Attributes:
        name: As in ``metrics.json``.
        lower: Smallest instance count.
        upper: First count beyond it, or None.
        category_ids: Dataset ids.
    """

    name: str
    lower: int
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
    predictions: str = "predictions.json"
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
    predictions: str = "predictions.json",
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
    """Read the ``inputs.json`` of an evaluation directory.

    Raises:
        DataError: It is missing, cannot be read or is of another version.
    """
    path = Path(directory) / NAME
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
