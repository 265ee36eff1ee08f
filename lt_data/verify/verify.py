"""Checking a dataset directory: against itself, and against the pool and the reference it was made from.

Read ``verify_directory`` first: it lists the checks. Each one computes a figure anew, from ``annotations.json`` where
it can, and yields a mismatch for every place where the directory says something else. What is not checked is listed
too, with the reason and a way to check it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from lt_data.annotations.file import read_annotations
from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.result import Build
from lt_data.dataset.names import ANNOTATIONS, BUILD, CATEGORIES, annotations_path
from lt_data.dataset.record import read_build_record
from lt_data.errors import one_line
from lt_data.progress import SILENT, Progress
from lt_data.verify.files import check_card, check_files, check_images, check_validation
from lt_data.verify.mismatch import Mismatch
from lt_data.verify.record import check_digests, check_record
from lt_data.verify.report import Checks, Dataset, Unchecked, read_dataset
from lt_data.verify.sources import (
    check_inputs,
    check_origin,
    check_pool_counts,
    check_records,
    check_selection,
    check_warnings,
    load_source,
    refuse_unused,
    source_of,
)
from lt_data.verify.tables import check_tables

# mismatches of one file that the table shows; JSON has all
SHOWN = 10
CHOICE = (
    f"{BUILD}: seed, order, images_rarest_first, counts of what was dropped or ignored; {ANNOTATIONS}: the choice of "
    "images and annotations"
)


@dataclass(frozen=True)
class VerifyReport:
    """The result of :func:`verify_directory`.

    Attributes:
        directory: What was checked.
        problems: Every difference, in the order of the checks.
        notices: One line for each file that was edited on purpose, which is no difference.
        checked: One line for each check that was made.
        unchecked: What was not checked, why, and how to check it.
    """

    directory: Path
    problems: tuple[Mismatch, ...]
    notices: tuple[str, ...]
    checked: tuple[str, ...]
    unchecked: tuple[Unchecked, ...]


def verify_directory(
    directory: Path | str,
    *,
    pool: Path | None = None,
    reference: Path | None = None,
    progress: Progress = SILENT,
) -> VerifyReport:
    """Computes every figure and digest of a dataset directory anew and says what differs.

    Args:
        directory: Written by ``lt-data build-coco-lt``.
        pool: The annotation file (or dataset directory) it was made from; with it the pool's counts and digest, the
            bytes of every record and the choice of images are checked too.
        reference: The file that the build took its reference or its targets from, unless that was a name or a law.
        progress: Told of each long step, and of the bytes or images that are done.

    Raises:
        DataError: There is no build record, ``pool`` or ``reference`` cannot be read, or there is a ``reference`` for
            a build that took its own from no file.
    """
    directory = Path(directory)
    record = read_build_record(directory)
    refuse_unused(record, reference, directory)
    checks = Checks()
    progress.step(f"reading {directory}")
    checks.run(BUILD, f"sha256 of {len(record.files)} files", check_digests(directory, record))
    check_files(directory, record, checks)
    data = read_dataset(directory, record, checks, progress)
    if data is not None:
        check_tables(data, checks)
        check_record(data, checks)
        check_card(data, checks)
        check_validation(data, checks, progress)
        check_images(data, checks)
        _check_source(data, reference, checks)
        if pool is None:
            _skip_pool(checks)
        else:
            _check_pool(data, annotations_path(Path(pool)), reference, checks, progress=progress)
    return VerifyReport(
        directory, tuple(checks.problems), tuple(checks.notices), tuple(checks.checked), tuple(checks.unchecked)
    )


def _check_source(data: Dataset, given: Path | None, checks: Checks) -> None:
    """The reference ranks and counts, or the explicit targets, against where they came from; and the warnings."""
    kind, recorded, source = source_of(data.record, given)
    checks.run(BUILD, "inputs: which have a digest", check_inputs(data.record, given))
    loaded = None
    if isinstance(source, Path):
        loaded = load_source(kind, source, data.rows, data.counts)
    elif source is not None:
        loaded = checks.read(BUILD, lambda: load_source(kind, source, data.rows, data.counts))
    known = None if loaded is None else loaded[0]
    checks.run(CATEGORIES, f"{kind} {recorded.name}", check_origin(data.record, data.rows, data.counts, known))
    if loaded is not None:
        checks.run(BUILD, "warnings", check_warnings(data.record, *loaded))
    elif source is None:
        checks.skip(
            f"{CATEGORIES}: reference_instances; {BUILD}: warnings and inputs: {kind}: sha256",
            f"they come from {recorded.name}, which was not given",
            "--reference FILE",
        )


def _skip_pool(checks: Checks) -> None:
    for what in (
        f"{BUILD}: inputs: pool: sha256; {CATEGORIES}: pool_instances and pool_images",
        f"{ANNOTATIONS}: that every record has the pool's bytes",
        CHOICE,
    ):
        checks.skip(what, "no pool was given", "--pool FILE")


def _check_pool(data: Dataset, path: Path, given: Path | None, checks: Checks, *, progress: Progress) -> None:
    """Chooses the images again, and compares with the pool whatever can be compared without that too."""
    build = _build_again(data, path, given, checks, progress=progress)
    if build is None:
        progress.step(f"reading {path}")
        pool = read_annotations(path, progress=progress)
    else:
        pool = build.pool
    progress.step(f"comparing with {path}")
    checks.run(CATEGORIES, "counts of the pool", check_pool_counts(data.record, data.rows, pool))
    checks.run(
        ANNOTATIONS, "every record has the pool's bytes", check_records(data.record, data.file, data.counts, pool)
    )
    if build is not None:
        checks.run(
            ANNOTATIONS,
            "the choice of images and annotations, made again",
            check_selection(data.record, data.rows, data.file, build),
        )


def _build_again(data: Dataset, path: Path, given: Path | None, checks: Checks, *, progress: Progress) -> Build | None:
    kind, recorded, source = source_of(data.record, given)
    unknown = data.record.unknown_options()
    if unknown:
        why = f"the build had options that this version lacks: {', '.join(unknown)}"
        checks.skip(CHOICE, why, "verify with the version that wrote it")
        return None
    if source is None:
        checks.skip(CHOICE, f"it needs the {kind} {recorded.name}, which was not given", "--reference FILE")
        return None
    # beside targets the reference is not looked at
    targets = source if kind == "targets" else None
    return checks.read(
        BUILD,
        lambda: build_coco_lt(
            path,
            None,
            reference=source,
            targets=targets,
            options=data.options,
            progress=progress,
        ),
        where="building again",
    )


def format_verify(report: VerifyReport, style: str = "table") -> str:
    """The report as text: ``table`` (lines, long lists shortened) or ``json`` (everything)."""
    return {"table": _as_table, "json": _as_json}[style](report)


def _as_json(report: VerifyReport) -> str:
    content = {
        "schema": 1,
        "directory": str(report.directory),
        "problems": [asdict(mismatch) for mismatch in report.problems],
        "notices": report.notices,
        "checked": report.checked,
        "unchecked": [asdict(thing) for thing in report.unchecked],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_table(report: VerifyReport) -> str:
    lines = []
    for name, mismatches in groupby(sorted(report.problems, key=lambda f: f.file), key=lambda f: f.file):
        found = list(mismatches)
        lines += [str(mismatch) for mismatch in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"{name}: and {len(found) - SHOWN:,} more differences")
    lines += [f"notice: {what}" for what in report.notices]
    lines += [one_line(f"checked: {what}") for what in report.checked]
    lines += [f"not checked: {thing}" for thing in report.unchecked]
    differences = len(report.problems)
    built = "as it was built" + (", but for what was edited" if report.notices else "")
    verdict = f"differences found: {differences:,}" if differences else f"everything that was checked is {built}"
    return "\n".join([*lines, f"{report.directory}: {verdict}"])
