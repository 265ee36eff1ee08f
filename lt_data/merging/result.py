"""What a merge has made of several files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Final, NamedTuple

from lt_data.annotations.findings import Finding
from lt_data.annotations.problems import CheckReport
from lt_data.text_tables import table

MERGE_SCHEMA: Final = 1
_MOST_FILES: Final = 12


class MovedId(NamedTuple):
    """An id of an input that is another one in the result.

    Attributes:
        input: Which file, from 1, in the order in which they are merged.
        file: Its path as given.
        list: ``images``, ``annotations``, ``categories`` or ``licenses``.
        old_id: In that file.
        new_id: In the result.
    """

    input: int
    file: str
    list: str
    old_id: int
    new_id: int


@dataclass(frozen=True)
class MergedFile:
    """What one file gave to a merge.

    Attributes:
        file: Its path as given.
        images: Image records that are in the result.
        annotations: Annotations.
        categories: Categories that no earlier file has.
        joined: Images that are an earlier file's record now.
        renumbered: Ids that are other ones in the result, those of joined images and of categories by name among them.
    """

    file: str
    images: int
    annotations: int
    categories: int
    joined: int
    renumbered: int


@dataclass(frozen=True)
class MergeReport:
    """What a merge has made.

    Attributes:
        out: The file that was written.
        files: What each input gave, in order.
        moved: Every id that is another one in the result.
        notes: Lines on what the files do not agree in.
        after: What ``lt-data check`` finds in the result.
    """

    out: Path
    files: tuple[MergedFile, ...]
    moved: tuple[MovedId, ...]
    notes: tuple[str, ...]
    after: CheckReport

    @property
    def left(self) -> tuple[Finding, ...]:
        """Findings of the result that are more than information."""
        return tuple(finding for finding in self.after.findings if finding.severity != "info")


def format_merge(report: MergeReport, style: str = "table") -> str:
    """A report as text: ``table`` or ``json``."""
    return {"table": _as_table, "json": _as_json}[style](report)


def _as_json(report: MergeReport) -> str:
    content: dict[str, Any] = {
        "schema": MERGE_SCHEMA,
        "files": [asdict(file) for file in report.files],
        "images": report.after.images,
        "annotations": report.after.annotations,
        "categories": report.after.categories,
        "moved_ids": len(report.moved),
        "notes": list(report.notes),
        "left": [{"code": f.code, "severity": f.severity, "count": f.count, "title": f.title} for f in report.left],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_table(report: MergeReport) -> str:
    rows: list[Sequence[str]] = [("file", "images", "annotations", "categories", "joined", "ids moved")]
    for place, f in enumerate(report.files[:_MOST_FILES], start=1):
        name = f"{place} {PurePath(f.file).name}"
        rows.append((name, *(f"{n:,}" for n in (f.images, f.annotations, f.categories, f.joined, f.renumbered))))
    lines = [table(rows)]
    if len(report.files) > _MOST_FILES:
        lines.append(f"... and {len(report.files) - _MOST_FILES:,} files more")
    lines += [f"left: {f.severity} {f.code} {f.count:,}  {f.title}" for f in report.left]
    found = report.after
    records = f"{found.images:,} images, {found.annotations:,} annotations, {found.categories:,} categories"
    lines.append(f"{report.out.name}: {records}")
    return "\n".join(lines)
