"""What is odd about the data of a run, said before its first step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_data.checks.notes import file_notes
from lt_data.checks.overlap import overlap_notes
from lt_data.counts.repeat_factors import Holdings
from lt_train.data.detection_data import DetectionData
from lt_train.data.sampler_options import RepeatFactorSampler, SamplerOptions
from lt_train.evaluation.truth.notes import truth_notes

if TYPE_CHECKING:
    from lt_data.annotations.file import AnnotationFile
    from lt_train.recipe.sections import Recipe
    from lt_train.runs.data import RunData, ValidationData
    from lt_train.runs.metadata import ChosenFactors


def data_notes(train: DetectionData, val: ValidationData | None) -> tuple[str, ...]:
    """Warnings about training and validation data, one line each; none for sound ones."""
    lines = file_notes(train.file)
    if val is not None:
        lines += truth_notes(val.file, val.truth)
        lines += overlap_notes(train.paths, val.paths, val.file.path.name)
    # validation data that are the training data would say all twice
    return tuple(f"warning: {line}" for line in dict.fromkeys(lines))


def without_effect_notes(recipe: Recipe, train: DetectionData, factors: ChosenFactors | None) -> tuple[str, ...]:
    """Warnings where a number that was published for other data leaves nothing of the method on these.

    Args:
        recipe: Of the run.
        train: What is trained on, less classes and images that are held out.
        factors: How often each image that is trained on is repeated, if it is.
    """
    lines = []
    if factors is not None and recipe.train != "none":
        lines.append(_not_repeated(recipe.sampler, train.file, factors))
    if recipe.train not in ("none", "calibrated"):
        images = [int(count) for count in train.counts.images]
        lines.append(recipe.head.without_effect(images, train.counts.total_images))
    return tuple(f"warning: {line}" for line in lines if line)


def _not_repeated(sampler: SamplerOptions, file: AnnotationFile, factors: ChosenFactors) -> str:
    """Why repeat factors are plain shuffling, and what would change that; empty where they are not."""
    if not isinstance(sampler, RepeatFactorSampler) or (factors.values > 1).any():
        return ""
    shares = Holdings(file).shares(sampler.instance_aware)
    return f"{sampler.without_effect(shares[shares > 0].tolist())} (factors from {factors.source})"


def seen_before_note(data: RunData, unseen: int, source: Path) -> list[str]:
    """A warning if the weights that a run starts from were trained on images that it holds out.

    Args:
        data: Of the run.
        unseen: How many of its held-out images the weights have not seen.
        source: What to call the weights.
    """
    seen = len(data.held_out) - unseen
    if not seen:
        return []
    return [
        f"warning: {source} was trained on {seen:,} of the {len(data.held_out):,} images that data.hold_out holds out, "
        "or may have been: they are not new to this model; train what it starts from with the same data.hold_out"
    ]


def other_training_file(content: Mapping[str, Any], train: DetectionData, source: Path) -> list[str]:
    """A warning if the weights that a run starts from come from another training file than its own.

    Args:
        content: The checkpoint.
        train: The training data of the run.
        source: What to call the checkpoint.
    """
    digest, categories = content.get("train_sha256"), content.get("categories")
    if digest is None or digest == train.file.sha256:
        return []
    there = sum(categories["instances"]) if isinstance(categories, Mapping) and "instances" in categories else None
    instances = "" if there is None else f", {there:,} instances there, {int(train.counts.instances.sum()):,} here"
    return [
        f"warning: {source} was trained on another annotation file than {train.file.path} (sha256 differs{instances}); "
        "this run goes by the counts of its own"
    ]
