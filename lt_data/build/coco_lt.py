"""Building COCO-LT: align the pool's category ranks with a reference, sample images, write the dataset directory.

Read ``build_coco_lt`` first: it is the whole job in order.

Source: BAGS supplement (CVPR 2020), section 4.1. The visiting order of the images is not published, so the number of
images differs from the published 9,100; the instances per category do not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.annotations.findings import CROWDS_OR_OBJECTS
from lt_data.annotations.same_categories import check_same_categories
from lt_data.build.alignment import Alignment, align, explicit, number_ranked
from lt_data.build.check_options import check_options, parse_scale
from lt_data.build.lvis_fields import Rewritten, rewritten
from lt_data.build.notes import build_notes
from lt_data.build.references import Targets, check_reference, check_targets, load_reference, load_targets
from lt_data.build.result import Build, Extras, kept_counts
from lt_data.build.sampling import Selection, select
from lt_data.build.shortage import refuse_shortage
from lt_data.build.write import write_build
from lt_data.counts.categories import CategoryCounts, Reference, count_categories
from lt_data.dataset.directory import check_output
from lt_data.dataset.names import ENVIRONMENT, annotations_path
from lt_data.dataset.options import BuildOptions, Order
from lt_data.errors import DataError
from lt_data.files.image_files import FoundImages, check_folder, normal_name, refuse_images_inside, refuse_links_out
from lt_data.files.writing import refuse_inputs_inside, refuse_unnamable
from lt_data.groups import make_groups
from lt_data.progress import SILENT, Progress


def build_coco_lt(
    coco: Path | str,
    out: Path | str | None,
    *,
    reference: str | Path = "lvis-v0.5",
    targets: str | Path | None = None,
    options: BuildOptions | None = None,
    extras: Extras | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Build:
    """Builds a long-tailed subset of a COCO-format pool and writes the dataset directory.

    Args:
        coco: The pool: a COCO-format annotation file or a dataset directory.
        out: The dataset directory to write, or ``None`` for a dry run.
        reference: The distribution to imitate, see :func:`lt_data.build.references.load_reference`.
        targets: Explicit targets instead of a reference, see :func:`lt_data.build.references.load_targets`.
        options: Seed, scale, edges, threshold, what to do about a short pool and about surplus, the order.
        extras: Validation file and images to put beside.
        force: Replace a dataset directory that exists.
        progress: Told of each long step, and of the bytes or images that are done.

    Raises:
        DataError: An input cannot be used, an option is out of range, or the pool is short of instances.
        OutputError: ``out`` exists, or cannot be written.
    """
    options, extras = options or BuildOptions(), _with_paths(extras or Extras())
    coco, out = annotations_path(Path(coco)), None if out is None else Path(out)
    reference, targets = _source(reference, "--reference"), None if targets is None else _source(targets, "--targets")
    check_options(options)
    if targets is None:
        check_reference(reference)
    else:
        check_targets(targets)
    if extras.images is not None:
        check_folder(extras.images)
    if out is not None:
        check_output(out, force=force)
        given = (coco, reference, targets, extras.val, extras.images)
        refuse_unnamable([Path(path) for path in (*given, out) if path is not None], ENVIRONMENT)
        refuse_inputs_inside(out, [Path(path) for path in given if path is not None and Path(path).exists()])

    def read(path: Path) -> AnnotationFile:
        progress.step(f"reading {path}")
        return read_annotations(path, progress=progress)

    # the small file first: what is wrong with it is known before the long read
    val = None if extras.val is None else read(annotations_path(extras.val))
    pool = read(coco)
    if val is not None:
        check_same_categories(val, pool.categories.ids, pool.categories.names, other=pool.path.name)
    build = _plan(pool, reference, targets, options, progress)
    images = _found_images(build, extras.images)
    build = replace(build, val=val, image_paths=tuple(images.paths), image_notes=images.notes)
    build = replace(build, notes=tuple(build_notes(build)))
    if out is not None:
        refuse_images_inside(out, build.image_paths)
        progress.step(f"writing {out}")
        write_build(build, out, copy_images=extras.copy_images, force=force, progress=progress)
    return build


def _with_paths(extras: Extras) -> Extras:
    """The same with paths where the caller gave text."""
    val, images = (None if path is None else Path(path) for path in (extras.val, extras.images))
    return replace(extras, val=val, images=images)


def _source(given: str | Path, option: str) -> str | Path:
    """What was given as a path but is not there may be a name, such as ``lvis-v1``."""
    if not str(given):
        raise DataError(f"{option}: is empty; give a name or a file, or leave it out")
    return given if isinstance(given, str) or given.exists() else str(given)


def _plan(
    pool: AnnotationFile,
    reference: str | Path,
    targets: str | Path | None,
    options: BuildOptions,
    progress: Progress,
) -> Build:
    """Targets, then images: everything but the extras."""
    scale = parse_scale(options.scale)
    chosen: Reference | None = None
    wanted: Targets | None = None
    warnings: tuple[str, ...] = ()
    counts = count_categories(pool)
    if targets is not None:
        wanted = load_targets(targets, counts)
        _refuse_counted_crowds_as_regions(wanted, options)
        counts = count_categories(pool, count_crowds=wanted.count_crowds)
        _refuse_nothing(pool, counts, wanted)
        alignment = explicit(counts, wanted.instances, scale)
    else:
        _refuse_nothing(pool, counts)
        chosen, warnings = load_reference(
            reference, int(counts.instances.max()), number_ranked(counts), progress=progress
        )
        alignment = align(counts, chosen, scale)
    if options.on_shortage == "error":
        refuse_shortage(pool.path, counts, alignment)
    progress.step("choosing images")
    crowds = wanted is not None and wanted.count_crowds
    selection, rarest_first = _select(pool, counts, alignment, options, crowds)
    groups = make_groups(counts.category_ids, selection.instances, options.edges)
    build = Build(pool, counts, chosen, wanted, options, alignment, selection, rarest_first, groups, warnings=warnings)
    return replace(build, rewritten=_rewritten(build))


def _refuse_nothing(pool: AnnotationFile, counts: CategoryCounts, wanted: Targets | None = None) -> None:
    """A data set without any instance would be empty tables and a picture of nothing."""
    if not counts.instances.any():
        crowds = int(pool.crowd.sum())
        why = f" ({crowds:,} annotations are crowds, which do not count; {CROWDS_OR_OBJECTS})" if crowds else ""
        raise DataError(f"{pool.path}: no category has an instance{why}; give a pool with annotated objects")
    if wanted is not None and not (wanted.instances[counts.instances > 0] > 0).any():
        raise DataError(
            f"--targets {wanted.name}: every category that has instances in {pool.path.name} has target 0; give one "
            "of them a target above 0"
        )


def _rewritten(build: Build) -> Rewritten:
    return rewritten(
        build.pool,
        kept_counts(build),
        images=build.selection.images,
        kept=build.selection.annotations,
        instances=~build.pool.crowd | build.count_crowds,
    )


def _refuse_counted_crowds_as_regions(targets: Targets, options: BuildOptions) -> None:
    """A crowd that counts as an instance and a region to ignore could not be told apart in the file."""
    if targets.count_crowds and options.surplus == "ignore":
        raise DataError(
            f"--targets {targets.name} counts crowds as instances, so --surplus ignore, which marks regions as crowds, "
            "cannot be used with it; use --surplus drop"
        )


def _select(
    pool: AnnotationFile, counts: CategoryCounts, alignment: Alignment, options: BuildOptions, count_crowds: bool
) -> tuple[Selection, int]:
    """The selection, and the images that the published order would take."""
    targets = np.empty_like(alignment.targets)
    targets[alignment.order] = alignment.targets

    def run(order: Order) -> Selection:
        return select(
            pool,
            counts.category_ids,
            targets,
            serving_order=alignment.order[::-1],
            seed=options.seed,
            order=order,
            count_crowds=count_crowds,
        )

    selection = run(options.order)
    published = selection if options.order == "rarest-first" else run("rarest-first")
    return selection, int(published.images.sum())


def _found_images(build: Build, folder: Path | None) -> FoundImages:
    """Where the taken images lie, before anything is written."""
    if folder is None:
        return FoundImages([], ())
    rows = np.flatnonzero(build.selection.images).tolist()
    taken = [build.pool.file_names[row] for row in rows]
    if nameless := taken.count(""):
        raise DataError(f"{build.pool.path}: {nameless} images have no file_name; --images needs one for every image")
    twice = [name for name, count in Counter(map(normal_name, taken)).items() if count > 1]
    if twice:
        raise DataError(
            f"{build.pool.path}: {len(twice)} image file names occur more than once ('{twice[0]}'); "
            "give every image a file of its own to use --images"
        )
    found = build.pool.find_images(folder, rows)
    refuse_links_out(folder, found.paths)
    return found
