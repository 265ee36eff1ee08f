"""Where the target of each category comes from: a named distribution, a file, a CSV, a law, or explicit targets.

Shapes: C pool categories, n_ref reference categories.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation, localcontext
from pathlib import Path
from typing import Final

import numpy as np

from lt_data.annotations.file import read_annotations
from lt_data.arrays import IntArray
from lt_data.counts.categories import (
    EMBEDDED,
    CategoryCounts,
    Reference,
    embedded_reference,
    header_mismatches,
    read_table,
    reference_from_file,
)
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError
from lt_data.files.csv_tables import LARGEST, Row, other_columns, read_csv, shown
from lt_data.progress import SILENT, Progress

LAWS: Final = ("zipf:ALPHA", "exp:IMBALANCE")
NAMED_TARGETS: Final = {"simcal": "simcal-coco-lt.csv"}
COUNT_COLUMNS: Final = ("instances", "instance_count", "count")


@dataclass(frozen=True)
class Targets:
    """Explicit targets.

    Attributes:
        name: ``simcal``, or a file's base name.
        instances: Wanted of each pool category, in the rows of the pool's counts, shape [C].
        count_crowds: Whether crowd annotations count as instances.
        sha256: Digest of the file, ``None`` for a named set.
    """

    name: str
    instances: IntArray
    count_crowds: bool = False
    sha256: str | None = None


def load_reference(
    source: str | Path,
    largest: int,
    categories: int,
    *,
    progress: Progress = SILENT,
) -> tuple[Reference, tuple[str, ...]]:
    """The distribution that a ``--reference`` or ``--lvis`` names, with warnings.

    Args:
        source: ``lvis-v0.5``, ``lvis-v1``, ``zipf:ALPHA``, ``exp:IMBALANCE``, or a path to a LVIS or COCO file, a
            dataset directory, or a CSV with a column ``instances``.
        largest: Instances of the pool's most frequent category: where a law begins.
        categories: Pool categories: how many counts a law has.
        progress: Told of each long step, and of the bytes or images that are done.

    Raises:
        DataError: The source is none of these, or cannot be read.
    """
    check_reference(source)
    if isinstance(source, str) and source in EMBEDDED:
        return embedded_reference(source), ()
    if _is_law(source):
        return law(str(source), largest, categories), ()
    path = annotations_path(Path(source))
    progress.step(f"reading {path}")
    if _is_csv(path):
        return reference_from_csv(path), ()
    file = read_annotations(path, only_matched=True, progress=progress)
    return reference_from_file(file), tuple(header_mismatches(file))


def check_reference(source: str | Path) -> None:
    """Refuses a reference that cannot be used, before a long read.

    Raises:
        DataError: The source is no known name, no law and no path that exists, or a CSV without counts.
    """
    if _is_law(source):
        law(str(source), 1, 1)
    elif _is_csv(source):
        reference_from_csv(Path(source))
    elif source not in EMBEDDED and not Path(source).exists():
        raise DataError(
            f"--reference: got '{source}'; allowed are {', '.join(EMBEDDED)}, {', '.join(LAWS)}, or an existing LVIS, "
            "COCO or CSV file"
        )


def check_targets(source: str | Path) -> None:
    """Refuses explicit targets that cannot be used, before a long read.

    Raises:
        DataError: The source is no known name and no CSV with the columns of :func:`load_targets`.
    """
    if source not in NAMED_TARGETS:
        _read_targets(Path(source))


def is_named(kind: str, name: str) -> bool:
    """Whether a name stands for a reference or targets by itself: those of the package, and laws.

    Args:
        kind: ``reference`` or ``targets``.
        name: What was given.
    """
    return name in NAMED_TARGETS if kind == "targets" else name in EMBEDDED or _is_law(name)


def _is_csv(source: str | Path) -> bool:
    return Path(source).suffix.lower() == ".csv" and Path(source).exists()


def _is_law(source: str | Path) -> bool:
    return isinstance(source, str) and source.partition(":")[0] in ("zipf", "exp") and ":" in source


def law(text: str, largest: int, categories: int) -> Reference:
    """Counts by a formula, in exact decimal arithmetic so that they are the same on every machine.

    ``zipf:ALPHA``: ``largest / (i + 1) ** ALPHA``; ``exp:IMBALANCE``: ``largest * IMBALANCE ** (-i / (C - 1))``; both
    rounded down, at least 1.

    Args:
        text: The law and its number.
        largest: Count of rank 0.
        categories: C.

    Raises:
        DataError: The number is missing or out of range.

    Source: the exponential form is that of CIFAR-LT (Cui et al., CVPR 2019), IMBALANCE = largest / smallest count.
    """
    kind, _, number = text.partition(":")
    least = 0 if kind == "zipf" else 1
    try:
        value = Decimal(number)
    except InvalidOperation:
        value = Decimal("NaN")
    most = 100 if kind == "zipf" else 10**9
    if not value.is_finite() or not least <= value <= most:
        allowed = "ALPHA is a number from 0 to 100" if kind == "zipf" else "IMBALANCE is a number from 1 to 1e9"
        raise DataError(f"--reference: got '{text}'; {allowed}, as in {'zipf:1.5' if kind == 'zipf' else 'exp:100'}")
    with localcontext() as context:
        context.prec = 40
        steps = Decimal(max(categories - 1, 1))
        counts = [
            largest / Decimal(i + 1) ** value if kind == "zipf" else largest * value ** (-Decimal(i) / steps)
            for i in range(categories)
        ]
    return Reference(text, np.array([max(1, int(count)) for count in counts], np.int64))


def reference_from_csv(path: Path) -> Reference:
    """Counts of a CSV with a column ``instances``; rows with 0 are left out.

    Raises:
        DataError: The file or the column cannot be read, or nothing is left.
    """
    found, rows = read_csv(path)
    column = next((name for name in COUNT_COLUMNS if name in found), None)
    if column is None:
        raise other_columns(path, found, "instance counts in a column 'instances'")
    counts = np.sort(np.array([row.whole(column) for row in rows], np.int64))[::-1]
    if not (counts > 0).any():
        raise DataError(f"{path}: every count is 0; a reference needs at least one category with instances")
    return Reference(path.name, counts[counts > 0].copy(), _sha256(path))


def load_targets(source: str | Path, counts: CategoryCounts) -> Targets:
    """The targets that ``--targets`` names, one for every pool category.

    Args:
        source: ``simcal``, or a CSV with the columns ``target`` and ``category_id`` or ``name``; if it has both,
            names that are filled in must be the pool's.
        counts: The pool's categories.

    Raises:
        DataError: The source cannot be read, or its categories are not those of the pool.
    """
    if isinstance(source, str) and source in NAMED_TARGETS:
        table, where = read_table(NAMED_TARGETS[source]), f"--targets {source}"
        wanted = {int(row["category_id"]): int(row["instances"]) for row in table}
        fixes = ("the pool must list COCO's categories",) * 2
        return Targets(source, _by_row(wanted, counts, where, fixes), count_crowds=True)
    path = Path(source)
    rows = _read_targets(path)
    _refuse_shared_names(path, rows, counts)
    by_name = dict(zip(counts.names, counts.category_ids.tolist(), strict=True))
    wanted = {}
    for row in rows:
        if "category_id" in row.cells:
            category_id = row.whole("category_id", least=-LARGEST)
        else:
            category_id = by_name.get(row.text("name"), shown(row.text("name")))
        wanted[category_id] = row.whole("target")
    _refuse_other_names(path, rows, counts)
    if len(wanted) < len(rows):
        raise DataError(f"{path}: a category occurs twice; give every category one row")
    return Targets(path.name, _by_row(wanted, counts, str(path), ("add them", "remove them")), sha256=_sha256(path))


def _refuse_shared_names(path: Path, rows: list[Row], counts: CategoryCounts) -> None:
    """A name alone says nothing where two categories of the pool have it."""
    given = {row.text("name") for row in rows if "category_id" not in row.cells}
    for name in sorted(given):
        ids = [str(i) for i, other in zip(counts.category_ids.tolist(), counts.names, strict=True) if other == name]
        if len(ids) > 1:
            raise DataError(
                f"{path}: {len(ids)} pool categories are called {shown(name)} (ids {', '.join(ids[:3])}); use the "
                "column category_id instead of name"
            )


def _refuse_other_names(path: Path, rows: list[Row], counts: CategoryCounts) -> None:
    """Where a row has both, id and name must be of the same category of the pool."""
    names = dict(zip(counts.category_ids.tolist(), counts.names, strict=True))
    other = []
    for row in rows:
        given = row.cells.get("name")
        if given and "category_id" in row.cells:
            key = row.whole("category_id", least=-LARGEST)
            if names.get(key, given) != given:
                other.append(f"line {row.line}: id {key} is {shown(given)}, in the pool {shown(names[key])}")
    if other:
        first = "; ".join(other[:3]) + ("; ..." if len(other) > 3 else "")
        raise DataError(f"{path}: {len(other)} names are not the pool's ({first}); mend them, or leave the names out")


def _read_targets(path: Path) -> list[Row]:
    if not path.exists():
        names = ", ".join(NAMED_TARGETS)
        raise DataError(f"--targets: got '{path}'; allowed are {names}, or a CSV with category_id and target")
    found, rows = read_csv(path)
    if "target" not in found or not {"category_id", "name"} & set(found):
        raise other_columns(path, found, "the columns 'target' and 'category_id' (or 'name')")
    return rows


def _by_row(wanted: dict[int, int], counts: CategoryCounts, where: str, fixes: tuple[str, str]) -> IntArray:
    ids = counts.category_ids.tolist()
    missing, unknown = [i for i in ids if i not in wanted], [str(i) for i in wanted if i not in set(ids)]
    problems = []
    if missing:
        problems.append(f"{where}: no target for {len(missing)} pool categories (ids {_first(missing)}); {fixes[0]}")
    if unknown:
        problems.append(f"{where}: {len(unknown)} categories are not in the pool ({_first(unknown)}); {fixes[1]}")
    if problems:
        raise DataError(problems)
    return np.array([wanted[i] for i in ids], np.int64)


def _first(values: list[int] | list[str]) -> str:
    return ", ".join(map(str, values[:3])) + (", ..." if len(values) > 3 else "")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
