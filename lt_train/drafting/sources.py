"""What a path to data of one's own holds: files to train on and to evaluate on."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from lt_data.dataset.names import ANNOTATIONS, VALIDATION, is_dataset_dir
from lt_data.errors import DataError
from lt_data.splitting.output import TRAIN, VAL, fold_name

ALLOWED: Final = (
    f"allowed are a folder that lt-data split wrote ({TRAIN}, {VAL}), a dataset directory ({ANNOTATIONS}), or one "
    "annotation file"
)


class Sources(NamedTuple):
    """Where the data is.

    Attributes:
        train: Annotation file, or a dataset directory.
        val: Annotation file, or ``None``.
        why: Where the validation data is from, or why there is none.
    """

    train: Path
    val: Path | None
    why: str


def find_sources(data: Path, val: Path | None = None) -> Sources:
    """The files of a path to data.

    Args:
        data: A folder of a split, a dataset directory, or one annotation file.
        val: The validation file, if it is named.

    Raises:
        DataError: It is none of these.
    """
    train, beside, why = _training(data)
    if val is not None:
        return Sources(train, val, "as it was given")
    return Sources(train, beside, why)


def _training(data: Path) -> Sources:
    if data.is_file():
        return Sources(data, None, f"missing; lt-data split {data} --val 0.2 --out data makes one")
    if (data / TRAIN).is_file():
        val = data / VAL
        there = val.is_file()
        return Sources(data / TRAIN, val if there else None, "of the split" if there else f"missing: there is no {val}")
    if is_dataset_dir(data) or (data / ANNOTATIONS).is_file():
        val = data / VALIDATION
        why = "of the dataset directory" if val.is_file() else "missing; name a file with --val"
        return Sources(data, val if val.is_file() else None, why)
    first = data / fold_name(0)
    if (first / TRAIN).is_file():
        raise DataError(f"{data}: holds the folds of lt-data split --folds; give one of them, for example {first}")
    if not data.exists():
        raise DataError(f"{data}: is not there; {ALLOWED}")
    raise DataError(f"{data}: holds neither {TRAIN} nor {ANNOTATIONS}; {ALLOWED}")
