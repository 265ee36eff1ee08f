"""What a dataset directory says of itself, typed.

Keys of ``build.json`` and columns of the tables that this version does not know are left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from lt_data.dataset.names import BUILD, ENVIRONMENT
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError

BUILD_SCHEMA = 1
ENVIRONMENT_SCHEMA = 1
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Id = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
NEEDED = ("scale", "edges", "threshold", "on_shortage")


class Input(msgspec.Struct):
    """What the dataset was made from; a name that comes with the package has no digest."""

    name: str
    sha256: str | None = None


class Inputs(msgspec.Struct):
    """The pool, and either a reference or explicit targets."""

    pool: Input
    reference: Input | None = None
    targets: Input | None = None
    val: Input | None = None


class Rule(msgspec.Struct):
    """The rule in words; ``crowds_count`` decides what an instance is."""

    alignment: str | None = None
    order: str | None = None
    images: str | None = None
    surplus: str | None = None
    crowds_count: bool = False


class LeftOver(msgspec.Struct):
    """Annotations of taken images that are not instances of the dataset."""

    surplus_instances: Count = 0
    crowds: Count = 0
    why: str | None = None


class Shortage(msgspec.Struct, frozen=True):
    """A category with fewer instances in the pool than its target."""

    category_id: Id
    target: Count
    available: Count


class RewrittenFields(msgspec.Struct):
    """What an LVIS pool said of itself and the dataset says of itself instead."""

    category_fields: list[str] = msgspec.field(default_factory=list)
    not_exhaustive_images: Count = 0
    why: str | None = None


class BuildRecord(msgspec.Struct, kw_only=True):
    """The content of ``build.json``, in the order of its keys."""

    schema: int
    inputs: Inputs
    rule: Rule = msgspec.field(default_factory=Rule)
    options: dict[str, Any]
    seed: int
    totals: dict[str, Count]
    images_rarest_first: Count | None = None
    dropped: LeftOver
    ignored: LeftOver = msgspec.field(default_factory=LeftOver)
    shortage: list[Shortage]
    rewritten: RewrittenFields | None = None
    warnings: list[str] | None = None
    files: dict[str, str]

    def build_options(self) -> BuildOptions:
        """The options of the build; those that are newer than the record have their defaults.

        Raises:
            DataError: One is missing or of another type.
        """
        missing = [key for key in NEEDED if key not in self.options]
        if missing:
            raise DataError(f"{BUILD}: options: {', '.join(missing)} missing; build the dataset anew")
        try:
            return msgspec.convert({**self.options, "seed": self.seed}, BuildOptions)
        except msgspec.ValidationError as error:
            raise DataError(f"{BUILD}: options: {error}; build the dataset anew") from None

    def unknown_options(self) -> list[str]:
        """Options with a value that this version does not have."""
        known = {field.name for field in fields(BuildOptions)}
        return sorted(key for key, value in self.options.items() if key not in known and value is not None)

    def content(self) -> dict[str, Any]:
        """What ``build.json`` holds; inputs that there are not, and keys of what was not done, are left out."""
        content: dict[str, Any] = msgspec.to_builtins(self, enc_hook=_plain_float)
        content["inputs"] = {key: given for key, given in content["inputs"].items() if given is not None}
        if self.ignored.why is None:
            del content["ignored"]
        if self.rewritten is None:
            del content["rewritten"]
        return content


def _plain_float(value: object) -> float:
    """A threshold may be a float of NumPy."""
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"a {type(value).__name__} has no place in {BUILD}")


class CategoryRow(msgspec.Struct):
    """A row of ``categories.csv``: no rank without instances in the pool, no reference rank with explicit targets."""

    category_id: Id
    name: str
    pool_instances: Count
    pool_images: Count
    reference_instances: Count
    target: Count
    instances: Count
    images: Count
    group: str
    rank: Count | None = None
    reference_rank: Count | None = None


class FactorRow(msgspec.Struct):
    """A row of ``repeat_factors.csv``."""

    image_id: Id
    repeat_factor: float


Row = TypeVar("Row", CategoryRow, FactorRow)


class Paths(msgspec.Struct):
    """Where the pool was read and the directory written."""

    pool: str
    out: str


class Environment(msgspec.Struct):
    """The content of ``environment.json``: where, when and with what the directory was made."""

    schema: int
    date: datetime
    python: str
    platform: str
    packages: dict[str, str]
    command: list[str]
    paths: Paths


def read_build_record(directory: Path) -> BuildRecord:
    """``build.json`` of a dataset directory.

    Raises:
        DataError: It is missing, not readable, or of another schema.
    """
    path = directory / BUILD
    try:
        data = path.read_bytes()
        record = msgspec.json.decode(data, type=BuildRecord)
        # the typed decoder skips the values of unknown keys without a look
        msgspec.json.decode(data)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); give a directory written by lt-data build-coco-lt"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not the record of a build ({error}); build the dataset anew") from None
    if record.schema != BUILD_SCHEMA:
        raise DataError(f"{path}: schema is {record.schema}; this version reads schema {BUILD_SCHEMA}")
    if (record.inputs.reference is None) == (record.inputs.targets is None):
        raise DataError(f"{path}: inputs: needs either a reference or targets; build the dataset anew")
    record.build_options()
    return record


def unknown_keys(directory: Path, record: BuildRecord) -> list[str]:
    """Keys of ``build.json`` that this version does not write, as ``inputs: licence``."""
    content = msgspec.json.decode((directory / BUILD).read_bytes())
    options = [f"options: {key}" for key in record.options if key not in {field.name for field in fields(BuildOptions)}]
    return [*_keys_beyond(content, msgspec.to_builtins(record)), *options]


def _keys_beyond(content: Any, known: Any, where: str = "") -> Iterator[str]:
    """Keys at any depth that ``known`` lacks."""
    if isinstance(content, dict) and isinstance(known, dict):
        for key, value in content.items():
            if key in known:
                yield from _keys_beyond(value, known[key], f"{where}{key}: ")
            else:
                yield f"{where}{key}"
    elif isinstance(content, list) and isinstance(known, list):
        for i, (value, typed) in enumerate(zip(content, known, strict=False)):
            yield from _keys_beyond(value, typed, f"{where}{i}: ")


def read_environment(directory: Path) -> Environment:
    """``environment.json`` of a dataset directory.

    Raises:
        DataError: It is missing, not readable, or of another schema.
    """
    path = directory / ENVIRONMENT
    try:
        environment = msgspec.json.decode(path.read_bytes(), type=Environment)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); build the dataset anew") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not the environment of a build ({error}); build the dataset anew") from None
    if environment.schema != ENVIRONMENT_SCHEMA:
        raise DataError(f"{path}: schema is {environment.schema}; this version reads schema {ENVIRONMENT_SCHEMA}")
    return environment


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Rows of a table of the dataset directory.

    Raises:
        DataError: The file cannot be read, or a column is missing or of another type; the first such row is named.
    """
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            return list(_converted(path, csv.DictReader(handle), kind))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); build the dataset anew") from None


def _converted(path: Path, rows: Iterable[Mapping[Any, Any]], kind: type[Row]) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        try:
            # an empty cell is a missing value; a row that is too long has its rest under None
            yield msgspec.convert({k: v for k, v in row.items() if k and v}, kind, strict=False)
        except msgspec.ValidationError as error:
            raise DataError(f"{path}: row {number}: {error}; build the dataset anew") from None


def unknown_columns(path: Path, kind: type[msgspec.Struct]) -> list[str]:
    """Columns of a table that no build writes, or that stand twice; cells beyond the header are named by their number.

    A file that cannot be read has none.
    """
    known = {field.name for field in msgspec.structs.fields(kind)}
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = csv.reader(handle)
            header = next(rows, [])
            longest = max((len(row) for row in rows), default=0)
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    foreign = [name for i, name in enumerate(header) if name not in known or name in header[:i]]
    return foreign + [f"number {i + 1}" for i in range(len(header), longest)]
