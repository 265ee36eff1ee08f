"""Every problem in an annotation file: its code, how often, where, and how to mend it.

Read ``check`` first. What is wrong in a record is a finding, never an exception; only a file that is no annotation file
is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lt_data.annotation_records import without_cycle_collection
from lt_data.checks_codes import CODES, SEVERITIES, Code, Finding, FindingList, Severity, shown
from lt_data.checks_geometry import check_geometry
from lt_data.checks_images import check_image_files
from lt_data.checks_lists import FileColumns, check_lists
from lt_data.checks_records import NO_ID, RecordReader, split_leniently
from lt_data.dataset_dir import annotations_path
from lt_data.file_bytes import Bytes, Progress, map_file

__all__ = [
    "CODES",
    "CheckReport",
    "Code",
    "Finding",
    "Severity",
    "check",
    "format_report",
    "problem_lines",
    "structural_problems",
]

SCHEMA: Final = 1


@dataclass(frozen=True)
class CheckReport:
    """What was found in a file.

    Attributes:
        path: The annotation file.
        images: Image records.
        annotations: Annotation records.
        categories: Category records.
        findings: Errors first, then by code.
    """

    path: Path
    images: int
    annotations: int
    categories: int
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether anything is of severity ``error``."""
        return any(finding.severity == "error" for finding in self.findings)


def check(
    path: Path, *, images: Path | None = None, other: Path | None = None, progress: Progress | None = None
) -> CheckReport:
    """Finds every problem in an annotation file.

    Args:
        path: A COCO or LVIS file, or a dataset directory.
        images: Folder of its image files, if these are to be looked at.
        other: A second file, validation beside training for example: no image may be in both, categories must agree.
        progress: Called with what is done and what there is in all: bytes of the file, then image files.

    Raises:
        DataError: A file cannot be read, is not JSON or no annotation file, or there is no such folder.
    """
    path = annotations_path(Path(path))
    log = FindingList()
    file = _read(path, map_file(path), log, progress)
    check_lists(file, log)
    check_geometry(file, log)
    if other is not None:
        other = annotations_path(Path(other))
        of_other = FindingList()
        beside = _read(other, map_file(other), of_other, only=("images", "categories"))
        check_lists(beside, of_other)
        log.add_refused_of(of_other, other.name)
        _check_pair(file, beside, other.name, log)
    if images is not None:
        check_image_files(file, Path(images), log, progress)
    return _report(path, file, log)


def structural_problems(path: Path, data: Bytes | None = None) -> list[str]:
    """Why reading an annotation file is refused, one line each; empty if it is not.

    Args:
        path: A COCO or LVIS file, or a dataset directory.
        data: Its bytes, if they are in memory.

    Raises:
        DataError: The file cannot be read, is not JSON or no annotation file.
    """
    path = annotations_path(Path(path)) if data is None else Path(path)
    log = FindingList()
    file = _read(path, map_file(path) if data is None else data, log)
    check_lists(file, log)
    return problem_lines(_report(path, file, log), structural=True)


def problem_lines(report: CheckReport, *, structural: bool = False) -> list[str]:
    """The errors of a report as one line each: file, code, what, how often, where, fix.

    Args:
        report: What was found.
        structural: Only those for which reading is refused.
    """
    return [
        f"{report.path}: {f.code}: {f.title}: {f.count:,} ({'; '.join(f.examples)}); {f.fix}"
        for f in report.findings
        if f.severity == "error" and (CODES[f.code].structural or not structural)
    ]


def _report(path: Path, file: FileColumns, log: FindingList) -> CheckReport:
    counts = (len(file.images.ids), len(file.annotations.ids), len(file.categories.ids))
    return CheckReport(path, *counts, log.findings())


def _read(
    path: Path,
    data: Bytes,
    log: FindingList,
    progress: Progress | None = None,
    *,
    only: tuple[str, ...] = ("images", "annotations", "categories"),
) -> FileColumns:
    with without_cycle_collection():
        data, records = split_leniently(path, data, log, only)

        def reader(key: str, progress: Progress | None = None) -> RecordReader:
            return RecordReader(data, key, (records[key] or []) if key in only else [], log, progress)

        return FileColumns(
            images=reader("images").images(),
            annotations=reader("annotations", progress).annotations(),
            categories=reader("categories").categories(),
            missing=frozenset(key for key, found in records.items() if found is None),
        )


def _check_pair(file: FileColumns, other: FileColumns, other_name: str, log: FindingList) -> None:
    rows = {name: row for row, name in enumerate(other.images.names) if name}
    pairs = [(row, rows[name]) for row, name in enumerate(file.images.names) if name in rows]
    same = [pair for pair in pairs if _same_picture(file, other, *pair)]

    def describe(pair: tuple[int, int]) -> str:
        return f"{shown(file.images.names[pair[0]])}: {file.image(pair[0])}, {other.image(pair[1])} of {other_name}"

    log.add_many("LT601", same, describe)
    log.add_many("LT602", sorted(set(pairs) - set(same)), describe)
    if "categories" not in file.missing | other.missing:
        _check_pair_of_categories(_names_by_id(file), _names_by_id(other), other_name, log)


def _same_picture(file: FileColumns, other: FileColumns, row: int, other_row: int) -> bool:
    """Files of one name in two folders may be different pictures; then sizes or URLs differ."""
    sizes = file.images.sizes[row], other.images.sizes[other_row]
    urls = file.images.urls[row], other.images.urls[other_row]
    sizes_differ = bool((sizes[0] > 0).all() and (sizes[1] > 0).all() and (sizes[0] != sizes[1]).any())
    return not sizes_differ and (urls[0] == urls[1] or not all(urls))


def _names_by_id(file: FileColumns) -> dict[int, str]:
    pairs = zip(file.categories.ids.tolist(), file.categories.names, strict=True)
    return {i: name for i, name in pairs if i != NO_ID}


def _check_pair_of_categories(
    here: Mapping[int, str], there: Mapping[int, str], other_name: str, log: FindingList
) -> None:
    renamed = sorted(i for i in here.keys() & there.keys() if here[i] != there[i])
    log.add_many("LT603", renamed, lambda i: f"id {i}: {shown(here[i])}, in {other_name} {shown(there[i])}")
    alone = sorted(here.keys() ^ there.keys())
    log.add_many(
        "LT604",
        alone,
        lambda i: f"id {i}: {shown(here[i])}, not in {other_name}" if i in here else f"id {i}: only in {other_name}",
    )


def format_report(report: CheckReport, style: str = "table") -> str:
    """A report as text: ``table`` or ``json``."""
    return {"table": _as_table, "json": _as_json}[style](report)


def _counts(report: CheckReport) -> dict[Severity, int]:
    """Kinds of findings of each severity."""
    return {severity: sum(f.severity == severity for f in report.findings) for severity in SEVERITIES}


def _as_json(report: CheckReport) -> str:
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "file": report.path.name,
        "images": report.images,
        "annotations": report.annotations,
        "categories": report.categories,
        "kinds": _counts(report),
        "findings": [asdict(finding) for finding in report.findings],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_table(report: CheckReport) -> str:
    lines = []
    for f in report.findings:
        lines.append(f"{f.severity:<8} {f.code} {f.count:>9,}  {f.title}")
        lines += [f"{'':26}{example}" for example in f.examples]
        if f.severity != "info":
            lines.append(f"{'':26}fix: {f.fix}")
    found = ", ".join(f"{severity} {count}" for severity, count in _counts(report).items())
    lines.append(
        f"{report.path.name}: {report.images:,} images, {report.annotations:,} annotations, "
        f"{report.categories:,} categories; kinds of findings: {found}"
    )
    return "\n".join(lines)
