"""A finished build in words and as JSON: what it holds, what it lacks, and what its maker should know.

Shapes: C pool categories.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from lt_data.build.result import Build, left_over_counts, shortages, source_name, totals
from lt_data.build.shortage import short_categories
from lt_data.groups import names_sentence

# categories that a line names
NAMED: Final = 5


def all_warnings(build: Build) -> list[str]:
    """Everything that the maker of a build should know: of the reference, of what was taken, of the result."""
    return [*build.warnings, *build.notes, *remarks(build)]


def remarks(build: Build) -> list[str]:
    """What makes the result another than its maker may think, one line each; nothing where all is as asked."""
    found = (_unranked(build), _short_reference(build), _unchanged(build))
    return [line for line in found if line]


def _unranked(build: Build) -> str:
    """Categories without an instance: Roboflow writes one that groups all others."""
    counts, alignment = build.pool_counts, build.alignment
    rows = alignment.order[alignment.ranked :].tolist()
    if not rows:
        return ""
    named = [f"{counts.category_ids[row]} '{counts.names[row]}'" for row in rows[:NAMED]]
    more = ", ..." if len(rows) > NAMED else ""
    return (
        f"{build.pool.path.name}: categories without an instance, which take no rank: {len(rows):,} "
        f"({', '.join(named)}{more}); they stay in the list"
    )


def _short_reference(build: Build) -> str:
    if build.reference is None or len(build.reference.instances) >= build.alignment.ranked:
        return ""
    return (
        f"{build.reference.name}: {len(build.reference.instances):,} counts for the {build.alignment.ranked:,} "
        f"categories of {build.pool.path.name}; they are repeated, so several ranks have the same target"
    )


def _unchanged(build: Build) -> str:
    """All that there is of every category: no other curve than the pool's."""
    available = build.pool_counts.instances[build.alignment.order]
    if not len(shortages(build.pool_counts, build.alignment)) or (build.alignment.targets < available).any():
        return ""
    return (
        f"{source_name(build)}: every target is at or above what {build.pool.path.name} has, so --on-shortage cap "
        "keeps every instance and the curve is the pool's own; use a smaller --scale or a steeper curve"
    )


def format_build(build: Build, style: str = "table") -> str:
    """The result as a short text (``table``), or all of it as ``json``."""
    return {"table": _as_table, "json": _as_json}[style](build)


def _group_rows(build: Build) -> list[tuple[str, int, int]]:
    """Name, categories and instances of each group."""
    by_id = dict(zip(build.pool_counts.category_ids.tolist(), build.selection.instances.tolist(), strict=True))
    return [(g.name, len(g.category_ids), sum(by_id[c] for c in g.category_ids)) for g in build.groups]


def _as_table(build: Build) -> str:
    total, (surplus, crowds) = totals(build), left_over_counts(build)
    what = "dropped from these images" if build.options.surplus == "drop" else "kept as ignored regions"
    lines = [
        f"{total['images']:,} images, {total['instances']:,} instances, {total['categories']} categories "
        f"({source_name(build)}, scale {build.options.scale}, seed {build.options.seed})",
        f"{what}: {surplus:,} surplus instances, {crowds:,} crowds",
    ]
    if build.options.order != "rarest-first":
        change = total["images"] - build.images_rarest_first
        word = "more" if change > 0 else "fewer"
        lines.append(
            f"order {build.options.order}: {abs(change):,} images {word} than rarest-first, which takes "
            f"{build.images_rarest_first:,}"
        )
    lines.append("{:<14}{:>12}{:>12}".format("group", "categories", "instances"))
    lines += [f"{name:<14}{categories:>12,}{instances:>12,}" for name, categories, instances in _group_rows(build)]
    lines.append(names_sentence([name for name, _, _ in _group_rows(build)]))
    return "\n".join([*lines, *_shortage_lines(build), *_rewritten_lines(build)])


def _shortage_lines(build: Build) -> list[str]:
    short = shortages(build.pool_counts, build.alignment)
    if not len(short):
        return []
    empty = int((build.pool_counts.instances[build.alignment.order[short]] == 0).sum())
    return [f"short of instances, capped: {len(short)} categories, {empty} of them without any in the pool"]


def _rewritten_lines(build: Build) -> list[str]:
    """LVIS fields that are no longer the pool's."""
    lines = []
    if build.rewritten.fields:
        fields = ", ".join(build.rewritten.fields)
        lines.append(f"rewritten in every category, so that they say what this set holds: {fields}")
    if build.rewritten.images:
        count = len(build.rewritten.images)
        lines.append(f"{count:,} images that lost surplus list its categories in not_exhaustive_category_ids")
    return lines


def _as_json(build: Build) -> str:
    surplus, crowds = left_over_counts(build)
    counts, alignment = build.pool_counts, build.alignment
    keys = ("name", "categories", "instances")
    content: dict[str, Any] = {
        "schema": 1,
        "pool": build.pool.path.name,
        "source": source_name(build),
        "scale": build.options.scale,
        "seed": build.options.seed,
        "totals": totals(build),
        "images_rarest_first": build.images_rarest_first,
        "left_over": {"surplus": build.options.surplus, "surplus_instances": surplus, "crowds": crowds},
        "groups": [dict(zip(keys, row, strict=True)) for row in _group_rows(build)],
        "shortage": [asdict(one) for one in short_categories(counts, alignment)],
        "without_instances": _ids(build, alignment.order[alignment.ranked :].tolist()),
        "rewritten": {"category_fields": build.rewritten.fields, "images": len(build.rewritten.images)},
        "warnings": all_warnings(build),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _ids(build: Build, rows: Sequence[int]) -> list[dict[str, Any]]:
    counts = build.pool_counts
    return [{"category_id": int(counts.category_ids[row]), "name": counts.names[row]} for row in rows]
