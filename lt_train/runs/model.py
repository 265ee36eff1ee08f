"""The model of a recipe, and the one of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lt_data.annotations.category_ids import CategoryIds
from lt_data.counts.categories import CategoryCounts
from lt_data.errors import RecipeError, shown
from lt_data.groups import Group, make_groups
from lt_train.detectors import LongTailDetector, build_detector, initialise_from
from lt_train.detectors.settings import RoISettings
from lt_train.detectors.weight_files import checkpoint_categories
from lt_train.detectors.weights import LoadReport
from lt_train.heads import make_head
from lt_train.randomness import keyed_generator
from lt_train.recipe.paths import check_paths
from lt_train.recipe.sections import Recipe
from lt_train.runs.checkpoint import load_result
from lt_train.runs.data import RunData
from lt_train.runs.notes import other_training_file, seen_before_note


def make_model(
    recipe: Recipe, counts: CategoryCounts, groups: Sequence[Group], *, load_pretrained: bool
) -> LongTailDetector:
    """The recipe's detector with its head, on the CPU.

    Args:
        recipe: Model, head and seed.
        counts: Training counts of labels 1..C.
        groups: Groups of the training data, for a head that makes groups and has none of its own.
        load_pretrained: Load ``model.weights``; not needed when a checkpoint follows.

    Raises:
        DataError: The weights cannot be used.
    """
    if load_pretrained:
        check_paths(recipe, ("model.weights",))
    options = _with_groups(recipe.head_options, groups, counts)
    head = make_head(
        recipe.head.name,
        instance_counts=counts.instances.tolist(),
        image_counts=counts.images.tolist(),
        num_images=counts.total_images or None,
        **options,
    )
    model = build_detector(
        recipe.model.name,
        head,
        weights=recipe.model.weights,
        load_pretrained=load_pretrained,
        own_categories=label_table(counts),
        score_threshold=recipe.model.score_threshold,
        num_detections=recipe.model.num_detections,
        min_size=recipe.model.short_sides,
        max_size=recipe.model.max_size,
        test_min_size=recipe.model.test_short_side,
        test_max_size=recipe.model.test_max_size,
        dcn=recipe.model.dcn,
        roi=RoISettings(recipe.model.pre_nms_topk, recipe.optim.micro_batch, recipe.model.mask_target),
        stage_scores=recipe.model.stage_scores,
        semantic=recipe.model.semantic,
        generator=keyed_generator(recipe.seed, "weights"),
    )
    model.roi_heads.pooled_divisors = recipe.optim.divisors == "batch"
    if recipe.calibration.name != "none":
        model.add_calibration(recipe.calibration.name, **recipe.calibration.model_dump(exclude={"name"}))
    if recipe.second_head.kind != "none":
        generator = keyed_generator(recipe.seed, "second-head")
        model.add_second_head(**recipe.second_head.model_dump(), generator=generator)
    return model


def _with_groups(options: dict[str, Any], groups: Sequence[Group], counts: CategoryCounts) -> dict[str, Any]:
    """Options of a head with the groups as lists of labels, if it takes groups and none were chosen for it alone."""
    if "groups" not in options or options["groups"] is not None or options["edges"] is not None:
        return options
    ids = CategoryIds(counts.category_ids.tolist())
    labels = [ids.to_labels(np.array(group.category_ids, np.int64)).tolist() for group in groups]
    return {**options, "groups": labels}


def names_of_head_groups(recipe: Recipe, groups: Sequence[Group], counts: CategoryCounts) -> tuple[str, ...]:
    """Names of the groups of classes that a recipe's head makes; none where it makes none, or has lists of its own.

    Args:
        recipe: Of a run.
        groups: Groups of its training data.
        counts: Counts of its training data.
    """
    options = recipe.head_options
    if "groups" not in options or options["groups"] is not None:
        return ()
    edges = options["edges"]
    own = groups if edges is None else make_groups(counts.category_ids, counts.instances, edges)
    return tuple(group.name for group in own)


def label_table(counts: CategoryCounts) -> list[tuple[int, str]]:
    """Dataset id and name of labels 1..C."""
    return list(zip(counts.category_ids.tolist(), counts.names, strict=True))


def choose_device(name: str) -> torch.device:
    """The device of a run; ``auto`` is CUDA where there is one.

    Raises:
        RecipeError: The device does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(f"device: got {shown(name)}; allowed are auto, cpu, cuda and cuda:N") from None
    available = device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
    if not available:
        raise RecipeError(f"device: '{name}' is not here ({torch.cuda.device_count()} CUDA devices); use device=auto")
    return device


def resolve_checkpoint(source: Path) -> Path:
    """The ``last`` checkpoint of a run directory, or the file itself."""
    return source / "checkpoints" / "last.pt" if source.is_dir() else source


class FromRun(NamedTuple):
    """A model with the weights of a run.

    Attributes:
        model: On the CPU.
        report: What was loaded.
        notes: Warnings if the weights were trained on other annotations, or on what is held out now.
        unseen: How many of the images that are held out now, the first of them, the weights have not seen either.
    """

    model: LongTailDetector
    report: LoadReport
    notes: tuple[str, ...]
    unseen: int


def model_from_run(recipe: Recipe, data: RunData, source: Path, *, fresh_classifier: bool = False) -> FromRun:
    """A model of the recipe with the weights of a run directory or checkpoint, on the CPU.

    Args:
        recipe: Of the new run.
        data: Of the new run.
        source: The run directory or checkpoint.
        fresh_classifier: Whether the classifier starts anew even if it could be taken over.

    Raises:
        DataError: The checkpoint cannot be read, or a weight is missing, unexpected or of another shape.
    """
    model = make_model(recipe, data.train.counts, data.groups, load_pretrained=False)
    path = resolve_checkpoint(source)
    content = load_result(path)
    report = initialise_from(
        model,
        content["model"],
        own_categories=label_table(data.train.counts),
        source_categories=checkpoint_categories(content, path),
        fresh_classifier=fresh_classifier,
        where=str(path),
    )
    unseen = _unseen(content, data)
    notes = (
        *other_training_file(content, data.train, source),
        *seen_before_note(data, unseen, source),
        *_second_head_note(model, content, source),
    )
    return FromRun(model, report, notes, unseen)


def _unseen(content: Mapping[str, Any], data: RunData) -> int:
    """How many of the images held out here were held out from the weights too; they are the first of their order."""
    if content["train_sha256"] != data.train.file.sha256:
        return 0
    # older versions held nothing out
    return min(len(data.held_out), content.get("unseen", 0))


def _second_head_note(model: LongTailDetector, content: Mapping[str, Any], source: Path) -> list[str]:
    if not any(name.startswith(model.parts("calibrated")) for name in content["model"]):
        return []
    return [f"note: {source} has a second head, which is left out; this run starts from the detector's own"]
