"""From a recipe to what a run needs: data, model, weights, device; and the lines that say what was decided."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.same_categories import check_same_categories
from lt_data.arrays import IntArray
from lt_data.counts.categories import CategoryCounts, counts_to_plain
from lt_data.counts.repeat_factors import expected_copies
from lt_data.errors import DataError
from lt_data.files.pixels import AS_STORED, ImageReading
from lt_data.files.reading import stamp_of
from lt_data.files.stuff_maps import check_stuff_maps, read_stuff_map, stuff_path
from lt_data.groups import Group
from lt_train.augment.augmentation import Augmentation, describe
from lt_train.augment.paste import FOR_PASTE, paste_sources
from lt_train.data.dataset import DetectionDataset
from lt_train.data.detection_data import (
    DetectionData,
    check_segmentations,
    keep_classes_below,
    load_data,
    segmentation_kinds,
    training_rows,
    untrained_note,
)
from lt_train.data.plan import BiLevel, Plan
from lt_train.data.sampler_options import BiLevelSampler, ClassAwareSampler, RepeatFactorSampler, SamplerOptions
from lt_train.data.target import MaskForm
from lt_train.data.workers import many_workers_note
from lt_train.evaluation import GroundTruth, load_ground_truth
from lt_train.randomness import draw_seed
from lt_train.recipe.paths import check_paths
from lt_train.recipe.sections import Files, Recipe, has_masks
from lt_train.runs.hold_out import held_out_note, held_out_rows, hold_out
from lt_train.runs.metadata import (
    ChosenFactors,
    ChosenGroups,
    choose_factors,
    choose_groups,
    groups_to_record,
    stale_note,
)
from lt_train.runs.notes import data_notes, without_effect_notes

# groups by the counts of the training file; None leaves them to the recipe
GroupsFor = Callable[[CategoryCounts], ChosenGroups | None]


@dataclass(frozen=True)
class ValidationData(DetectionData):
    """Validation data: what a model looks at, and what its detections are measured against.

    Attributes:
        truth: The annotations as an evaluation wants them, with masks if they are going to be measured.
        notes: How the images were found, and what of the annotations is not measured.
    """

    truth: GroundTruth


@dataclass(frozen=True)
class RunData:
    """Training and validation data of a run.

    Attributes:
        train: The training file with its images.
        dataset: Its samples.
        val: The validation file with its images, or ``None``.
        groups: Groups of the categories.
        groups_source: Where they come from, for people.
        factors: Repeat factors of the images of the training file, or ``None``.
        notes: What was left out and what is odd, one line each.
        held_out: Positions of the images of the training file that are not trained on, in the order of ``hold_out``.
        val_dataset: Samples of the validation file, for its losses; ``None`` unless ``eval.loss`` asks for them.
    """

    train: DetectionData
    dataset: DetectionDataset
    val: ValidationData | None
    groups: tuple[Group, ...]
    groups_source: str
    factors: ChosenFactors | None
    notes: tuple[str, ...]
    held_out: IntArray
    val_dataset: DetectionDataset | None = None


def load_run_data(recipe: Recipe, groups_for: GroupsFor | None = None) -> RunData:
    """Reads the data of a recipe.

    Args:
        recipe: The recipe.
        groups_for: Gives the groups, where they are not those that the recipe says.

    Raises:
        DataError: A file cannot be used, images are missing, or the categories of the two files differ.
    """
    check_paths(recipe)
    reading = recipe.data.reading
    train = load_data(recipe.data.train.annotations, recipe.data.train.images, reading)
    given = groups_for(train.counts) if groups_for is not None else None
    chosen = given or choose_groups(recipe, train.file, train.counts)
    factors = choose_factors(recipe, train.file)
    own_notes = (*untrained_note(train), *stale_note(recipe, train.file), *chosen.notes)
    # before classes are left out: every run on these images holds out the same ones
    held_out = held_out_rows(train, recipe.data.hold_out)
    own_notes += held_out_note(train, held_out, recipe.data.hold_out)
    if recipe.data.classes_below is not None:
        train = keep_classes_below(train, recipe.data.classes_below)
    if len(held_out):
        train = hold_out(train, held_out)
    val = None
    if recipe.data.val:
        val = load_validation(recipe.data.val, train.counts, masks=has_masks(recipe), reading=reading)
    augment, mask_notes = _masks_and_changes(recipe, train)
    rows, notes = training_rows(train, keep_empty=recipe.data.keep_empty, held_out=held_out)
    own_notes += without_effect_notes(recipe, train, None if factors is None else factors.of(rows))
    dataset = DetectionDataset(
        train,
        rows,
        seed=recipe.seed,
        flip=recipe.data.flip,
        short_sides=recipe.model.short_sides,
        max_size=recipe.model.max_size,
        masks=_mask_form(recipe),
        stuff=_stuff_maps(recipe, train, rows),
        augment=augment,
    )
    notes = (*train.notes, *mask_notes, *notes, *own_notes, *data_notes(train, val), *(val.notes if val else ()))
    # the same file for both says the same of both
    notes = tuple(dict.fromkeys(notes))
    val_dataset = _validation_samples(recipe, val, train.counts) if val is not None and recipe.eval.loss else None
    return RunData(train, dataset, val, chosen.groups, chosen.source, factors, notes, held_out, val_dataset)


def _validation_samples(recipe: Recipe, val: ValidationData, trained: CategoryCounts) -> DetectionDataset:
    """The validation images with targets as in training, not flipped, with the short side of test.

    Raises:
        DataError: No image has a target, or masks cannot be trained on.
    """
    data: DetectionData = val
    if recipe.data.classes_below is not None:
        kept = trained.instances < recipe.data.classes_below
        data = replace(val, usable=val.usable & kept[val.ids.to_labels(val.file.annotation_category_ids) - 1])
    if needs_mask_targets(recipe):
        check_segmentations(data)
    rows, _ = training_rows(data, keep_empty=recipe.data.keep_empty)
    return DetectionDataset(
        data,
        rows,
        # other draws than those of training, where both are the same images
        seed=draw_seed(recipe.seed, "validation"),
        short_sides=(recipe.model.test_short_side,),
        max_size=recipe.model.max_size,
        masks=_mask_form(recipe),
    )


def _masks_and_changes(recipe: Recipe, train: DetectionData) -> tuple[Augmentation | None, tuple[str, ...]]:
    """What changes training images, or ``None``, and notes about masks, which are checked where they are needed.

    Raises:
        DataError: There are no masks, or some cannot be read.
    """
    options, trained = recipe.data.augment, needs_mask_targets(recipe)
    if not trained and not options.paste.objects:
        return (Augmentation(options) if options.is_on else None), ()
    kinds = segmentation_kinds(train)
    notes = check_segmentations(train, kinds) if trained else check_segmentations(train, kinds, **FOR_PASTE)
    sources = paste_sources(train, kinds) if options.paste.objects else None
    return (Augmentation(options, sources) if options.is_on else None), notes


def needs_mask_targets(recipe: Recipe) -> bool:
    """Whether the mask loss is computed: its weights and all in front of them are trained only by ``train=all``."""
    return has_masks(recipe) and recipe.train == "all"


def _stuff_maps(recipe: Recipe, train: DetectionData, rows: IntArray) -> Path | None:
    """The folder of the stuff maps where they are learned, with one for each image; the first is looked at.

    Raises:
        DataError: Maps are missing, or the first is of another kind.
    """
    folder = recipe.data.train.stuff
    if folder is None or recipe.train != "all":
        return None
    images = [train.paths[row] for row in rows.tolist()]
    check_stuff_maps(folder, images)
    for image, (width, height) in zip(images[:1], train.file.image_sizes[rows[:1]].tolist(), strict=True):
        read_stuff_map(stuff_path(folder, image), width=int(width), height=int(height))
    return folder


def _mask_form(recipe: Recipe) -> MaskForm:
    """What targets hold of masks: workers rasterise those whose targets need no boxes."""
    if not needs_mask_targets(recipe):
        return "none"
    return "runs" if recipe.model.mask_target == "exact" else "polygons"


def load_validation(
    files: Files, train: CategoryCounts, *, masks: bool, reading: ImageReading = AS_STORED
) -> ValidationData:
    """Reads validation data and checks that a trained model can be measured on it.

    Args:
        files: Annotations and images.
        train: Counts of the training file.
        masks: Whether masks are going to be measured.
        reading: How the images are read.

    Raises:
        DataError: The file cannot be used, lacks boxes or masks, or has other categories than the training file.
    """
    val = load_data(files.annotations, files.images, reading)
    check_same_categories(val.file, train.category_ids, train.names, other="the training file")
    truth = load_ground_truth(val.file, masks=masks)
    return ValidationData(**{**vars(val), "notes": (*val.image_notes, *truth.notes)}, truth=truth)


def make_plan(recipe: Recipe, data: RunData) -> Plan:
    """The order in which the run sees its images."""
    width, height = data.train.file.image_sizes[data.dataset.rows].T
    return Plan(
        seed=recipe.seed,
        images=len(data.dataset),
        batch=recipe.optim.batch,
        accumulate=recipe.optim.accumulate,
        epochs=recipe.schedule.epochs,
        iterations=recipe.schedule.iterations,
        whole_passes=recipe.schedule.epoch == "sampler",
        upright=height > width if recipe.data.aspect_ratio_grouping else None,
        **_sampling(recipe.sampler, data),
    )


def _sampling(sampler: SamplerOptions, data: RunData) -> dict[str, Any]:
    """What a plan needs to know of the sampler."""
    if isinstance(sampler, RepeatFactorSampler) and data.factors is not None:
        return {"factors": data.factors.values[data.dataset.rows], "rounding": sampler.rounding}
    if isinstance(sampler, ClassAwareSampler):
        return {"class_rows": data.dataset.rows_of_classes()}
    if isinstance(sampler, BiLevelSampler):
        _, labels = data.dataset.pairs()
        return {"bi_level": BiLevel(np.unique(labels), data.dataset.rows_of_classes(), sampler.steps)}
    return {}


def describe_data(recipe: Recipe, data: RunData, plan: Plan) -> list[str]:
    """Lines about the data: sizes, groups, what was left out, how long an epoch is."""
    counts = data.train.counts
    lines = [
        f"data: {len(data.dataset):,} images, {int(data.train.usable.sum()):,} instances, "
        f"{len(counts.names)} categories",
        describe_groups(data),
        *data.notes,
        *many_workers_note(recipe.data.workers),
        *_describe_changes(data, plan),
    ]
    if plan.factors is not None and data.factors is not None:
        lines.append(
            f"repeat-factor sampling: {int((plan.factors > 1).sum()):,} images are repeated, a pass has "
            f"{expected_copies(plan.factors, plan.rounding).sum():,.0f} images on average; factors from "
            f"{data.factors.source}"
        )
    if plan.class_rows is not None:
        lines.append(f"class-aware sampling: {len(plan.class_rows):,} classes with images take turns")
    if plan.bi_level is not None:
        lines.append(
            f"bi-level sampling: a step draws {recipe.optim.images_per_step:,} of {len(plan.bi_level.labels):,} "
            "classes with images, with replacement, and an image of each, on which that class alone is trained"
        )
    if data.val is None:
        lines.append("no validation data: no evaluation, only the checkpoint 'last'")
    length = f"{plan.total_steps():,} steps of {recipe.optim.images_per_step} images"
    budget = f"{plan.total_images():,} images seen, {plan.epoch_images(0):,} an epoch"
    return [*lines, f"budget: {length}, {budget}"]


def _describe_changes(data: RunData, plan: Plan) -> list[str]:
    augment = data.dataset.augment
    return describe(augment.options, augment.sources, plan.total_images()) if isinstance(augment, Augmentation) else []


def describe_groups(data: RunData) -> str:
    """A line with the groups, how many categories are in each, and where they come from."""
    groups = ", ".join(f"{group.name} {len(group.category_ids)}" for group in data.groups)
    return f"groups (categories): {groups}; from {data.groups_source}"


def data_record(data: RunData) -> dict[str, Any]:
    """The content of ``data.json``: a fingerprint of each input, the training counts and the groups."""
    record: dict[str, Any] = {"schema": 1, "train": _fingerprint(data.train), "val": None}
    if data.val is not None:
        record["val"] = _fingerprint(data.val)
    record["held_out"] = _held_out_record(data)
    record["categories"] = counts_to_plain(data.train.counts)
    record |= {**groups_to_record(data.groups), "groups_source": data.groups_source, "repeat_factors": None}
    if data.factors is not None:
        record["repeat_factors"] = {"source": data.factors.source, "sha256": data.factors.sha256}
    record["notes"] = list(data.notes)
    return record


def _fingerprint(data: DetectionData) -> dict[str, Any]:
    return {
        "annotations": str(data.file.path),
        "sha256": data.file.sha256,
        "images": len(data.paths),
        "instances": int((~data.file.crowd).sum()),
    }


def _held_out_record(data: RunData) -> dict[str, Any] | None:
    """Which images of the training file were held out; ``None`` where all were trained on."""
    if not len(data.held_out):
        return None
    ids = np.sort(data.train.file.image_ids[data.held_out])
    return {"images": len(ids), "image_ids": ids.tolist()}


def check_unchanged(data: RunData) -> None:
    """Refuses annotation files that were written to since they were read: samples come from what is in them now.

    Raises:
        DataError: One holds other bytes than at the start.
    """
    for source in (data.train, data.val):
        if source is not None and not _holds_the_same(source.file):
            raise DataError(
                f"{source.file.path}: was changed while the run read from it; put the file back that the run was "
                "started with, and go on with --resume, from the last checkpoint"
            )


def written_notes(data: RunData) -> tuple[str, ...]:
    """Says which annotation files were written to since they were read, although they hold the same bytes now.

    They may have held others for a while, and nobody can tell that from a file that was only touched.
    """
    files = [source.file for source in (data.train, data.val) if source is not None]
    # one file may be both
    paths = dict.fromkeys(file.path for file in files if _was_written(file) and _holds_the_same(file))
    return tuple(
        f"warning: {path}: was written to or touched while the run read from it, and holds now what it held at the "
        "start; if it held anything else in between, the run may have read that: start it again"
        for path in paths
    )


def _was_written(file: AnnotationFile) -> bool:
    """Whether a mapped file may have changed under the run."""
    now = stamp_of(file.path)
    # unpacked bytes cannot change, and what was moved away or replaced stays mapped
    if not isinstance(file.data, memoryview) or file.stamp is None or now is None or now[:2] != file.stamp[:2]:
        return False
    return now != file.stamp


def _holds_the_same(file: AnnotationFile) -> bool:
    """Whether a mapped file is what it was; one that was only touched is."""
    if not _was_written(file):
        return True
    # beyond the end of a file that was cut off, nothing may be read
    now = stamp_of(file.path)
    return (
        now is not None
        and file.stamp is not None
        and now.size == file.stamp.size
        and hashlib.sha256(file.data).hexdigest() == file.sha256
    )
