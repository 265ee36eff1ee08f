"""The part of ``lt_data.verify`` that looks at what a dataset was made from: the reference or targets, and the pool.

Shapes: A annotations, C categories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from lt_data.alignment import reference_positions
from lt_data.annotations import AnnotationFile, IntArray
from lt_data.build import Build, left_over_counts
from lt_data.counts import CategoryCounts, Reference, count_categories
from lt_data.dataset_dir import ANNOTATIONS, BUILD, CATEGORIES
from lt_data.dataset_record import BuildRecord, CategoryRow, Finding, Input, LeftOver, differing_fields, differing_ids
from lt_data.references import Targets, load_reference, load_targets

# bytes shown of two records that differ
EXCERPT = 40


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


def load_source(
    kind: str, source: str | Path, rows: Sequence[CategoryRow], counts: CategoryCounts
) -> Reference | Targets:
    """The reference or the targets.

    Args:
        kind: ``reference`` or ``targets``.
        source: A name or a file.
        rows: Rows of ``categories.csv``; a law begins at the pool's largest count and gives each category one count.
        counts: Counts of the dataset's annotations; they name the categories.

    Raises:
        DataError: The source cannot be read.
    """
    if kind == "targets":
        return load_targets(source, counts)
    return load_reference(source, max((row.pool_instances for row in rows), default=0), len(rows))[0]


def check_origin(
    record: BuildRecord, rows: Sequence[CategoryRow], counts: CategoryCounts, known: Reference | Targets | None
) -> Iterator[Finding]:
    """Ranks and counts of the reference, or the explicit targets; without ``known`` only the ranks."""
    kind, recorded, _ = source_of(record, None)
    if known is not None and known.sha256 != recorded.sha256:
        yield Finding(BUILD, f"inputs: {kind}: sha256", str(recorded.sha256), str(known.sha256))
    ranks: list[int | None] = [None] * len(rows)
    taken: dict[int, int] = {}
    if kind == "targets" and known is not None:
        taken = dict(zip(counts.category_ids.tolist(), known.instances.tolist(), strict=True))
    elif kind == "reference" and rows:
        # the last rank takes the last count of the reference
        length = len(known.instances) if known is not None else rows[-1].reference_rank or 1
        positions = reference_positions(len(rows), length)
        ranks = [position + 1 for position in positions.tolist()]
        if known is not None:
            aligned = known.instances[positions].tolist()
            taken = {row.category_id: count for row, count in zip(rows, aligned, strict=True)}
    for row, rank in zip(rows, ranks, strict=True):
        expected = {"reference_rank": rank, "reference_instances": taken.get(row.category_id, row.reference_instances)}
        yield from differing_fields(CATEGORIES, f"category {row.category_id}", row, expected)


def check_pool_counts(record: BuildRecord, rows: Sequence[CategoryRow], pool: AnnotationFile) -> Iterator[Finding]:
    """The digest recorded for the pool, and the columns of ``categories.csv`` that were counted in it."""
    recorded = record.inputs.pool
    if recorded.sha256 != pool.sha256:
        yield Finding(BUILD, "inputs: pool: sha256", str(recorded.sha256), f"{pool.sha256} ({pool.path})")
    counts = count_categories(pool, count_crowds=record.rule.crowds_count)
    yield from differing_ids(CATEGORIES, "category", sorted(r.category_id for r in rows), counts.category_ids.tolist())
    place = {category_id: i for i, category_id in enumerate(counts.category_ids.tolist())}
    for row in rows:
        i = place.get(row.category_id)
        if i is not None:
            expected = {"pool_instances": int(counts.instances[i]), "pool_images": int(counts.images[i])}
            yield from differing_fields(CATEGORIES, f"category {row.category_id}", row, expected)


def check_records(file: AnnotationFile, pool: AnnotationFile, *, surplus: str) -> Iterator[Finding]:
    """Every record and every other member of the file has the bytes of the pool's.

    Args:
        file: The annotations of the dataset directory.
        pool: What they were taken from.
        surplus: With ``ignore`` an annotation that became a crowd may differ from the pool's in its ``iscrowd``.
    """
    ours, theirs = file.members, pool.members
    if list(ours) != list(theirs):
        yield Finding(ANNOTATIONS, "members", ", ".join(ours), ", ".join(theirs))
    for key in ours.keys() & theirs.keys() - {"images", "annotations"}:
        if bytes(ours[key]) != bytes(theirs[key]):
            yield _bytes_differ(f"member '{key}'", ours[key], theirs[key])
    for i, k in _pairs(file.image_ids, pool.image_ids):
        if bytes(file.image_records[i]) != bytes(pool.image_records[k]):
            yield _bytes_differ(f"image {file.image_ids[i]}", file.image_records[i], pool.image_records[k])
    for i, k in _pairs(file.annotation_ids, pool.annotation_ids):
        got, source = file.annotation_records[i], pool.annotation_records[k]
        turned = surplus == "ignore" and file.crowd[i] and not pool.crowd[k]
        if bytes(got) != bytes(source) and not (turned and _only_iscrowd_differs(got, source)):
            yield _bytes_differ(f"annotation {file.annotation_ids[i]}", got, source)


def _pairs(ours: IntArray, theirs: IntArray) -> Iterator[tuple[int, int]]:
    """Positions of the ids that both have, by ascending id."""
    _, here, there = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    yield from zip(here.tolist(), there.tolist(), strict=True)


def _only_iscrowd_differs(got: msgspec.Raw, source: msgspec.Raw) -> bool:
    try:
        fields = [msgspec.json.decode(record, type=dict[str, msgspec.Raw]) for record in (got, source)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    for record in fields:
        record.pop("iscrowd", None)
    ours, theirs = ({key: bytes(raw) for key, raw in record.items()} for record in fields)
    return ours == theirs


def _bytes_differ(where: str, got: msgspec.Raw, expected: msgspec.Raw) -> Finding:
    """Shows both from a little before the first byte that differs."""
    a, b = bytes(got), bytes(expected)
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, place - EXCERPT // 2)
    texts = (part[start : start + EXCERPT].decode(errors="replace") for part in (a, b))
    return Finding(ANNOTATIONS, f"{where} at byte {place}", *(f"...{text}..." for text in texts))


def check_selection(
    record: BuildRecord, rows: Sequence[CategoryRow], file: AnnotationFile, build: Build
) -> Iterator[Finding]:
    """The images and annotations, the targets and the numbers of left-over annotations are those of a new build."""
    pool, chosen = build.pool, build.selection
    ignore = build.options.surplus == "ignore"
    kept = chosen.annotations | build.left_over if ignore else chosen.annotations
    yield from differing_ids(ANNOTATIONS, "image", file.image_ids.tolist(), pool.image_ids[chosen.images].tolist())
    expected = pool.annotation_ids[kept].tolist()
    yield from differing_ids(ANNOTATIONS, "annotation", file.annotation_ids.tolist(), expected)
    for i, k in _pairs(file.annotation_ids, pool.annotation_ids):
        crowd = bool(pool.crowd[k] or (ignore and build.left_over[k]))
        if kept[k] and file.crowd[i] != crowd:
            got = "a crowd" if file.crowd[i] else "an instance"
            yield Finding(
                ANNOTATIONS, f"annotation {file.annotation_ids[i]}", got, "a crowd" if crowd else "an instance"
            )
    ids = build.pool_counts.category_ids[build.alignment.order].tolist()
    targets = dict(zip(ids, build.alignment.targets.tolist(), strict=True))
    for row in rows:
        if row.category_id in targets:
            wanted = {"target": targets[row.category_id]}
            yield from differing_fields(CATEGORIES, f"category {row.category_id}", row, wanted)
    yield from _check_left_over(record, build, ignore)


def _check_left_over(record: BuildRecord, build: Build, ignore: bool) -> Iterator[Finding]:
    left_over, nothing = LeftOver(*left_over_counts(build)), LeftOver()
    pairs = {"dropped": nothing if ignore else left_over, "ignored": left_over if ignore else nothing}
    for key, expected in pairs.items():
        yield from differing_fields(BUILD, key, getattr(record, key), msgspec.structs.asdict(expected))
    if record.images_rarest_first is not None:
        expected_images = {"images_rarest_first": build.images_rarest_first}
        yield from differing_fields(BUILD, "order", record, expected_images)
