"""Verifying ``build.json``: its digests, totals, rule, and what it says was left over.

Everything here needs the directory alone; what needs the pool or the reference is in ``lt_data.verify.sources``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

import msgspec

from lt_data.build.references import NAMED_TARGETS
from lt_data.build.result import ALIGNED, EXPLICIT, IMAGE_ORDER, NOTHING_DROPPED, WHY_DROPPED, WHY_IGNORED
from lt_data.dataset.names import ANNOTATIONS, BUILD, CATEGORIES, ENVIRONMENT, GROUPS, REPEAT_FACTORS, VALIDATION
from lt_data.dataset.record import BuildRecord, Shortage, unknown_keys
from lt_data.files.writing import sha256_of
from lt_data.verify.mismatch import Mismatch, differing_fields
from lt_data.verify.report import Checks, Dataset

TOTALS = ("images", "instances", "categories")


def check_digests(directory: Path, record: BuildRecord) -> Iterator[Mismatch]:
    """Every data file has a digest, and the digest is that of the file."""
    for name in (ANNOTATIONS, CATEGORIES, GROUPS, REPEAT_FACTORS):
        if name not in record.files:
            yield Mismatch(BUILD, f"files: {name}", "nothing", "its sha256")
    for name, digest in record.files.items():
        inside = PureWindowsPath(name)
        if inside.anchor or ".." in inside.parts:
            yield Mismatch(BUILD, f"files: {name}", "a name outside the directory", "a file of the directory")
        elif not (directory / name).is_file():
            yield Mismatch(name, "file", "nothing", "a file")
        elif (found := sha256_of(directory / name)) != digest:
            yield Mismatch(name, "sha256", found, f"{digest} ({BUILD})")
    copied, val = record.files.get(VALIDATION), record.inputs.val
    if copied != (None if val is None else val.sha256):
        expected = "nothing, as there is no such input" if val is None else f"{val.sha256} (inputs: val)"
        yield Mismatch(BUILD, f"files: {VALIDATION}", str(copied), expected)


def check_record(data: Dataset, checks: Checks) -> None:
    """Totals, shortage, the rule in words, and what is not to be left over."""
    checks.run(BUILD, "totals, shortage, crowds", _check_totals(data))
    checks.run(BUILD, "rule", _check_rule(data))
    checks.run(BUILD, "dropped, ignored and images_rarest_first, where the options fix them", _check_fixed(data))
    inputs = msgspec.structs.asdict(data.record.inputs)
    named = ", ".join(key for key, given in inputs.items() if given is not None and given.sha256 is not None)
    checks.skip(
        f"{BUILD}: inputs: names of the files ({named})",
        "a file may have been renamed since, only its digest tells which it is",
        f"compare with the command in {ENVIRONMENT}",
    )
    unknown = unknown_keys(data.directory, data.record)
    unknown += [f"totals: {key}" for key in data.record.totals if key not in TOTALS]
    if unknown:
        checks.skip(f"{BUILD}: keys {', '.join(unknown)}", "this version does not write them", "ask who added them")


def _check_totals(data: Dataset) -> Iterator[Mismatch]:
    record, file = data.record, data.file
    ignored = record.ignored.surplus_instances + record.ignored.crowds
    figures = (len(file.image_ids), len(file.annotation_ids) - ignored, len(file.categories.ids))
    for key, value in zip(TOTALS, figures, strict=True):
        if record.totals.get(key) != value:
            yield Mismatch(BUILD, f"totals: {key}", str(record.totals.get(key)), str(value))
    crowds = int(file.crowd.sum())
    if not record.rule.crowds_count and crowds != ignored:
        yield Mismatch(ANNOTATIONS, "iscrowd annotations", str(crowds), f"{ignored} ({BUILD}: ignored)")
    yield from _check_shortage(data)


def _check_shortage(data: Dataset) -> Iterator[Mismatch]:
    short = [row for row in data.rows if row.target > row.pool_instances]
    expected = [Shortage(row.category_id, row.target, row.pool_instances) for row in short]
    if data.record.shortage != expected:
        yield Mismatch(BUILD, "shortage", _shown(data.record.shortage), _shown(expected))
    if expected and data.options.on_shortage == "error":
        yield Mismatch(BUILD, "options: on_shortage", "error", f"cap, as {len(expected)} categories are short")


def _shown(shortage: list[Shortage]) -> str:
    return ", ".join(f"category {s.category_id} ({s.available} of {s.target})" for s in shortage) or "none"


def _check_rule(data: Dataset) -> Iterator[Mismatch]:
    targets = data.record.inputs.targets
    expected = {
        "alignment": ALIGNED if targets is None else EXPLICIT,
        "order": data.options.order,
        "images": IMAGE_ORDER,
        "surplus": data.options.surplus,
        # the named sets count crowds, files do not
        "crowds_count": targets is not None and targets.sha256 is None and targets.name in NAMED_TARGETS,
    }
    yield from differing_fields(BUILD, "rule", data.record.rule, expected)


def _check_fixed(data: Dataset) -> Iterator[Mismatch]:
    """What is dropped is not ignored, and the other way round; the published order is its own measure."""
    record, ignore = data.record, data.options.surplus == "ignore"
    if ignore:
        yield from differing_fields(BUILD, "dropped", record.dropped, {"why": NOTHING_DROPPED})
        yield from differing_fields(BUILD, "ignored", record.ignored, {"why": WHY_IGNORED})
    else:
        yield from differing_fields(BUILD, "dropped", record.dropped, {"why": WHY_DROPPED})
    empty = "dropped" if ignore else "ignored"
    yield from differing_fields(BUILD, empty, getattr(record, empty), {"surplus_instances": 0, "crowds": 0})
    if data.options.order == "rarest-first":
        expected = {"images_rarest_first": len(data.file.image_ids)}
        yield from differing_fields(BUILD, "order", record, expected)
    elif record.images_rarest_first is None:
        yield Mismatch(BUILD, "order: images_rarest_first", "nothing", "the images that rarest-first takes")
