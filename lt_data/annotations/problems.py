"""What is wrong with an annotation file as such: the problems that stop whoever reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from lt_data.annotations.findings import CODES, ONLY_MATCHED, Finding, FindingList
from lt_data.annotations.lenient import RecordReader, numbers_of_texts, split_leniently
from lt_data.annotations.lists import FileColumns, check_lists
from lt_data.annotations.records import without_cycle_collection
from lt_data.files.reading import Bytes, map_file
from lt_data.progress import Progress


@dataclass(frozen=True)
class CheckReport:
    """What was found in a file.

    Attributes:
        path: The annotation file.
        images: Image records.
        annotations: Annotation records.
        categories: Category records.
        findings: Errors first, then by code.
        notes: Lines on the file that are no finding: which program wrote it.
    """

    path: Path
    images: int
    annotations: int
    categories: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_errors(self) -> bool:
        """Whether anything is of severity ``error``."""
        return any(finding.severity == "error" for finding in self.findings)


class LenientFile(NamedTuple):
    """A file as :func:`read_leniently` gives it.

    Attributes:
        file: Its columns.
        log: What was found while they were read.
    """

    file: FileColumns
    log: FindingList


def structural_problems(path: Path, data: Bytes | None = None, *, only_matched: bool = False) -> list[str]:
    """Why reading an annotation file is refused, one line each; empty if it is not.

    Args:
        path: A COCO or LVIS file.
        data: Its bytes, if they are in memory.
        only_matched: Leave out what stops nobody who only matches ids, see
            :func:`lt_data.annotations.file.read_annotations`.

    Raises:
        DataError: The file cannot be read, is not JSON or no annotation file.
    """
    path = Path(path)
    log = FindingList()
    file = read_leniently(path, map_file(path) if data is None else data, log)
    check_lists(file, log)
    report = report_of(path, file, log)
    harmless = ONLY_MATCHED if only_matched else frozenset()
    kept = tuple(finding for finding in report.findings if finding.code not in harmless)
    return problem_lines(replace(report, findings=kept), structural=True)


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


def report_of(path: Path, file: FileColumns, log: FindingList) -> CheckReport:
    """What was found so far."""
    counts = (len(file.images.ids), len(file.annotations.ids), len(file.categories.ids))
    return CheckReport(path, *counts, log.findings())


def read_leniently(
    path: Path,
    data: Bytes,
    log: FindingList,
    progress: Progress | None = None,
    *,
    only: tuple[str, ...] = ("images", "annotations", "categories"),
) -> FileColumns:
    """The columns of a file whatever its records hold; what is wrong goes to the log.

    Args:
        path: The file.
        data: Its bytes.
        log: Where findings go.
        progress: Called with the bytes that are done and there are.
        only: The lists to read.

    Raises:
        DataError: The file is not JSON, or no annotation file.
    """
    with without_cycle_collection():
        data, records = split_leniently(path, data, log, only)
        texts = numbers_of_texts(records["images"] or [])

        def reader(key: str, progress: Progress | None = None) -> RecordReader:
            return RecordReader(data, key, (records[key] or []) if key in only else [], log, progress, texts)

        return FileColumns(
            images=reader("images").images(),
            annotations=reader("annotations", progress).annotations(),
            categories=reader("categories").categories(),
            missing=frozenset(key for key, found in records.items() if found is None),
            image_names=tuple(texts),
        )
