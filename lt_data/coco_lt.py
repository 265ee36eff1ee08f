"""Building COCO-LT: align the pool's category ranks with a reference, sample images, write the dataset directory.

Read ``build_coco_lt`` first: it is the whole job in order.

Source: BAGS supplement (CVPR 2020), section 4.1. The visiting order of the images is not published, so the number of
images differs from the published 9,100; the instances per category do not.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lt_data import dataset_dir as names
from lt_data.alignment import Alignment, align, largest_scale
from lt_data.annotations import AnnotationFile, IntArray, read_annotations, write_subset
from lt_data.counts import (
    CategoryCounts,
    Reference,
    count_categories,
    embedded_reference,
    header_mismatches,
    reference_from_file,
)
from lt_data.errors import DataError
from lt_data.groups import BAGS_EDGES, Group, check_edges, group_name_of, groups_to_json, make_groups
from lt_data.repeat_factors import DEFAULT_THRESHOLD, category_repeat_factors, image_repeat_factors
from lt_data.sampling import Selection, select

SCHEMA = 1
OnShortage = Literal["error", "cap"]
Report = Callable[[str], None]


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Attributes:
        seed: Seed of the visiting order.
        scale: Factor on the targets as decimal text, 0 < scale <= 1, multiplied exactly.
        edges: Ascending bounds between the groups.
        threshold: t of the repeat factors.
        on_shortage: ``error`` refuses a pool with too few instances of a category; ``cap`` takes what there is.
    """

    seed: int = 0
    scale: str = "1.0"
    edges: tuple[int, ...] = BAGS_EDGES
    threshold: float = DEFAULT_THRESHOLD
    on_shortage: OnShortage = "error"


@dataclass(frozen=True)
class Build:
    """A finished choice of images and instances, written or (dry run) not.

    Attributes:
        pool: The file that was sampled.
        pool_counts: Its non-crowd counts.
        reference: The distribution imitated.
        options: How it was built.
        alignment: Targets by rank.
        selection: Images and annotations taken.
        groups: Groups by the instances that were realised.
        warnings: One line each.
    """

    pool: AnnotationFile
    pool_counts: CategoryCounts
    reference: Reference
    options: BuildOptions
    alignment: Alignment
    selection: Selection
    groups: tuple[Group, ...]
    warnings: tuple[str, ...]


def build_coco_lt(
    coco: Path,
    out: Path | None,
    *,
    reference: str | Path = "lvis-v0.5",
    options: BuildOptions | None = None,
    force: bool = False,
    report: Report = lambda _: None,
) -> Build:
    """Builds a long-tailed subset of a COCO-format pool and writes the dataset directory.

    Args:
        coco: The pool: a COCO-format annotation file.
        out: The dataset directory to write, or ``None`` for a dry run.
        reference: Name of an embedded distribution, or a path to an LVIS or COCO file whose annotations are counted.
        options: Seed, scale, edges, threshold, what to do about a short pool.
        force: Replace a dataset directory that exists.
        report: Called with a line before each step.

    Raises:
        DataError: An input cannot be used, an option is out of range, or the pool is short of instances.
        OutputError: ``out`` exists, or cannot be written.
    """
    options = options or BuildOptions()
    check_options(options)
    if out is not None:
        names.check_output(out, force=force)
    target_distribution, warnings = load_reference(reference, report)
    report(f"reading {coco}")
    pool = read_annotations(coco)
    counts = count_categories(pool)
    alignment = align(counts, target_distribution, parse_scale(options.scale))
    report("choosing images")
    build = _choose(pool, counts, target_distribution, alignment, options, warnings)
    if out is not None:
        report(f"writing {out}")
        write_build(build, out)
    return build


def check_options(options: BuildOptions) -> None:
    """Refuses options out of range before anything is read.

    Raises:
        DataError: An option is out of range.
    """
    check_edges(options.edges)
    parse_scale(options.scale)
    category_repeat_factors(np.ones(1, np.int64), 1, options.threshold)


def parse_scale(text: str) -> Fraction:
    """The scale as an exact fraction.

    Raises:
        DataError: The text is not a decimal number with 0 < scale <= 1.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not 0 < value <= 1:
        raise DataError(f"--scale: got '{text}'; allowed is a decimal number with 0 < scale <= 1, for example 0.01")
    return Fraction(value)


def load_reference(reference: str | Path, report: Report = lambda _: None) -> tuple[Reference, tuple[str, ...]]:
    """An embedded distribution by name, or the counts of a file; with warnings about its header fields."""
    if isinstance(reference, str):
        return embedded_reference(reference), ()
    report(f"reading {reference}")
    file = read_annotations(reference)
    return reference_from_file(file), tuple(header_mismatches(file))


def _choose(
    pool: AnnotationFile,
    counts: CategoryCounts,
    reference: Reference,
    alignment: Alignment,
    options: BuildOptions,
    warnings: tuple[str, ...],
) -> Build:
    if options.on_shortage == "error":
        _refuse_shortage(pool, counts, alignment)
    targets = np.empty_like(alignment.targets)
    targets[alignment.order] = alignment.targets
    selection = select(pool, counts.category_ids, targets, serving_order=alignment.order[::-1], seed=options.seed)
    groups = make_groups(counts.category_ids, selection.instances, options.edges)
    return Build(pool, counts, reference, options, alignment, selection, groups, warnings)


def shortages(counts: CategoryCounts, alignment: Alignment) -> IntArray:
    """Ranks whose target is beyond what the pool holds, ascending."""
    return np.flatnonzero(counts.instances[alignment.order] < alignment.targets)


def _refuse_shortage(pool: AnnotationFile, counts: CategoryCounts, alignment: Alignment) -> None:
    short = shortages(counts, alignment)
    if not len(short):
        return
    available = counts.instances[alignment.order]
    some = [rank for rank in short.tolist() if available[rank] > 0]
    none = [rank for rank in short.tolist() if available[rank] == 0]

    def line(rank: int, what: str) -> str:
        row = alignment.order[rank]
        name = f"category {counts.category_ids[row]} '{counts.names[row]}' (rank {rank + 1})"
        return f"{pool.path}: {name}: target {alignment.targets[rank]}, {what}"

    problems = [line(rank, f"the pool has {available[rank]} non-crowd instances") for rank in some]
    problems += [line(rank, "the pool has none; no scale helps") for rank in none]
    raise DataError([*problems, _shortage_advice(alignment.reference_instances, available, bool(some), bool(none))])


def _shortage_advice(reference: IntArray, available: IntArray, some: bool, none: bool) -> str:
    scale = largest_scale(reference, available)
    advice = []
    if some and scale is not None:
        who = " for the categories that have instances" if none else ""
        advice.append(f"the largest --scale that works{who} is {float(scale):.6f}".rstrip("0"))
    if none:
        advice.append("categories without instances need another pool, or a pool that does not list them")
    return "fix: " + "; ".join([*advice, "--on-shortage cap takes what there is and records it"])


def write_build(build: Build, out: Path) -> None:
    """Writes the dataset directory; nothing is left behind if a step fails.

    Raises:
        OutputError: The directory cannot be written.
    """
    with names.replacing_directory(out) as work:
        annotations = work / names.ANNOTATIONS
        write_subset(build.pool, annotations, images=build.selection.images, annotations=build.selection.annotations)
        written = read_annotations(annotations)
        names.write_csv(work / names.CATEGORIES, _CATEGORY_COLUMNS, _category_rows(build, count_categories(written)))
        names.write_json(work / names.GROUPS, groups_to_json(build.groups, build.options.edges))
        factors = image_repeat_factors(written, build.options.threshold)
        rows = zip(written.image_ids.tolist(), factors.tolist(), strict=True)
        names.write_csv(work / names.REPEAT_FACTORS, ("image_id", "repeat_factor"), rows)
        names.write_json(work / names.BUILD, _build_record(build, work))
        names.write_json(work / names.ENVIRONMENT, _environment(build, out))
        _plot(build, work / names.ALIGNMENT_PLOT)


_CATEGORY_COLUMNS = (
    *("category_id", "name", "rank", "pool_instances", "pool_images", "reference_rank", "reference_instances"),
    *("target", "instances", "images", "group"),
)


def _category_rows(build: Build, written: CategoryCounts) -> list[Sequence[object]]:
    """One row a category by rank; ranks count from 1."""
    group = group_name_of(build.groups)
    pool, alignment = build.pool_counts, build.alignment
    return [
        (
            int(pool.category_ids[row]),
            pool.names[row],
            rank + 1,
            int(pool.instances[row]),
            int(pool.images[row]),
            int(alignment.reference_positions[rank]) + 1,
            int(alignment.reference_instances[rank]),
            int(alignment.targets[rank]),
            int(written.instances[row]),
            int(written.images[row]),
            group[int(pool.category_ids[row])],
        )
        for rank, row in enumerate(alignment.order.tolist())
    ]


def dropped(build: Build) -> dict[str, int]:
    """Annotations of taken images that were not kept: surplus instances and crowds."""
    lost = build.selection.images[build.pool.image_index()] & ~build.selection.annotations
    return {
        "surplus_instances": int((lost & ~build.pool.crowd).sum()),
        "crowds": int((lost & build.pool.crowd).sum()),
    }


def totals(build: Build) -> dict[str, int]:
    """Images, instances and categories of the result."""
    return {
        "images": int(build.selection.images.sum()),
        "instances": int(build.selection.annotations.sum()),
        "categories": len(build.pool_counts.category_ids),
    }


def _build_record(build: Build, work: Path) -> dict[str, Any]:
    options, pool = build.options, build.pool
    available = build.pool_counts.instances[build.alignment.order]
    short = [
        {
            "category_id": int(build.pool_counts.category_ids[build.alignment.order[rank]]),
            "target": int(build.alignment.targets[rank]),
            "available": int(available[rank]),
        }
        for rank in shortages(build.pool_counts, build.alignment).tolist()
    ]
    files = (names.ANNOTATIONS, names.CATEGORIES, names.GROUPS, names.REPEAT_FACTORS)
    return {
        "schema": SCHEMA,
        "inputs": {
            "pool": {"name": pool.path.name, "sha256": pool.sha256},
            "reference": {"name": build.reference.name, "sha256": build.reference.sha256},
        },
        "rule": {
            "alignment": "floor(i * (n_ref - 1) / (n_pool - 1))",
            "order": "rarest-first",
            "images": "sha256 of '{seed}:{image_id}', ascending",
            "surplus": "drop",
        },
        "options": {
            "scale": options.scale,
            "edges": list(options.edges),
            "threshold": options.threshold,
            "on_shortage": options.on_shortage,
        },
        "seed": options.seed,
        "totals": totals(build),
        "dropped": {
            **dropped(build),
            "why": "an instance is dropped when its category has its target already; crowds are always dropped",
        },
        "shortage": short,
        "warnings": list(build.warnings),
        "files": {name: names.sha256_of(work / name) for name in files},
    }


def _environment(build: Build, out: Path) -> dict[str, Any]:
    packages = ("lt-detection", "numpy", "msgspec", "pandas", "pycocotools", "matplotlib")
    return {
        "schema": SCHEMA,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in packages},
        "command": sys.argv,
        "paths": {"pool": str(build.pool.path.absolute()), "out": str(out.absolute())},
    }


def _plot(build: Build, path: Path) -> None:
    from lt_data.plots import plot_alignment

    plot_alignment(
        path,
        pool_instances=build.pool_counts.instances[build.alignment.order],
        reference_instances=build.reference.instances,
        reference_positions=build.alignment.reference_positions,
        targets=build.alignment.targets,
        pool_name=build.pool.path.name,
        reference_name=build.reference.name,
    )


def format_build(build: Build) -> str:
    """The result as a short text: totals, groups, what was dropped and what is short."""
    total, lost = totals(build), dropped(build)
    lines = [
        f"{total['images']:,} images, {total['instances']:,} instances, {total['categories']} categories "
        f"(reference {build.reference.name}, scale {build.options.scale}, seed {build.options.seed})",
        f"dropped from these images: {lost['surplus_instances']:,} surplus instances, {lost['crowds']:,} crowds",
    ]
    by_id = dict(zip(build.pool_counts.category_ids.tolist(), build.selection.instances.tolist(), strict=True))
    lines.append("{:<14}{:>12}{:>12}".format("group", "categories", "instances"))
    for group in build.groups:
        instances = sum(by_id[c] for c in group.category_ids)
        lines.append(f"{group.name:<14}{len(group.category_ids):>12,}{instances:>12,}")
    short = shortages(build.pool_counts, build.alignment)
    if len(short):
        empty = int((build.pool_counts.instances == 0).sum())
        lines.append(f"short of instances, capped: {len(short)} categories, {empty} of them without any in the pool")
    return "\n".join(lines)
