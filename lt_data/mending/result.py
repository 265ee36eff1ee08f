"""What a mend has changed, as a value, as text and as the files beside the output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from lt_data.annotations.findings import Finding
from lt_data.annotations.problems import CheckReport
from lt_data.errors import one_line
from lt_data.files.writing import write_csv, write_json
from lt_data.mending.draft import Change
from lt_data.mending.kinds import KINDS

MEND_SCHEMA: Final = 1
CHANGES_HEADER: Final = Change._fields
_MOST_EXAMPLES: Final = 3
_LONGEST_VALUE: Final = 40


class NewId(NamedTuple):
    """An id that is another one now.

    Attributes:
        list: ``images``, ``annotations`` or ``categories``.
        record: The record's place in that list of the input, from 0: several records may have had one id.
        old_id: The id as the input has it; a text without its quotes.
        new_id: The id in the output.
    """

    list: str
    record: int
    old_id: str
    new_id: int


@dataclass(frozen=True)
class MendReport:
    """What was put right in a file, or would be.

    Attributes:
        path: The file.
        kinds: The kinds of mends that were asked for, as they were applied.
        changes: Every value that was written anew and every record that was dropped.
        new_ids: Every id that changed, by list and record.
        after: What ``lt-data check`` finds in the result.
    """

    path: Path
    kinds: tuple[str, ...]
    changes: tuple[Change, ...]
    new_ids: tuple[NewId, ...]
    after: CheckReport

    @property
    def counts(self) -> dict[str, int]:
        """Changes of each kind that was asked for."""
        found = dict.fromkeys(self.kinds, 0)
        for change in self.changes:
            found[change.kind] += 1
        return found

    @property
    def left(self) -> tuple[Finding, ...]:
        """Findings of the result that are more than information."""
        return tuple(finding for finding in self.after.findings if finding.severity != "info")


def format_mend(report: MendReport, style: str = "table") -> str:
    """A report as text: ``table`` or ``json``."""
    return {"table": _as_table, "json": _as_json}[style](report)


def _as_json(report: MendReport) -> str:
    kinds = {
        kind: {"changes": count, "examples": [change._asdict() for change in _of(report, kind)]}
        for kind, count in report.counts.items()
    }
    content: dict[str, Any] = {
        "schema": MEND_SCHEMA,
        "file": report.path.name,
        "kinds": kinds,
        "new_ids": len(report.new_ids),
        "left": [{"code": f.code, "severity": f.severity, "count": f.count, "title": f.title} for f in report.left],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _of(report: MendReport, kind: str) -> list[Change]:
    return [change for change in report.changes if change.kind == kind][:_MOST_EXAMPLES]


def _as_table(report: MendReport) -> str:
    lines = []
    for kind, count in report.counts.items():
        if count:
            lines.append(f"{count:>9,}  {kind}: {KINDS[kind].what}")
            lines += [f"{'':11}{_example(change)}" for change in _of(report, kind)]
    untouched = [kind for kind, count in report.counts.items() if not count]
    if untouched:
        lines.append(f"nothing to do for {', '.join(untouched)}")
    for finding in report.left:
        lines.append(f"left: {finding.severity} {finding.code} {finding.count:,}  {finding.title}")
    lines.append(f"{report.path.name}: {len(report.changes):,} changes, {len(report.new_ids):,} ids renumbered")
    return "\n".join(lines)


def _example(change: Change) -> str:
    where = f"{change.list}[{change.record}]" + (f" (id {_cut(change.id)})" if change.id else "")
    if not change.field:
        return one_line(f"{where}: dropped, {change.after}")
    before = _cut(change.before) if change.before else "(none)"
    return one_line(f"{where}: {change.field} {before} -> {_cut(change.after)}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def write_changes(path: Path, changes: Sequence[Change]) -> None:
    """Writes every change to a CSV or JSON file, dropped records in full."""
    if path.suffix.lower() == ".csv":
        write_csv(path, CHANGES_HEADER, changes)
    else:
        write_json(path, {"schema": MEND_SCHEMA, "changes": [change._asdict() for change in changes]})


def new_ids_of(old: Mapping[str, list[Any]], new: Mapping[str, list[Any]], origin: Mapping[str, Any]) -> list[NewId]:
    """Ids that differ between two states of a file.

    Args:
        old: The id of each record, for each list, as JSON has it.
        new: The same of the result.
        origin: For each list of the result, the row that each record had.
    """
    found = []
    for key, ids in new.items():
        for row, number in zip(origin[key].tolist(), ids, strict=True):
            before = old[key][row]
            if before != number or type(before) is not type(number):
                found.append(NewId(key, row, "" if before is None else str(before), number))
    return found
