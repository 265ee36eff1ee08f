"""What two annotation files, or two dataset directories, do not have in common.

Records are compared by id and by what they say: white space, the order of keys and 1 or 1.0 are no difference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.arrays import IntArray
from lt_data.counts.categories import CategoryCounts, count_categories
from lt_data.dataset.directory import read_groups
from lt_data.dataset.names import BUILD, CATEGORIES, GROUPS, REPEAT_FACTORS, annotations_path, is_dataset_dir
from lt_data.errors import DataError
from lt_data.groups import BAGS_EDGES, group_name_of, make_groups
from lt_data.progress import Progress

# the parts of build.json that say how a dataset was made; the others follow from them
SETTINGS: Final = ("schema", "inputs", "rule", "options", "seed")
# ids and rows of a list that the table shows; JSON has all
SHOWN = 5
NOT_THERE: Final = "(none)"


@dataclass(frozen=True)
class Records:
    """Images, annotations or categories, by dataset id.

    Attributes:
        only_a: Ids that only A has, ascending.
        only_b: Ids that only B has, ascending.
        changed: Id and names of the fields that differ, for ids that both have.
    """

    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    changed: tuple[tuple[int, tuple[str, ...]], ...]

    @property
    def identical(self) -> bool:
        """Whether both have the same records."""
        return not (self.only_a or self.only_b or self.changed)


@dataclass(frozen=True)
class Change:
    """One value that differs.

    Attributes:
        key: A category's id, or the name of a setting.
        name: The category's name (that of A where both have one), or nothing.
        a: Value in A.
        b: Value in B.
    """

    key: int | str
    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Diff:
    """Everything that differs between A and B.

    Attributes:
        a: Path of A.
        b: Path of B.
        images: Images by id.
        annotations: Annotations by id.
        categories: Categories by id; ``only_b`` were added, ``only_a`` removed.
        renamed: Categories that have another name.
        order: Lists whose records are the same but stand in another order.
        members: Other top-level members that differ (``info``, ``licenses``, ...).
        instances: Non-crowd instances of each category where they differ, the largest difference first; 0 for a
            category that one side does not list.
        groups: Group of each category that both list, where it differs.
        settings: Inputs, rule, options and seed of the builds; only for two dataset directories.
        files: Tables of the dataset directories whose bytes differ.
        same_bytes: Whether the annotation files are the same byte for byte.
    """

    a: str
    b: str
    images: Records
    annotations: Records
    categories: Records
    renamed: tuple[Change, ...]
    order: tuple[str, ...]
    members: tuple[str, ...]
    instances: tuple[Change, ...]
    groups: tuple[Change, ...]
    settings: tuple[Change, ...]
    files: tuple[str, ...]
    same_bytes: bool

    @property
    def identical(self) -> bool:
        """Whether A and B say the same; their bytes may still differ."""
        lists = (self.images, self.annotations, self.categories)
        others = (self.order, self.members, self.instances, self.groups, self.settings, self.files)
        return all(records.identical for records in lists) and not any(others)


def diff_datasets(a: Path | str, b: Path | str, *, progress: Progress | None = None) -> Diff:
    """Compares two dataset directories or annotation files (or one of each).

    Categories of a plain file are grouped with the bounds of the other side's directory, or 10, 100, 1000.

    Args:
        a: Directory written by ``lt-data build-coco-lt``, or a COCO or LVIS file.
        b: The same.
        progress: Called with the bytes read and the bytes in all, of A and then of B.

    Raises:
        DataError: One of them cannot be read.
    """
    a, b = Path(a), Path(b)
    file_a, file_b = (read_annotations(annotations_path(path), progress=progress) for path in (a, b))
    counts_a, counts_b = count_categories(file_a), count_categories(file_b)
    categories_a, categories_b = _category_records(file_a), _category_records(file_b)
    names = {**_names(counts_b), **_names(counts_a)}
    both_directories = is_dataset_dir(a) and is_dataset_dir(b)
    edges = next((read_groups(path)[0] for path in (a, b) if is_dataset_dir(path)), None) or BAGS_EDGES
    return Diff(
        a=str(a),
        b=str(b),
        images=_compare(file_a.image_ids, file_b.image_ids, file_a.image_records, file_b.image_records),
        annotations=_compare(
            file_a.annotation_ids, file_b.annotation_ids, file_a.annotation_records, file_b.annotation_records
        ),
        categories=_compare(
            file_a.categories.ids, file_b.categories.ids, list(categories_a.values()), list(categories_b.values())
        ),
        renamed=_changes(_names(counts_a), _names(counts_b), names),
        order=_other_order(file_a, file_b),
        members=_members_that_differ(file_a, file_b),
        instances=_by_size(_changes(_instances(counts_a, names), _instances(counts_b, names), names)),
        groups=_changes(_group_names(a, counts_a, edges), _group_names(b, counts_b, edges), names),
        settings=_settings_that_differ(a, b) if both_directories else (),
        files=_tables_that_differ(a, b) if both_directories else (),
        same_bytes=file_a.sha256 == file_b.sha256,
    )


def _compare(ids_a: IntArray, ids_b: IntArray, records_a: Sequence[Any], records_b: Sequence[Any]) -> Records:
    _, here, there = np.intersect1d(ids_a, ids_b, assume_unique=True, return_indices=True)
    changed = []
    for i, k in zip(here.tolist(), there.tolist(), strict=True):
        if bytes(records_a[i]) != bytes(records_b[k]):
            fields = _fields_that_differ(records_a[i], records_b[k], f"record with id {ids_a[i]}")
            if fields:
                changed.append((int(ids_a[i]), fields))
    only_a, only_b = np.setdiff1d(ids_a, ids_b), np.setdiff1d(ids_b, ids_a)
    return Records(tuple(only_a.tolist()), tuple(only_b.tolist()), tuple(changed))


def _fields_that_differ(a: msgspec.Raw, b: msgspec.Raw, what: str) -> tuple[str, ...]:
    ours, theirs = _decoded(a, what), _decoded(b, what)
    return tuple(key for key in {**ours, **theirs} if key not in ours or key not in theirs or ours[key] != theirs[key])


def _category_records(file: AnnotationFile) -> dict[int, msgspec.Raw]:
    records = msgspec.json.decode(file.members["categories"], type=list[msgspec.Raw])
    return dict(zip(file.categories.ids.tolist(), records, strict=True))


def _names(counts: CategoryCounts) -> dict[int, str]:
    return dict(zip(counts.category_ids.tolist(), counts.names, strict=True))


def _instances(counts: CategoryCounts, names: Mapping[int, str]) -> dict[int, int]:
    """Instances of every category of either side; 0 where a side does not list it."""
    return {
        **dict.fromkeys(names, 0),
        **dict(zip(counts.category_ids.tolist(), counts.instances.tolist(), strict=True)),
    }


def _group_names(path: Path, counts: CategoryCounts, edges: Sequence[int]) -> dict[int, str]:
    if is_dataset_dir(path):
        return group_name_of(read_groups(path)[1])
    return group_name_of(make_groups(counts.category_ids, counts.instances, edges))


def _changes(a: Mapping[int, Any], b: Mapping[int, Any], names: Mapping[int, str]) -> tuple[Change, ...]:
    """Categories of both sides whose value differs, by ascending id."""
    return tuple(Change(i, names.get(i, ""), a[i], b[i]) for i in sorted(a.keys() & b.keys()) if a[i] != b[i])


def _by_size(changes: Sequence[Change]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=lambda change: (-abs(change.a - change.b), change.key)))


def _other_order(a: AnnotationFile, b: AnnotationFile) -> tuple[str, ...]:
    """Lists whose common ids do not follow each other in the same order."""
    lists = {
        "images": (a.image_ids, b.image_ids),
        "annotations": (a.annotation_ids, b.annotation_ids),
        "categories": (a.categories.ids, b.categories.ids),
    }
    return tuple(
        key
        for key, (ids_a, ids_b) in lists.items()
        if not np.array_equal(ids_a[np.isin(ids_a, ids_b)], ids_b[np.isin(ids_b, ids_a)])
    )


def _members_that_differ(a: AnnotationFile, b: AnnotationFile) -> tuple[str, ...]:
    keys = [key for key in {**a.members, **b.members} if key not in ("images", "annotations", "categories")]
    return tuple(key for key in keys if _member(a, key) != _member(b, key))


def _member(file: AnnotationFile, key: str) -> Any:
    return _decoded(file.members.get(key), f"{file.path}: member '{key}'")


def _decoded(raw: msgspec.Raw | None, what: str) -> Any:
    """The value, with everything in it that reading an annotation file passes over."""
    try:
        return NOT_THERE if raw is None else msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{what}: cannot be compared ({error}); mend it") from None


def _settings_that_differ(a: Path, b: Path) -> tuple[Change, ...]:
    ours, theirs = _settings(a), _settings(b)
    return tuple(
        Change(key, "", ours.get(key, NOT_THERE), theirs.get(key, NOT_THERE))
        for key in {**ours, **theirs}
        if ours.get(key, NOT_THERE) != theirs.get(key, NOT_THERE)
    )


def _settings(directory: Path) -> dict[str, Any]:
    """``options.scale`` and the like -> value; nothing without a build record."""
    path = directory / BUILD
    if not path.is_file():
        return {}
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); build the dataset anew") from None
    return {key: value for part in SETTINGS if part in content for key, value in _flat(part, content[part])}


def _flat(key: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for name, inner in value.items() for pair in _flat(f"{key}.{name}", inner)]
    return [(key, value)]


def _tables_that_differ(a: Path, b: Path) -> tuple[str, ...]:
    def content(path: Path) -> bytes | None:
        return path.read_bytes() if path.is_file() else None

    return tuple(name for name in (CATEGORIES, GROUPS, REPEAT_FACTORS) if content(a / name) != content(b / name))


def format_diff(diff: Diff, style: str = "table") -> str:
    """The difference as text: ``table`` (long lists shortened) or ``json`` (everything)."""
    return {"table": _as_table, "json": _as_json}[style](diff)


def _as_json(diff: Diff) -> str:
    content = {"schema": 1, "identical": diff.identical, **asdict(diff)}
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_table(diff: Diff) -> str:
    lines = [f"A  {diff.a}", f"B  {diff.b}"]
    if diff.identical:
        bytes_too = "byte for byte" if diff.same_bytes else "with other white space or order of keys"
        return "\n".join([*lines, f"identical: the same records, {bytes_too}"])
    for what in ("images", "annotations", "categories"):
        lines += _record_lines(what, getattr(diff, what))
    lines += [f"{name}: another order" for name in diff.order]
    lines += [f"member '{name}' differs" for name in diff.members]
    lines += _change_lines("renamed categories", diff.renamed)
    lines += _change_lines("instances per category", diff.instances)
    lines += _change_lines("groups", diff.groups)
    lines += _change_lines("build settings", diff.settings, most=len(diff.settings))
    if diff.files:
        lines.append(f"files that differ: {', '.join(diff.files)}")
    return "\n".join(lines)


def _record_lines(what: str, records: Records) -> list[str]:
    lines = []
    for side, ids in (("A", records.only_a), ("B", records.only_b)):
        if ids:
            lines.append(f"{what} only in {side}: {len(ids):,} (ids {_some(ids)})")
    if records.changed:
        examples = _some([f"{i}: {', '.join(fields)}" for i, fields in records.changed], "; ")
        lines.append(f"{what} changed: {len(records.changed):,} ({examples})")
    return lines


def _some(values: Sequence[object], separator: str = ", ") -> str:
    more = [f"and {len(values) - SHOWN:,} more"] if len(values) > SHOWN else []
    return separator.join([*map(str, values[:SHOWN]), *more])


def _change_lines(title: str, changes: Sequence[Change], most: int = 4 * SHOWN) -> list[str]:
    if not changes:
        return []
    lines = [f"{title}: {len(changes):,} differ"]
    for change in changes[:most]:
        name = f" {change.name}" if change.name else ""
        lines.append(f"  {change.key}{name}: {change.a} -> {change.b}")
    return lines + ([f"  and {len(changes) - most:,} more"] if len(changes) > most else [])
