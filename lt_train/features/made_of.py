"""What cached features depend on: a run may use them if all of it is the same for the run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from lt_data.arrays import BoolArray, IntArray
from lt_data.errors import DataError, RecipeError
from lt_train.data.dataset import DetectionDataset
from lt_train.data.detection_data import DetectionData
from lt_train.detectors import LongTailDetector
from lt_train.detectors.cascade.detector import in_stage, in_stages
from lt_train.detectors.foreign.names import CLASSIFIER, REGRESSOR, UNUSED
from lt_train.detectors.roi_heads import LongTailRoIHeads
from lt_train.features.layout import Manifest
from lt_train.recipe.sections import Recipe

# how the names of the weights begin that come after the features, as a detector of one stage calls them
AFTER = (f"{CLASSIFIER}.", "roi_heads.head.", "roi_heads.calibration.", "roi_heads.mask_")
WEIGHTS = "frozen weights"
# keys that choose what a digest is of, whose difference it does not show
CHOOSING = {
    "images": ("data.hold_out", "data.classes_below", "data.keep_empty"),
    "objects": ("data.hold_out", "data.classes_below"),
}
# characters of a digest that a message shows
SHOWN = 12


def refuse_second_heads(recipe: Recipe) -> None:
    """Refuses a method with a head of its own beside the detector's.

    Raises:
        RecipeError: It has one.
    """
    if recipe.second_head.kind != "none":
        raise RecipeError(
            f"model {recipe.model.name} with method {recipe.method}: its second head looks at the pooled feature maps, "
            "which are not kept; train, calibrate and evaluate it from images, without lt-train cache and "
            "--from-features"
        )


def refuse_other_detectors(recipe: Recipe) -> None:
    """Refuses a detector or a geometry whose features cannot be kept.

    Raises:
        RecipeError: It has a second head, or training draws among several sizes.
    """
    refuse_second_heads(recipe)
    sides = recipe.model.short_sides
    if len(sides) > 1:
        raise RecipeError(
            f"model.min_size, model.min_size_range: got {len(sides)} short sides from {min(sides)} to {max(sides)}, of "
            "which training draws one for each image; features are kept in one size, set for example "
            f"model.min_size_range=null model.min_size={recipe.model.test_short_side}; what starts from a run of "
            "several sizes is trained from images"
        )


def made_of(
    model: LongTailDetector, recipe: Recipe, data: DetectionData, dataset: DetectionDataset | None
) -> dict[str, str]:
    """What the features of a run's images depend on, by its name.

    Args:
        model: The detector.
        recipe: Of the run.
        data: Its training or validation data.
        dataset: The samples of the training data; ``None`` for validation data.
    """
    rows = np.arange(len(data.file.image_ids)) if dataset is None else dataset.rows
    found = {
        "detector": recipe.model.name,
        "annotation file": data.file.sha256,
        "images": _digest(data.file.image_ids[rows]),
        "image reading": f"data.image_range={recipe.data.image_range} data.exif={recipe.data.exif}",
        "size of images": _size(recipe, "testing" if dataset is None else "training"),
        "proposals": _proposals(model, "testing" if dataset is None else "training"),
    }
    if dataset is not None:
        stages = model.roi_heads.of_stages
        sampler = stages[0].fg_bg_sampler
        rows_of_objects, labels = dataset.pairs()
        found["objects"] = _digest(rows_of_objects, labels, data.regions)
        found["matching"] = ", then ".join(_matching(stage) for stage in stages)
        found["regions drawn"] = f"{sampler.batch_size_per_image}, a share of {sampler.positive_fraction:g} foreground"
    # what else differs explains other weights
    return {**found, WEIGHTS: weights_digest(model.state_dict(), after_features(model))}


def after_features(model: LongTailDetector) -> tuple[str, ...]:
    """How the names of a detector's weights begin that come after the features.

    The regressors of a cascade come before them but for the last: they say what the next stage looks at.
    """
    stages = len(model.roi_heads.of_stages)
    if stages == 1:
        return (*AFTER, f"{REGRESSOR}.")
    return ("roi_heads.calibration.", *in_stages(*AFTER), in_stage(f"{REGRESSOR}.", stages - 1))


def weights_digest(state: Mapping[str, Tensor], after: tuple[str, ...]) -> str:
    """sha256 of all weights that features depend on, with their names, types and shapes.

    Args:
        state: Of the detector.
        after: How the names of the others begin.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.startswith(after) or name.endswith(UNUSED):
            continue
        values = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def _matching(stage: LongTailRoIHeads) -> str:
    matcher = stage.proposal_matcher
    return f"foreground from IoU {matcher.high_threshold:g}, background below {matcher.low_threshold:g}"


def _size(recipe: Recipe, mode: str) -> str:
    """Short and longest side in pixels."""
    model = recipe.model
    if mode == "training":
        return f"short side {model.short_sides[0]}, at most {model.max_size}"
    return f"short side {model.test_short_side}, at most {model.test_max_size or model.max_size}"


def _proposals(model: LongTailDetector, mode: str) -> str:
    """How many proposals there are, and how they are chosen."""
    rpn = model.rpn
    limits = f"{rpn._pre_nms_top_n[mode]} before and {rpn._post_nms_top_n[mode]} after NMS"
    return f"{limits} at {rpn.nms_thresh:g}, objectness above {rpn.score_thresh:g}"


def _digest(*columns: IntArray | BoolArray) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def check_same(where: str, manifest: Manifest, now: Mapping[str, str]) -> None:
    """Refuses features that are not those of a run.

    Args:
        where: The cache, for messages.
        manifest: Of the cache.
        now: What the features of the run depend on.

    Raises:
        DataError: Something differs; one line each.
    """
    problems = [
        f"{where}: made with {name} {_short(manifest.made_of.get(name))}, the run has {_short(value)}; "
        f"{_fix(name, manifest)}"
        for name, value in now.items()
        if manifest.made_of.get(name) != value
    ]
    # the others follow from the first: other objects from another file
    if problems:
        raise DataError(problems[:1])


def _fix(name: str, manifest: Manifest) -> str:
    """What to do about a difference."""
    if name == WEIGHTS:
        return f"start from the run of the features (--init-from {manifest.made_by}), or make features of the run"
    if name in CHOOSING and manifest.part == "train":
        return (
            f"set {', '.join(CHOOSING[name])} as the run of the features has them, or make features of the run, with "
            "lt-train cache"
        )
    return "make features of the run, with lt-train cache"


def _short(value: str | None) -> str:
    if value is None:
        return "none"
    return f"sha256 {value[:SHOWN]}..." if len(value) == 64 and value.isalnum() else value
