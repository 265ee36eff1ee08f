"""Every problem in an annotation file: its code, how often, where, and how to mend it.

Read ``check_file`` first. What is wrong in a record is a finding, never an exception; only a file that is no
annotation file is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from lt_data.annotations.findings import SEVERITIES, FindingList, Severity, shown
from lt_data.annotations.lenient import NO_ID
from lt_data.annotations.lists import FileColumns, check_lists
from lt_data.annotations.problems import CheckReport, LenientFile, read_leniently, report_of
from lt_data.checks.exporters import exporter_note
from lt_data.checks.geometry import check_geometry
from lt_data.checks.image_lists import check_image_lists
from lt_data.checks.images import check_image_files
from lt_data.checks.objects import check_objects
from lt_data.checks.overlap import namesakes
from lt_data.checks.twins import check_twins
from lt_data.dataset.names import annotations_path
from lt_data.files.image_files import normal_name
from lt_data.files.reading import Bytes, map_file
from lt_data.progress import Progress

CHECK_SCHEMA: Final = 1


def check_file(
    path: Path | str,
    *,
    images: Path | str | None = None,
    other: Path | str | None = None,
    progress: Progress | None = None,
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
    folder, second = (None if given is None else Path(given) for given in (images, other))
    return check_data(path, map_file(path), images=folder, other=second, progress=progress)


def check_data(
    path: Path,
    data: Bytes,
    *,
    images: Path | None = None,
    other: Path | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """The same for the bytes of a file that is in memory.

    Args:
        path: What to call it.
        data: Its bytes.
        images: See :func:`check_file`.
        other: See :func:`check_file`.
        progress: See :func:`check_file`.

    Raises:
        DataError: See :func:`check_file`.
    """
    log = FindingList()
    read = LenientFile(read_leniently(path, data, log, progress), log)
    return check_read(path, data, read, images=images, other=other, progress=progress)


def check_read(
    path: Path,
    data: Bytes,
    read: LenientFile,
    *,
    images: Path | None = None,
    other: Path | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """The same for a file whose columns are in memory too.

    Args:
        path: What to call it.
        data: Its bytes.
        read: Its columns; its log takes what is found.
        images: See :func:`check_file`.
        other: See :func:`check_file`.
        progress: Called with the image files that are done and there are.

    Raises:
        DataError: See :func:`check_file`.
    """
    file, log = read
    check_lists(file, log)
    check_geometry(file, log)
    check_objects(file, log)
    check_image_lists(file, log)
    check_twins(file, None if images is None else Path(images), log)
    if other is not None:
        other = annotations_path(Path(other))
        of_other = FindingList()
        beside = read_leniently(other, map_file(other), of_other, only=("images", "categories"))
        check_lists(beside, of_other)
        log.add_refused_of(of_other, other.name)
        _check_pair(file, beside, other.name, log)
    if images is not None:
        check_image_files(file, Path(images), log, progress)
    note = exporter_note(data)
    return replace(report_of(path, file, log), notes=() if note is None else (note,))


def _check_pair(file: FileColumns, other: FileColumns, other_name: str, log: FindingList) -> None:
    def describe(pair: tuple[int, int]) -> str:
        return f"{shown(file.images.names[pair[0]])}: {file.image(pair[0])}, {other.image(pair[1])} of {other_name}"

    pairs = namesakes(file.images.names, other.images.names)
    same = [pair for pair in pairs if _same_picture(file, other, *pair)]
    equal = {pair for pair in pairs if _equally_named(file, other, *pair)}
    log.add_many("LT601", [pair for pair in same if pair in equal], describe)
    # with another folder in front, a picture of another size is another picture
    log.add_many("LT602", sorted((equal - set(same)) | (set(same) - equal)), describe)
    if "categories" not in file.missing | other.missing:
        _check_pair_of_categories(_names_by_id(file), _names_by_id(other), other_name, log)


def _equally_named(file: FileColumns, other: FileColumns, row: int, other_row: int) -> bool:
    """Whether folders are equal too, or the URL is."""
    urls = file.images.urls[row], other.images.urls[other_row]
    same_url = bool(urls[0]) and urls[0] == urls[1]
    return same_url or normal_name(file.images.names[row]) == normal_name(other.images.names[other_row])


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
        "schema": CHECK_SCHEMA,
        "file": report.path.name,
        "images": report.images,
        "annotations": report.annotations,
        "categories": report.categories,
        "kinds": _counts(report),
        "findings": [asdict(finding) for finding in report.findings],
        "notes": list(report.notes),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_table(report: CheckReport) -> str:
    lines = []
    for f in report.findings:
        lines.append(f"{f.severity:<8} {f.code} {f.count:>9,}  {f.title}")
        if f.severity != "info":
            lines.append(f"{'':26}fix: {f.fix}")
        lines += [f"{'':26}{example}" for example in f.examples]
    lines += [f"note: {note}" for note in report.notes]
    found = ", ".join(f"{severity} {count}" for severity, count in _counts(report).items())
    lines.append(
        f"{report.path.name}: {report.images:,} images, {report.annotations:,} annotations, "
        f"{report.categories:,} categories; kinds of findings: {found}"
    )
    return "\n".join(lines)
