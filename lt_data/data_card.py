"""The README of a dataset directory: what it is, how it was made, its tables, its sources."""

from __future__ import annotations

import shlex

import numpy as np

from lt_data import dataset_dir as names
from lt_data.build import Build, left_over_counts, shortages, source_name, totals
from lt_data.counts import CategoryCounts


def data_card(build: Build, counts: CategoryCounts) -> str:
    """The card as Markdown.

    Args:
        build: What was chosen.
        counts: Realised counts of the written annotations.
    """
    total, (surplus, crowds) = totals(build), left_over_counts(build)
    fate = "dropped" if build.options.surplus == "drop" else "kept as `iscrowd: 1` regions that training ignores"
    parts = [
        f"# Long-tailed subset of {build.pool.path.name}",
        f"{total['images']:,} images, {total['instances']:,} instances, {total['categories']} categories; "
        f"{source_name(build)}. {surplus:,} surplus instances and {crowds:,} crowds of these images are {fate}.",
        f"Made with (the words as typed, with paths, stand in `{names.ENVIRONMENT}`):",
        f"    {command(build)}",
        _identity_note(build),
        "## Groups by training instances",
        _group_table(build),
        "## Most and least frequent categories",
        _category_table(build, counts),
        f"![Instances of the pool, the reference and the targets]({names.ALIGNMENT_PLOT})",
        "## Files",
        f"`{names.ANNOTATIONS}` (COCO JSON), `{names.CATEGORIES}`, `{names.GROUPS}`, `{names.REPEAT_FACTORS}`, "
        f"`{names.BUILD}` (inputs, rule, digests), `{names.ENVIRONMENT}`. `lt-data verify` recomputes every figure of "
        "the data files.",
        "## Sources and licences",
        f"Annotations and images are those of the pool ({build.pool.path.name}, sha256 {build.pool.sha256}) and stay "
        "under its licences: COCO and LVIS annotations are CC BY 4.0; each image has the licence that the member "
        "`licenses` names. Long-tail recipe: Li et al., Balanced Group Softmax, CVPR 2020, supplement 4.1.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def command(build: Build) -> str:
    """The command that makes the same files from the same inputs."""
    options = build.options
    words = ["lt-data", "build-coco-lt", "--coco", build.pool.path.name, "--out", "OUT"]
    if build.targets is not None:
        words += ["--targets", build.targets.name]
    elif build.reference is not None:
        words += ["--reference", build.reference.name]
    words += ["--seed", str(options.seed), "--scale", options.scale]
    words += ["--edges", ",".join(map(str, options.edges)), "--threshold", str(options.threshold)]
    words += ["--on-shortage", options.on_shortage, "--surplus", options.surplus, "--order", options.order]
    words += ["--val", build.val.path.name] if build.val is not None else []
    return shlex.join(words)


def _identity_note(build: Build) -> str:
    if build.targets is not None and build.targets.name == "simcal":
        return (
            "This is the set called COCO-LT in SimCal (666,493 instances, crowds counted). It is **not** the 64,504 "
            "instance set of the BAGS supplement; figures of the two cannot be compared."
        )
    if totals(build)["instances"] == 64_504 and build.reference is not None and build.reference.name == "lvis-v0.5":
        return (
            "These are the 64,504 instances over 80 categories that the BAGS supplement publishes for COCO-LT. It is "
            "**not** the set of the same name in SimCal (666,493 instances)."
        )
    return ""


def _group_table(build: Build) -> str:
    by_id = dict(zip(build.pool_counts.category_ids.tolist(), build.selection.instances.tolist(), strict=True))
    lines = ["| group | categories | instances |", "|---|---|---|"]
    for group in build.groups:
        lines.append(f"| {group.name} | {len(group.category_ids)} | {sum(by_id[c] for c in group.category_ids):,} |")
    short = len(shortages(build.pool_counts, build.alignment))
    return "\n".join(lines) + (f"\n\n{short} categories are below their target: the pool has no more." if short else "")


def _category_table(build: Build, counts: CategoryCounts, most: int = 5) -> str:
    """The first and the last few ranks."""
    order = build.alignment.order
    ranks = np.arange(len(order))
    shown = ranks if len(order) <= 2 * most else np.concatenate([ranks[:most], ranks[-most:]])
    lines = ["| rank | category | instances | images |", "|---|---|---|---|"]
    for rank in shown.tolist():
        row = order[rank]
        lines.append(f"| {rank + 1} | {counts.names[row]} | {counts.instances[row]:,} | {counts.images[row]:,} |")
    return "\n".join(lines)
