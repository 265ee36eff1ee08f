"""The files of a dataset directory, written from a finished build."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lt_data.annotations.file import read_annotations
from lt_data.annotations.subset import write_subset
from lt_data.build.card import data_card, stated_licences
from lt_data.build.lvis_fields import WHY
from lt_data.build.result import (
    ALIGNED,
    EXPLICIT,
    IMAGE_ORDER,
    NOTHING_DROPPED,
    WHY_DROPPED,
    WHY_IGNORED,
    Build,
    left_over_counts,
    shortages,
    totals,
)
from lt_data.counts.categories import CategoryCounts, count_categories
from lt_data.counts.repeat_factors import image_repeat_factors
from lt_data.dataset.directory import check_output
from lt_data.dataset.names import (
    ALIGNMENT_PLOT,
    ANNOTATIONS,
    BUILD,
    CARD,
    CATEGORIES,
    ENVIRONMENT,
    GROUPS,
    IMAGES,
    REPEAT_FACTORS,
    VALIDATION,
)
from lt_data.dataset.record import (
    BUILD_SCHEMA,
    ENVIRONMENT_SCHEMA,
    BuildRecord,
    Input,
    Inputs,
    LeftOver,
    RewrittenFields,
    Rule,
    Shortage,
)
from lt_data.errors import DataError
from lt_data.files.writing import replacing_directory, sha256_of, write_csv, write_json
from lt_data.groups import group_name_of, groups_to_json
from lt_data.progress import SILENT, Progress
from lt_data.versions import PACKAGE, version_of

_CATEGORY_COLUMNS = (
    *("category_id", "name", "rank", "pool_instances", "pool_images", "reference_rank", "reference_instances"),
    *("target", "instances", "images", "group"),
)


def write_build(
    build: Build,
    out: Path,
    *,
    copy_images: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Writes the dataset directory; nothing is left behind if a step fails.

    Args:
        build: What was chosen.
        out: The directory.
        copy_images: Copy images instead of linking them, where the build has any.
        force: Replace a dataset directory that exists.
        progress: Told of each long step, and of the bytes or images that are done.

    Raises:
        OutputError: The directory exists, or cannot be written.
    """
    out = Path(out)

    def check() -> None:
        check_output(out, force=force)

    with replacing_directory(out, force=force, check=check) as work:
        annotations = work / ANNOTATIONS
        ignored = build.left_over if build.options.surplus == "ignore" else None
        chosen = build.selection
        write_subset(
            build.pool,
            annotations,
            images=chosen.images,
            annotations=chosen.annotations,
            ignored=ignored,
            image_records=build.rewritten.images,
            edits=build.rewritten.edits,
        )
        written = read_annotations(annotations)
        counts = count_categories(written, count_crowds=build.count_crowds)
        write_csv(work / CATEGORIES, _CATEGORY_COLUMNS, _category_rows(build, counts))
        write_json(work / GROUPS, groups_to_json(build.groups, build.options.edges))
        factors = image_repeat_factors(written, build.options.threshold)
        rows = zip(written.image_ids.tolist(), factors.tolist(), strict=True)
        write_csv(work / REPEAT_FACTORS, ("image_id", "repeat_factor"), rows)
        if build.val is not None:
            (work / VALIDATION).write_bytes(build.val.data)
            build.val.check_unchanged()
        write_json(work / BUILD, _build_record(build, work).content())
        write_json(work / ENVIRONMENT, _environment(build, out))
        progress.step(f"drawing {ALIGNMENT_PLOT}")
        _plot(build, work / ALIGNMENT_PLOT)
        if build.image_paths:
            progress.step(f"{'copying' if copy_images else 'linking'} {len(build.image_paths):,} images")
        _put_images(build, work / IMAGES, copy=copy_images)
        # the written file has the pool's members and is far smaller to look through
        (work / CARD).write_bytes(data_card(build, counts, stated_licences(written)).encode("utf-8"))


def _category_rows(build: Build, written: CategoryCounts) -> list[Sequence[object]]:
    """One row a category by rank, which counts from 1; without instances none, without a reference no place in it."""
    group = group_name_of(build.groups)
    pool, alignment = build.pool_counts, build.alignment
    places = alignment.reference_positions.tolist()
    return [
        (
            int(pool.category_ids[row]),
            pool.names[row],
            rank + 1 if rank < alignment.ranked else "",
            int(pool.instances[row]),
            int(pool.images[row]),
            "" if places[rank] < 0 else places[rank] + 1,
            int(alignment.reference_instances[rank]),
            int(alignment.targets[rank]),
            int(written.instances[row]),
            int(written.images[row]),
            group[int(pool.category_ids[row])],
        )
        for rank, row in enumerate(alignment.order.tolist())
    ]


def _build_record(build: Build, work: Path) -> BuildRecord:
    options = build.options
    files = [ANNOTATIONS, CATEGORIES, GROUPS, REPEAT_FACTORS]
    files += [VALIDATION] if build.val is not None else []
    dropped, ignored = _left_over(build)
    return BuildRecord(
        schema=BUILD_SCHEMA,
        inputs=_inputs(build),
        rule=Rule(
            alignment=ALIGNED if build.targets is None else EXPLICIT,
            order=options.order,
            images=IMAGE_ORDER,
            surplus=options.surplus,
            crowds_count=build.count_crowds,
        ),
        options={
            "scale": options.scale,
            "edges": list(options.edges),
            "threshold": options.threshold,
            "on_shortage": options.on_shortage,
            "surplus": options.surplus,
            "order": options.order,
        },
        seed=options.seed,
        totals=totals(build),
        images_rarest_first=build.images_rarest_first,
        dropped=dropped,
        ignored=ignored,
        shortage=_shortage(build),
        rewritten=_rewritten(build),
        warnings=list(build.warnings),
        files={name: sha256_of(work / name) for name in files},
    )


def _inputs(build: Build) -> Inputs:
    """Every input by base name and digest."""
    reference, targets, val = build.reference, build.targets, build.val
    return Inputs(
        pool=Input(build.pool.path.name, build.pool.sha256),
        reference=None if reference is None else Input(reference.name, reference.sha256),
        targets=None if targets is None else Input(targets.name, targets.sha256),
        val=None if val is None else Input(val.path.name, val.sha256),
    )


def _left_over(build: Build) -> tuple[LeftOver, LeftOver]:
    """What was dropped, and what was kept as regions that training ignores."""
    surplus, crowds = left_over_counts(build)
    if build.options.surplus == "ignore":
        return LeftOver(0, 0, NOTHING_DROPPED), LeftOver(surplus, crowds, WHY_IGNORED)
    return LeftOver(surplus, crowds, WHY_DROPPED), LeftOver()


def _shortage(build: Build) -> list[Shortage]:
    counts, alignment = build.pool_counts, build.alignment
    return [
        Shortage(
            category_id=int(counts.category_ids[alignment.order[rank]]),
            target=int(alignment.targets[rank]),
            available=int(counts.instances[alignment.order[rank]]),
        )
        for rank in shortages(counts, alignment).tolist()
    ]


def _rewritten(build: Build) -> RewrittenFields | None:
    found = build.rewritten
    if not found.fields and not found.images:
        return None
    return RewrittenFields(list(found.fields), len(found.images), WHY)


def _environment(build: Build, out: Path) -> dict[str, Any]:
    packages = (PACKAGE, "numpy", "msgspec", "pandas", "pycocotools", "matplotlib")
    return {
        "schema": ENVIRONMENT_SCHEMA,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in packages if (version := version_of(name))},
        "command": sys.argv,
        "paths": {"pool": str(build.pool.path.absolute()), "out": str(out.absolute())},
    }


def _plot(build: Build, path: Path) -> None:
    from lt_data.pictures.figures import plot_alignment

    alignment, reference = build.alignment, build.reference
    # what takes no rank has no place on the axis, unless a target was given for it
    ranks = np.flatnonzero((np.arange(len(alignment.order)) < alignment.ranked) | (alignment.targets > 0))
    order = alignment.order[ranks]
    plot_alignment(
        path,
        pool_instances=build.pool_counts.instances[order],
        # explicit targets are aligned with nothing
        reference_instances=np.zeros(0, np.int64) if reference is None else reference.instances,
        reference_positions=alignment.reference_positions[ranks],
        targets=alignment.targets[ranks],
        realised=build.selection.instances[order],
        pool_name=build.pool.path.name,
        reference_name="" if reference is None else reference.name,
    )


def _put_images(build: Build, folder: Path, *, copy: bool) -> None:
    """Links or copies the taken images under the names that the annotations give them."""
    file_names = [build.pool.file_names[i] for i in np.flatnonzero(build.selection.images)]
    for name, source in zip(file_names, build.image_paths, strict=False):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            _copy(source, target)
        else:
            os.symlink(source.absolute(), target)


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        # what cannot be written is told of the whole directory
        if error.filename == str(source) or error.filename == source:
            raise DataError(f"{source}: cannot be read ({error.strerror}); the image folder must be readable") from None
        raise
