"""Pascal VOC and YOLO to COCO: read ``import_annotations`` first.

Sizes come from the images themselves. What cannot be read is told by file and place and nothing is written; what can
be read and is nonsense (a box outside its image) is written as it stands and told, in the words of ``lt-data check``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import msgspec

from lt_data.annotations.findings import CODES, SEVERITIES, Finding, FindingList
from lt_data.annotations.problems import CheckReport, problem_lines
from lt_data.checks.check import check_file
from lt_data.errors import DataError
from lt_data.files.near_names import IMAGE_SUFFIXES
from lt_data.files.writing import check_output_file, refuse_unnamable, write_whole
from lt_data.importing.layout import ImageIndex, annotation_files, files_below
from lt_data.importing.names import find_names, read_names
from lt_data.importing.options import SUFFIXES, ImportOptions, Kind
from lt_data.importing.reading import Reading
from lt_data.importing.result import Result
from lt_data.progress import SILENT, Progress


def import_annotations(
    source: Path | str,
    out: Path | str,
    kind: Kind,
    *,
    images: Path | None = None,
    names: Path | None = None,
    options: ImportOptions | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> CheckReport:
    """Writes a COCO file from a folder of Pascal VOC or YOLO annotations.

    Images are numbered from 1 in the order of their names, objects from 1 in the order of images and files. Categories
    are numbered from 1 in the order of the names: those of the file of names, else of VOC's classes by character.

    Args:
        source: The folder of the files of annotations, with whatever folders in it.
        out: The file to write, ``.json``.
        kind: ``voc`` or ``yolo``.
        images: The image folder, laid out as the source; the source itself unless given. Files are named relative
            to it.
        names: The file of names, see :func:`lt_data.importing.names.read_names`. YOLO's is looked for in the source.
        options: How to read the source.
        force: Replace ``out`` if it is there.
        progress: Told of images.

    Returns:
        What was found in the source, and what ``lt-data check`` finds in the result and its images.

    Raises:
        DataError: A file, an object or an image cannot be read, belongs to nothing, or has a class without a name.
        OutputError: ``out`` cannot be written, or is there already.
    """
    source, out = Path(source), Path(out)
    images = source if images is None else Path(images)
    options = options or ImportOptions()
    check_output_file(out, force=force, suffixes=(".json",))
    names = find_names(source) if names is None and kind == "yolo" else names
    files = annotation_files(source, SUFFIXES[kind], names)
    index = ImageIndex(files_below(images, IMAGE_SUFFIXES))
    refuse_unnamable((images / name for name in index.names), out.name)
    classes = None if names is None else read_names(names)
    log = FindingList()
    progress.step(f"reading {len(files):,} {SUFFIXES[kind]} files and {len(index.names):,} images")
    found = Reading(source, images, kind, options, index, log).read(files, progress)
    result = Result(found, kind, classes, log, crowds=options.difficult == "crowd")
    _refuse(source, log)
    report = _write(out, result, images, progress)
    return replace(report, findings=_merged(log.findings(), (_in_source(f, result) for f in report.findings)))


def _refuse(source: Path, log: FindingList) -> None:
    """Ends an import of what cannot be read.

    Raises:
        DataError: An image cannot be read, or something of a code that stops a reader was found.
    """
    stops = tuple(f for f in log.findings() if f.code == "LT502" or CODES[f.code].structural)
    if stops:
        raise DataError(problem_lines(CheckReport(source, 0, 0, 0, stops)))


def _write(out: Path, result: Result, images: Path, progress: Progress) -> CheckReport:
    """Writes the file, unless it is one that every reader refuses."""
    reports: list[CheckReport] = []

    def write(work: Path) -> None:
        work.write_bytes(msgspec.json.encode(result.content()) + b"\n")
        progress.step("checking the result and its images")
        report = check_file(work, images=images, progress=progress)
        if lines := problem_lines(report, structural=True):
            raise DataError(lines)
        reports.append(report)

    write_whole(out, write, make_folder=True, advice="choose another --out")
    return replace(reports[0], path=out)


def _in_source(finding: Finding, result: Result) -> Finding:
    return replace(finding, examples=tuple(map(result.in_source, finding.examples)))


def _merged(*findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then by code."""
    return tuple(sorted(chain(*findings), key=lambda f: (SEVERITIES.index(f.severity), f.code)))
