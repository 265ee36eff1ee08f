"""Verifying what a dataset was made from: the reference or targets, and the pool.

Shapes: A annotations, C categories.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.findings import shown
from lt_data.annotations.records import CHUNK, UNREADABLE, span_of
from lt_data.annotations.subset import with_edits
from lt_data.arrays import IntArray
from lt_data.build.alignment import reference_positions
from lt_data.build.lvis_fields import NOTHING_REWRITTEN, Rewritten, rewritten
from lt_data.build.references import Targets, is_named, load_reference, load_targets
from lt_data.build.result import Build, left_over_counts
from lt_data.counts.categories import CategoryCounts, Reference, count_categories
from lt_data.dataset.names import ANNOTATIONS, BUILD, CATEGORIES
from lt_data.dataset.record import BuildRecord, CategoryRow, Input
from lt_data.errors import DataError
from lt_data.verify.mismatch import Mismatch, differing_bytes, differing_fields, differing_ids

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
# what the builder writes for a region that training ignores
CROWD = msgspec.Raw(b"1")
Members = dict[str, msgspec.Raw]


def source_of(record: BuildRecord, given: Path | None) -> tuple[str, Input, str | Path | None]:
    """Where the targets came from.

    Args:
        record: What the directory says.
        given: The file, for a build that read one.

    Returns:
        ``reference`` or ``targets``, what was recorded of it, and what to build from again (``None``: not known).
    """
    kind = "reference" if record.inputs.reference is not None else "targets"
    recorded: Input = getattr(record.inputs, kind)
    return kind, recorded, recorded.name if recorded.sha256 is None else given


def refuse_unused(record: BuildRecord, given: Path | None, directory: Path) -> None:
    """Refuses a file for a build that read none: nothing could be compared with it.

    Raises:
        DataError: There is one, and the reference or the targets of the build are a name or a law.
    """
    kind, recorded, _ = source_of(record, None)
    if given is not None and recorded.sha256 is None:
        raise DataError(
            f"--reference: got '{given}'; {directory} has its {kind} from the name '{recorded.name}', not from a file; "
            "leave --reference out"
        )


def check_inputs(record: BuildRecord, given: Path | None) -> Iterator[Mismatch]:
    """Every input that is a file has a digest, and what is a name or a law by itself has none.

    Args:
        record: What the directory says.
        given: The file that the reference or the targets came from; its digest is compared elsewhere.
    """
    kind, _, _ = source_of(record, None)
    inputs = {"pool": record.inputs.pool, "val": record.inputs.val, kind: getattr(record.inputs, kind)}
    for key, recorded in inputs.items():
        where = f"inputs: {key}: sha256"
        named = key == kind and is_named(kind, recorded.name)
        if recorded is None or (recorded.sha256 is None and key == kind):
            continue
        if recorded.sha256 is None or not _DIGEST.fullmatch(recorded.sha256):
            yield Mismatch(BUILD, where, shown(recorded.sha256), "64 hexadecimal digits")
        elif named and given is None:
            yield Mismatch(BUILD, where, recorded.sha256, f"nothing, as {recorded.name} is no file")


def load_source(
    kind: str, source: str | Path, rows: Sequence[CategoryRow], counts: CategoryCounts
) -> tuple[Reference | Targets, tuple[str, ...]]:
    """The reference or the targets, and what a build warns of.

    Args:
        kind: ``reference`` or ``targets``.
        source: A name or a file.
        rows: Rows of ``categories.csv``; a law begins at the pool's largest count and gives each rank one count.
        counts: Counts of the dataset's annotations; they name the categories.

    Raises:
        DataError: The source cannot be read.
    """
    if kind == "targets":
        return load_targets(source, counts), ()
    return load_reference(source, max((row.pool_instances for row in rows), default=0), len(_ranked(rows)))


def check_warnings(record: BuildRecord, known: Reference | Targets, expected: Sequence[str]) -> Iterator[Mismatch]:
    """The warnings of the record are those of a new build; a file that was renamed since is called as it was."""
    recorded = source_of(record, None)[1]
    wanted = [recorded.name + line.removeprefix(known.name) for line in expected]
    if record.warnings != wanted:
        got = "nothing" if record.warnings is None else "; ".join(record.warnings) or "none"
        yield Mismatch(BUILD, "warnings", got, "; ".join(wanted) or "none")


def check_origin(
    record: BuildRecord, rows: Sequence[CategoryRow], counts: CategoryCounts, known: Reference | Targets | None
) -> Iterator[Mismatch]:
    """Ranks and counts of the reference, or the explicit targets; without ``known`` only the ranks."""
    kind, recorded, _ = source_of(record, None)
    if known is not None and known.sha256 != recorded.sha256:
        yield Mismatch(BUILD, f"inputs: {kind}: sha256", str(recorded.sha256), str(known.sha256))
    ranks: dict[int, int] = {}
    taken: dict[int, int] = {}
    ranked = _ranked(rows)
    if kind == "targets" and known is not None:
        taken = dict(zip(counts.category_ids.tolist(), known.instances.tolist(), strict=True))
    elif kind == "reference" and ranked:
        # the last rank takes the last count of the reference
        length = len(known.instances) if known is not None else ranked[-1].reference_rank or 1
        positions = reference_positions(len(ranked), length)
        ranks = {row.category_id: place + 1 for row, place in zip(ranked, positions.tolist(), strict=True)}
        taken = {row.category_id: 0 for row in rows if not row.pool_instances}
        if known is not None:
            aligned = known.instances[positions].tolist()
            taken |= {row.category_id: count for row, count in zip(ranked, aligned, strict=True)}
    for row in rows:
        expected = {
            "reference_rank": ranks.get(row.category_id),
            "reference_instances": taken.get(row.category_id, row.reference_instances),
        }
        yield from differing_fields(CATEGORIES, f"category {row.category_id}", row, expected)


def _ranked(rows: Sequence[CategoryRow]) -> list[CategoryRow]:
    """Categories that have an instance in the pool, and so a rank."""
    return [row for row in rows if row.pool_instances]


def check_pool_counts(record: BuildRecord, rows: Sequence[CategoryRow], pool: AnnotationFile) -> Iterator[Mismatch]:
    """The digest recorded for the pool, and the columns of ``categories.csv`` that were counted in it."""
    recorded = record.inputs.pool
    if recorded.sha256 != pool.sha256:
        yield Mismatch(BUILD, "inputs: pool: sha256", str(recorded.sha256), f"{pool.sha256} ({pool.path})")
    counts = count_categories(pool, count_crowds=record.rule.crowds_count)
    yield from differing_ids(CATEGORIES, "category", sorted(r.category_id for r in rows), counts.category_ids.tolist())
    place = {category_id: i for i, category_id in enumerate(counts.category_ids.tolist())}
    for row in rows:
        i = place.get(row.category_id)
        if i is not None:
            expected = {"pool_instances": int(counts.instances[i]), "pool_images": int(counts.images[i])}
            yield from differing_fields(CATEGORIES, f"category {row.category_id}", row, expected)


def check_records(
    record: BuildRecord, file: AnnotationFile, counts: CategoryCounts, pool: AnnotationFile
) -> Iterator[Mismatch]:
    """Every record and every other member of the file has the bytes of the pool's, but for rewritten LVIS fields.

    Args:
        record: What the directory says. With surplus ``ignore`` an annotation that became a crowd may differ from the
            pool's in its ``iscrowd``; older directories have the pool's LVIS fields.
        file: The annotations of the dataset directory.
        counts: Their counts.
        pool: What they were taken from.
    """
    changed = NOTHING_REWRITTEN if record.rewritten is None else _rewritten(record, file, counts, pool)
    ours, theirs = file.members, dict(pool.members)
    if changed.edits and "categories" in theirs:
        place = span_of(pool.data, [theirs["categories"]])[0]
        theirs["categories"] = msgspec.Raw(with_edits(bytes(theirs["categories"]), changed.edits, place))
    if list(ours) != list(theirs):
        yield Mismatch(ANNOTATIONS, "members", ", ".join(ours), ", ".join(theirs))
    for key in ours.keys() & theirs.keys() - {"images", "annotations"}:
        if ours[key] != theirs[key]:
            yield differing_bytes(ANNOTATIONS, f"member '{key}'", bytes(ours[key]), bytes(theirs[key]))
    yield from _check_images(file, pool, changed.images)
    yield from _check_annotations(file, pool, str(record.options.get("surplus", "drop")))


def _rewritten(record: BuildRecord, file: AnnotationFile, counts: CategoryCounts, pool: AnnotationFile) -> Rewritten:
    """What a build that took these images and instances writes otherwise than the pool has it."""
    crowds = record.rule.crowds_count
    return rewritten(
        pool,
        counts,
        images=np.isin(pool.image_ids, file.image_ids),
        kept=np.isin(pool.annotation_ids, file.annotation_ids[~file.crowd | crowds]),
        instances=~pool.crowd | crowds,
    )


def _check_images(file: AnnotationFile, pool: AnnotationFile, changed: Mapping[int, msgspec.Raw]) -> Iterator[Mismatch]:
    ours, theirs = file.image_records, pool.image_records
    here, there = _pairs(file.image_ids, pool.image_ids)
    for i, k in zip(here.tolist(), there.tolist(), strict=True):
        expected = changed.get(k, theirs[k])
        if ours[i] != expected:
            yield differing_bytes(ANNOTATIONS, f"image {file.image_ids[i]}", bytes(ours[i]), bytes(expected))


def _check_annotations(file: AnnotationFile, pool: AnnotationFile, surplus: str) -> Iterator[Mismatch]:
    ours, theirs = file.annotation_records, pool.annotation_records
    here, there = _pairs(file.annotation_ids, pool.annotation_ids)
    turned = file.crowd[here] & ~pool.crowd[there] & (surplus == "ignore")
    differ = [n for n, (i, k) in enumerate(zip(here.tolist(), there.tolist(), strict=True)) if ours[i] != theirs[k]]
    for start in range(0, len(differ), CHUNK):
        part = differ[start : start + CHUNK]
        pairs = [(ours[here[n]], theirs[there[n]]) for n in part]
        regions = [pair for pair, n in zip(pairs, part, strict=True) if turned[n]]
        decoded = zip(*(_members(side) for side in zip(*regions, strict=True)), strict=True) if regions else iter(())
        for (got, source), n in zip(pairs, part, strict=True):
            where = f"annotation {file.annotation_ids[here[n]]}"
            if turned[n]:
                yield from _differing_members(where, *next(decoded))
            else:
                yield differing_bytes(ANNOTATIONS, where, bytes(got), bytes(source))


def _pairs(ours: IntArray, theirs: IntArray) -> tuple[IntArray, IntArray]:
    """Positions of the ids that both have, by ascending id."""
    _, here, there = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    return here, there


def _members(records: Sequence[msgspec.Raw]) -> list[Members | None]:
    """The raw members of each record, ``None`` for one that cannot be decoded; one call decodes all."""
    try:
        return list(msgspec.json.decode(b"[" + b",".join(records) + b"]", type=list[Members]))
    except UNREADABLE:
        return [_members_of(record) for record in records]


def _members_of(record: msgspec.Raw) -> Members | None:
    try:
        return msgspec.json.decode(record, type=Members)
    except UNREADABLE:
        return None


def _differing_members(where: str, got: Members | None, source: Members | None) -> Iterator[Mismatch]:
    """A region that training ignores is the pool's instance but for ``iscrowd``."""
    if got is None or source is None:
        yield Mismatch(ANNOTATIONS, where, "a record that cannot be read", "the pool's record as a region")
        return
    expected = {**source, "iscrowd": CROWD}
    if got == expected:
        return
    for key in [*expected, *(key for key in got if key not in expected)]:
        a, b = (bytes(side.get(key, b"nothing")) for side in (got, expected))
        if a != b:
            yield differing_bytes(ANNOTATIONS, f"{where}: {key}", a, b)


def check_selection(
    record: BuildRecord, rows: Sequence[CategoryRow], file: AnnotationFile, build: Build
) -> Iterator[Mismatch]:
    """The images and annotations, the targets and the numbers of left-over annotations are those of a new build."""
    pool, chosen = build.pool, build.selection
    ignore = build.options.surplus == "ignore"
    kept = chosen.annotations | build.left_over if ignore else chosen.annotations
    yield from differing_ids(ANNOTATIONS, "image", file.image_ids.tolist(), pool.image_ids[chosen.images].tolist())
    expected = pool.annotation_ids[kept].tolist()
    yield from differing_ids(ANNOTATIONS, "annotation", file.annotation_ids.tolist(), expected)
    here, there = _pairs(file.annotation_ids, pool.annotation_ids)
    crowd = pool.crowd | build.left_over if ignore else pool.crowd
    for n in np.flatnonzero(kept[there] & (file.crowd[here] != crowd[there])).tolist():
        got, wanted = ("a crowd" if flag else "an instance" for flag in (file.crowd[here[n]], crowd[there[n]]))
        yield Mismatch(ANNOTATIONS, f"annotation {file.annotation_ids[here[n]]}", got, wanted)
    ids = build.pool_counts.category_ids[build.alignment.order].tolist()
    targets = dict(zip(ids, build.alignment.targets.tolist(), strict=True))
    for row in rows:
        if row.category_id in targets:
            expected_target = {"target": targets[row.category_id]}
            yield from differing_fields(CATEGORIES, f"category {row.category_id}", row, expected_target)
    surplus, crowds = left_over_counts(build)
    fate = "ignored" if ignore else "dropped"
    wanted_counts = {"surplus_instances": surplus, "crowds": crowds}
    yield from differing_fields(BUILD, fate, getattr(record, fate), wanted_counts)
    if build.options.order != "rarest-first":
        yield from differing_fields(BUILD, "order", record, {"images_rarest_first": build.images_rarest_first})
