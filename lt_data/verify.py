"""Checking a dataset directory: against itself, and against the pool and the reference it was made from.

Read ``verify_dataset`` first: it lists the checks. Each one computes a figure anew, from ``annotations.json`` where it
can, and yields a finding for every place where the directory says something else.

Shapes: C categories, N images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path, PureWindowsPath
from typing import TypeVar

import numpy as np

from lt_data.alignment import scaled_targets
from lt_data.annotations import AnnotationFile, read_annotations
from lt_data.build import Build, BuildOptions
from lt_data.coco_lt import build_coco_lt, check_options, parse_scale
from lt_data.counts import CategoryCounts, Reference, count_categories
from lt_data.dataset_dir import (
    ANNOTATIONS,
    BUILD,
    CATEGORIES,
    GROUPS,
    IMAGES,
    REPEAT_FACTORS,
    VALIDATION,
    read_groups,
    sha256_of,
)
from lt_data.dataset_record import (
    BuildRecord,
    CategoryRow,
    FactorRow,
    Finding,
    Shortage,
    differing_fields,
    differing_ids,
    read_build_record,
    read_rows,
)
from lt_data.errors import DataError
from lt_data.groups import group_name_of, make_groups
from lt_data.image_files import find_images
from lt_data.references import Targets
from lt_data.repeat_factors import image_repeat_factors
from lt_data.verify_sources import (
    check_origin,
    check_pool_counts,
    check_records,
    check_selection,
    load_source,
    source_of,
)

T = TypeVar("T")
Report = Callable[[str], None]

# findings of one file that the table shows; JSON has all
SHOWN = 10


@dataclass(frozen=True)
class VerifyReport:
    """The result of :func:`verify_dataset`.

    Attributes:
        directory: What was checked.
        problems: Every difference, in the order of the checks.
        checked: One line for each check that was made.
        unchecked: One line for each check that could not be made, with the reason.
    """

    directory: Path
    problems: tuple[Finding, ...]
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]


def verify_dataset(
    directory: Path, *, pool: Path | None = None, reference: Path | None = None, report: Report = lambda _: None
) -> VerifyReport:
    """Computes every figure and digest of a dataset directory anew and says what differs.

    ``environment.json``, the figure and the README are for people and are not checked.

    Args:
        directory: Written by ``lt-data build-coco-lt``.
        pool: The annotation file it was made from; with it the pool's counts and digest, the bytes of every record
            and the choice of images are checked too.
        reference: The file that the build took its reference or its targets from, unless that was a name or a law.
        report: Called with a line before each long step.

    Raises:
        DataError: There is no build record, or ``pool`` or ``reference`` cannot be read.
    """
    directory = Path(directory)
    record = read_build_record(directory)
    checks = _Checks()
    report(f"reading {directory}")
    checks.run(f"{BUILD}: sha256 of {len(record.files)} files", _check_digests(directory, record))
    data = _read(directory, record, checks)
    if data is not None:
        _check_itself(data, checks)
        _check_source(data, reference, checks)
        if pool is None:
            checks.skip("the pool's counts, the bytes of the records, the choice of images", "no pool was given")
        else:
            report(f"reading {pool}")
            _check_pool(data, pool, reference, checks)
    return VerifyReport(directory, tuple(checks.problems), tuple(checks.checked), tuple(checks.unchecked))


class _Checks:
    """What was checked so far, and what was found."""

    def __init__(self) -> None:
        self.problems: list[Finding] = []
        self.checked: list[str] = []
        self.unchecked: list[str] = []

    def run(self, what: str, findings: Iterable[Finding]) -> None:
        """Makes a check, named ``file: what``; an input that it cannot use is a finding too."""
        self.checked.append(what)
        try:
            self.problems.extend(findings)
        except DataError as error:
            self._refuse(what.partition(":")[0], error, "content")

    def read(self, name: str, reader: Callable[[], T], *, where: str = "content") -> T | None:
        """What a reader makes of a file, or a finding and ``None``."""
        try:
            return reader()
        except DataError as error:
            self._refuse(name, error, where)
            return None

    def skip(self, what: str, why: str) -> None:
        """Notes a check that is not made."""
        self.unchecked.append(f"{what}: {why}")

    def _refuse(self, name: str, error: DataError, where: str) -> None:
        self.problems += [Finding(name, where, line, "what lt-data build-coco-lt writes") for line in error.problems]


@dataclass(frozen=True)
class _Dataset:
    """What was read of a dataset directory; ``counts`` are those of its annotations."""

    directory: Path
    record: BuildRecord
    options: BuildOptions
    file: AnnotationFile
    counts: CategoryCounts
    rows: list[CategoryRow]


def _read(directory: Path, record: BuildRecord, checks: _Checks) -> _Dataset | None:
    options = record.build_options()
    try:
        check_options(options)
    except DataError as error:
        raise DataError(f"{directory / BUILD}: options: {line}" for line in error.problems) from None
    file = checks.read(ANNOTATIONS, lambda: read_annotations(directory / ANNOTATIONS))
    rows = checks.read(CATEGORIES, lambda: read_rows(directory / CATEGORIES, CategoryRow))
    if file is None or rows is None:
        checks.skip("all other checks", f"they need {ANNOTATIONS} and {CATEGORIES}")
        return None
    counts = count_categories(file, count_crowds=record.rule.crowds_count)
    return _Dataset(directory, record, options, file, counts, rows)


def _check_itself(data: _Dataset, checks: _Checks) -> None:
    checks.run(f"{CATEGORIES}: categories, names, instances, images and groups", _check_counts(data))
    checks.run(f"{CATEGORIES}: ranks", _check_ranks(data.rows))
    checks.run(f"{CATEGORIES}: targets, and that they are met", _check_targets(data))
    checks.run(f"{GROUPS}: edges and groups", _check_groups(data))
    checks.run(f"{REPEAT_FACTORS}: the factor of {len(data.file.image_ids):,} images", _check_factors(data))
    checks.run(f"{BUILD}: totals, shortage, crowds", _check_totals(data))
    if (data.directory / IMAGES).is_dir():
        checks.run(f"{IMAGES}: every image is there", _check_images(data))


def _check_digests(directory: Path, record: BuildRecord) -> Iterator[Finding]:
    for name in (ANNOTATIONS, CATEGORIES, GROUPS, REPEAT_FACTORS):
        if name not in record.files:
            yield Finding(BUILD, f"files: {name}", "nothing", "its sha256")
    for name, digest in record.files.items():
        inside = PureWindowsPath(name)
        if inside.anchor or ".." in inside.parts:
            yield Finding(BUILD, f"files: {name}", "a name outside the directory", "a file of the directory")
        elif not (directory / name).is_file():
            yield Finding(name, "file", "nothing", "a file")
        elif (found := sha256_of(directory / name)) != digest:
            yield Finding(name, "sha256", found, f"{digest} ({BUILD})")
    copied, val = record.files.get(VALIDATION), record.inputs.val
    if val is not None and copied != val.sha256:
        yield Finding(BUILD, f"files: {VALIDATION}", str(copied), f"{val.sha256} (inputs: val)")


def _check_counts(data: _Dataset) -> Iterator[Finding]:
    counts = data.counts
    ids = counts.category_ids.tolist()
    yield from differing_ids(CATEGORIES, "category", sorted(row.category_id for row in data.rows), ids)
    group = group_name_of(make_groups(counts.category_ids, counts.instances, data.options.edges))
    place = {category_id: i for i, category_id in enumerate(ids)}
    for row in data.rows:
        i = place.get(row.category_id)
        if i is not None:
            expected = {
                "name": counts.names[i],
                "instances": int(counts.instances[i]),
                "images": int(counts.images[i]),
                "group": group[row.category_id],
            }
            yield from differing_fields(CATEGORIES, f"category {row.category_id}", row, expected)


def _check_ranks(rows: list[CategoryRow]) -> Iterator[Finding]:
    """Descending by the pool's instances, ties by ascending id."""
    ranked = sorted(rows, key=lambda row: (-row.pool_instances, row.category_id))
    for rank, (row, expected) in enumerate(zip(rows, ranked, strict=True), start=1):
        yield from differing_fields(CATEGORIES, f"row {rank}", row, {"category_id": expected.category_id, "rank": rank})


def _check_targets(data: _Dataset) -> Iterator[Finding]:
    """The reference's count times the scale, met as far as the pool goes; an explicit target of 0 stays 0."""
    counts = np.array([row.reference_instances for row in data.rows], np.int64)
    targets = scaled_targets(counts, parse_scale(data.options.scale))
    if data.record.inputs.targets is not None:
        targets = np.where(counts > 0, targets, 0)
    for row, target in zip(data.rows, targets.tolist(), strict=True):
        expected = {"target": target, "instances": min(row.target, row.pool_instances)}
        yield from differing_fields(CATEGORIES, f"category {row.category_id}", row, expected)


def _check_groups(data: _Dataset) -> Iterator[Finding]:
    edges, groups = read_groups(data.directory)
    if edges != data.options.edges:
        yield Finding(GROUPS, "edges", str(list(edges)), f"{list(data.options.edges)} ({BUILD})")
    expected = make_groups(data.counts.category_ids, data.counts.instances, data.options.edges)
    if [(g.name, g.lower, g.upper) for g in groups] != [(g.name, g.lower, g.upper) for g in expected]:
        yield Finding(GROUPS, "groups", ", ".join(g.name for g in groups), ", ".join(g.name for g in expected))
    for group, wanted in zip(groups, expected, strict=False):
        yield from differing_ids(GROUPS, f"group {wanted.name}: category", group.category_ids, wanted.category_ids)


def _check_factors(data: _Dataset) -> Iterator[Finding]:
    rows = read_rows(data.directory / REPEAT_FACTORS, FactorRow)
    ids = data.file.image_ids.tolist()
    yield from differing_ids(REPEAT_FACTORS, "image", [row.image_id for row in rows], ids)
    factors = dict(zip(ids, image_repeat_factors(data.file, data.options.threshold).tolist(), strict=True))
    for row in rows:
        expected = factors.get(row.image_id, row.repeat_factor)
        yield from differing_fields(REPEAT_FACTORS, f"image {row.image_id}", row, {"repeat_factor": expected})


def _check_totals(data: _Dataset) -> Iterator[Finding]:
    record, file = data.record, data.file
    ignored = record.ignored.surplus_instances + record.ignored.crowds
    expected = {
        "images": len(file.image_ids),
        "instances": len(file.annotation_ids) - ignored,
        "categories": len(file.categories.ids),
    }
    for key, value in expected.items():
        if record.totals.get(key) != value:
            yield Finding(BUILD, f"totals: {key}", str(record.totals.get(key)), str(value))
    crowds = int(file.crowd.sum())
    if not record.rule.crowds_count and crowds != ignored:
        yield Finding(ANNOTATIONS, "iscrowd annotations", str(crowds), f"{ignored} ({BUILD}: ignored)")
    yield from _check_shortage(data)


def _check_shortage(data: _Dataset) -> Iterator[Finding]:
    short = [row for row in data.rows if row.target > row.pool_instances]
    expected = [Shortage(row.category_id, row.target, row.pool_instances) for row in short]
    if data.record.shortage != expected:
        yield Finding(BUILD, "shortage", _shown(data.record.shortage), _shown(expected))
    if expected and data.options.on_shortage == "error":
        yield Finding(BUILD, "options: on_shortage", "error", f"cap, as {len(expected)} categories are short")


def _shown(shortage: list[Shortage]) -> str:
    return ", ".join(f"category {s.category_id} ({s.available} of {s.target})" for s in shortage) or "none"


def _check_images(data: _Dataset) -> Iterator[Finding]:
    try:
        find_images(data.directory / IMAGES, data.file.file_names)
    except DataError as error:
        yield from (Finding(IMAGES, "files", line, "every image of the annotations") for line in error.problems)


def _check_source(data: _Dataset, given: Path | None, checks: _Checks) -> None:
    """The reference ranks and counts, or the explicit targets, against where they came from."""
    kind, recorded, source = source_of(data.record, given)
    known: Reference | Targets | None = None
    if source is None:
        checks.skip(f"{CATEGORIES}: reference_instances", f"they come from {recorded.name}, which was not given")
    elif isinstance(source, Path):
        known = load_source(kind, source, data.rows, data.counts)
    else:
        known = checks.read(BUILD, lambda: load_source(kind, source, data.rows, data.counts))
    checks.run(f"{CATEGORIES}: {kind} {recorded.name}", check_origin(data.record, data.rows, data.counts, known))


def _check_pool(data: _Dataset, path: Path, given: Path | None, checks: _Checks) -> None:
    """Chooses the images again, and compares with the pool whatever can be compared without that too."""
    kind, recorded, source = source_of(data.record, given)
    unknown = data.record.unknown_options()
    build: Build | None = None
    if unknown:
        checks.skip("the choice of images", f"the build had options that this version lacks: {', '.join(unknown)}")
    elif source is None:
        checks.skip("the choice of images", f"it needs the {kind} {recorded.name}, which was not given")
    else:
        targets, reference = (source, "") if kind == "targets" else (None, source)
        options = data.options
        build = checks.read(
            BUILD,
            lambda: build_coco_lt(path, None, reference=reference, targets=targets, options=options),
            where="building again",
        )
    pool = read_annotations(path) if build is None else build.pool
    what = f"{CATEGORIES}: counts of the pool"
    checks.run(what, check_pool_counts(data.record, data.rows, pool))
    what = f"{ANNOTATIONS}: every record has the pool's bytes"
    checks.run(what, check_records(data.file, pool, surplus=data.options.surplus))
    if build is not None:
        what = f"{ANNOTATIONS}: the choice of images and annotations, made again"
        checks.run(what, check_selection(data.record, data.rows, data.file, build))


def format_verify(report: VerifyReport, style: str = "table") -> str:
    """The report as text: ``table`` (lines, long lists shortened) or ``json`` (everything)."""
    return {"table": _as_table, "json": _as_json}[style](report)


def _as_json(report: VerifyReport) -> str:
    content = {
        "schema": 1,
        "directory": str(report.directory),
        "problems": [asdict(finding) for finding in report.problems],
        "checked": report.checked,
        "unchecked": report.unchecked,
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_table(report: VerifyReport) -> str:
    lines = []
    for name, findings in groupby(sorted(report.problems, key=lambda f: f.file), key=lambda f: f.file):
        found = list(findings)
        lines += [str(finding) for finding in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"{name}: and {len(found) - SHOWN:,} more differences")
    lines += [f"checked      {what}" for what in report.checked]
    lines += [f"not checked  {what}" for what in report.unchecked]
    differences = len(report.problems)
    verdict = f"differences found: {differences:,}" if differences else "everything that was checked is as it was built"
    return "\n".join([*lines, f"{report.directory}: {verdict}"])
