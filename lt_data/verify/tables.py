"""The part of ``lt_data.verify.verify`` that computes the tables of a dataset directory anew from its annotations.

Shapes: C categories, N images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lt_data.build.alignment import scaled_targets
from lt_data.build.check_options import parse_scale
from lt_data.build.lvis_fields import category_edits
from lt_data.counts.group_file import partition_problems
from lt_data.counts.repeat_factors import image_repeat_factors
from lt_data.dataset.directory import read_groups
from lt_data.dataset.names import ANNOTATIONS, BUILD, CATEGORIES, GROUPS, REPEAT_FACTORS
from lt_data.dataset.record import CategoryRow, FactorRow, read_rows, unknown_columns
from lt_data.groups import Group, group_name_of, groups_to_json, make_groups
from lt_data.verify.mismatch import Mismatch, differing_bytes, differing_fields, differing_ids
from lt_data.verify.report import Checks, Dataset


def check_tables(data: Dataset, checks: Checks) -> None:
    """``categories.csv``, ``groups.json`` and ``repeat_factors.csv``."""
    checks.run(CATEGORIES, "categories, names, instances, images and groups", _check_counts(data))
    checks.run(CATEGORIES, "ranks", _check_ranks(data.rows))
    if data.record.rewritten is not None:
        checks.run(ANNOTATIONS, "frequency, image_count and instance_count of the categories", _check_lvis_fields(data))
    checks.run(CATEGORIES, "targets, and that they are met", _check_targets(data))
    checks.run(GROUPS, "edges and groups", _check_groups(data, checks))
    checks.run(REPEAT_FACTORS, f"the factor of {len(data.file.image_ids):,} images", _check_factors(data))
    for name, kind in ((CATEGORIES, CategoryRow), (REPEAT_FACTORS, FactorRow)):
        unknown = unknown_columns(data.directory / name, kind)
        if unknown:
            checks.skip(f"{name}: columns {', '.join(unknown)}", "no build writes them", "ask who added them")


def _check_counts(data: Dataset) -> Iterator[Mismatch]:
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


def _check_ranks(rows: list[CategoryRow]) -> Iterator[Mismatch]:
    """Descending by the pool's instances, ties by ascending id; without instances there is no rank."""
    ranked = sorted(rows, key=lambda row: (-row.pool_instances, row.category_id))
    for place, (row, expected) in enumerate(zip(rows, ranked, strict=True), start=1):
        rank = place if row.pool_instances else None
        yield from differing_fields(
            CATEGORIES, f"row {place}", row, {"category_id": expected.category_id, "rank": rank}
        )


def _check_targets(data: Dataset) -> Iterator[Mismatch]:
    """The reference's count times the scale, met as far as the pool goes; 0 stays 0."""
    counts = np.array([row.reference_instances for row in data.rows], np.int64)
    targets = np.where(counts > 0, scaled_targets(counts, parse_scale(data.options.scale)), 0)
    for row, target in zip(data.rows, targets.tolist(), strict=True):
        expected = {"target": target, "instances": min(row.target, row.pool_instances)}
        yield from differing_fields(CATEGORIES, f"category {row.category_id}", row, expected)


def _check_lvis_fields(data: Dataset) -> Iterator[Mismatch]:
    """The fields that the record says are rewritten, and what they say."""
    fields, edits = category_edits(data.file, data.counts)
    recorded = data.record.rewritten
    if recorded is not None and tuple(recorded.category_fields) != fields:
        yield Mismatch(BUILD, "rewritten: category_fields", ", ".join(recorded.category_fields), ", ".join(fields))
    for edit in edits:
        got = bytes(data.file.data[edit.first : edit.end]).decode(errors="replace")
        yield Mismatch(ANNOTATIONS, f"categories at byte {edit.first}", got, edit.text.decode())


def _check_groups(data: Dataset, checks: Checks) -> Iterator[Mismatch]:
    """The groups of the build, or a partition that somebody made in their place."""
    _, groups = read_groups(data.directory)
    content = json.loads((data.directory / GROUPS).read_bytes())
    if _is_own_partition(data, content, groups):
        checks.notice(GROUPS, f"edited: the categories are in groups of its own, {', '.join(g.name for g in groups)}")
        return
    expected = make_groups(data.counts.category_ids, data.counts.instances, data.options.edges)
    found = []
    if content.get("edges") != list(data.options.edges):
        found.append(Mismatch(GROUPS, "edges", json.dumps(content.get("edges")), str(list(data.options.edges))))
    if [(g.name, g.lower, g.upper) for g in groups] != [(g.name, g.lower, g.upper) for g in expected]:
        found.append(Mismatch(GROUPS, "groups", ", ".join(g.name for g in groups), ", ".join(g.name for g in expected)))
    for group, wanted in zip(groups, expected, strict=False):
        found += differing_ids(GROUPS, f"group {wanted.name}: category", group.category_ids, wanted.category_ids)
    yield from found
    # keys that no build writes, ids as text, ...
    got, wanted_text = (
        json.dumps(value, sort_keys=True).encode() for value in (content, groups_to_json(expected, data.options.edges))
    )
    if not found and got != wanted_text:
        yield differing_bytes(GROUPS, "content", got, wanted_text)


def _is_own_partition(data: Dataset, content: Mapping[str, Any], groups: Sequence[Group]) -> bool:
    """Whether a groups file says that no bounds make its groups, and they are a partition of the categories.

    With bounds in it, a category in another group than the bounds say is a contradiction, so it may be damage.
    """
    bounds = [content.get("edges"), *(bound for group in groups for bound in (group.lower, group.upper))]
    partition = not partition_problems(groups, data.counts.category_ids, data.counts.names)
    return partition and all(bound is None for bound in bounds)


def _check_factors(data: Dataset) -> Iterator[Mismatch]:
    rows = read_rows(data.directory / REPEAT_FACTORS, FactorRow)
    ids = data.file.image_ids.tolist()
    yield from differing_ids(REPEAT_FACTORS, "image", [row.image_id for row in rows], ids)
    factors = dict(zip(ids, image_repeat_factors(data.file, data.options.threshold).tolist(), strict=True))
    for row in rows:
        expected = factors.get(row.image_id, row.repeat_factor)
        yield from differing_fields(REPEAT_FACTORS, f"image {row.image_id}", row, {"repeat_factor": expected})
