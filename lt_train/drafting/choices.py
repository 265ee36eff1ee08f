"""The choices of a first recipe, each with a line of reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from lt_data.counts.categories import CategoryCounts
from lt_data.groups import make_groups
from lt_train.drafting.bounds import log_spaced_bounds, spread
from lt_train.drafting.facts import Facts
from lt_train.drafting.start_weights import Start
from lt_train.recipe.step_sections import OptimSection

# images that a first training sees, where they are not too few or too many
SEEN_ON_GPU, SEEN_ON_CPU = 40_000, 2_000
# pixels of the short side on a processor, and of an object on the finest map of a small detector (stride 8)
LEAST_SIDE, SIDE, MOST_SIDE, OBJECT = 224, 320, 512, 24
# trunks that a processor trains
FOR_CPU: Final = ("_lite0", "_small", "_mobilenet_v3_large_fpn", "_r18_fpn")
STEP: Final = 32
MOST_WORKERS: Final = 4
# how many times the rarest class the most frequent one has, from which on a method for long tails is worth a run
LONG_TAIL: Final = 10
# share of the objects with a mask from which on masks are trained
ENOUGH_MASKS: Final = 0.95


class Choice(NamedTuple):
    """A value of a recipe and why it has it.

    Attributes:
        key: Dotted key.
        value: As in a recipe.
        why: One line.
    """

    key: str
    value: Any
    why: str


def wants_masks(facts: Facts) -> bool:
    """Whether the data has masks to train on."""
    return facts.mask_share >= ENOUGH_MASKS


def choose_data(facts: Facts, *, own_groups: bool) -> Iterator[Choice]:
    """Groups, workers, and how images are read.

    Args:
        facts: Of the data.
        own_groups: Whether the dataset directory has groups.
    """
    counts = facts.train.counts
    if own_groups:
        yield Choice("data.groups", None, "those of the dataset directory, in its groups.json")
    else:
        bounds = log_spaced_bounds(counts.instances)
        yield Choice("data.groups", list(bounds), _of_bounds(counts, bounds))
    if facts.train.reading.exif == "apply":
        yield Choice("data.exif", "apply", "the sizes in the file are those of the turned pictures")
    if facts.gpu:
        workers = max(0, min(MOST_WORKERS, facts.cores - 1))
        yield Choice("data.workers", workers, f"{facts.cores} cores: they load images while the GPU computes")
    else:
        yield Choice("data.workers", 0, "the processor computes: a process that loads images would take its cores")


def _of_bounds(counts: CategoryCounts, bounds: tuple[int, ...]) -> str:
    groups = make_groups(counts.category_ids, counts.instances, bounds)
    there = counts.instances[counts.instances > 0]
    sizes = ", ".join(f"{len(group.category_ids)} in {group.name}" for group in groups)
    without = len(counts.instances) - len(there)
    none = f", {without} of them without any" if without else ""
    return f"classes by their training instances, {there.min():,} to {there.max():,}{none}: {sizes}"


def choose_model(facts: Facts, start: Start, *, asked: bool) -> Iterator[Choice]:
    """Detector, weights, sizes and test settings."""
    yield Choice("model.name", start.detector, "as asked for" if asked else _of_model(facts))
    yield Choice("model.weights", start.weights, start.why)
    yield from _sizes(facts, start.detector)
    threshold = 0.01 if facts.classes <= 20 else 0.001 if facts.classes < 500 else 0.0001
    yield Choice(
        "model.score_threshold", threshold, f"{facts.classes} classes share a score of 1, and rare ones score low"
    )
    most = 100 if facts.classes <= 100 else 300
    detections = max(most, math.ceil(2 * facts.most_objects / 100) * 100)
    yield Choice(
        "model.num_detections",
        detections,
        f"an image holds {facts.most_objects} objects at most, and each may be found as several classes",
    )


def _of_model(facts: Facts) -> str:
    if wants_masks(facts):
        masks = "with masks, which the file has"
    elif facts.mask_share > 0:
        masks = f"boxes alone: {100 * facts.mask_share:.0f} % of the objects have a mask"
    else:
        masks = "boxes alone: the file has no masks that can be trained on"
    where = "what papers compare, for a GPU" if facts.gpu else "small enough for a processor: there is no GPU here"
    return f"{where}; {masks}"


def _sizes(facts: Facts, detector: str) -> Iterator[Choice]:
    if not detector.endswith(FOR_CPU):
        yield Choice("model.min_size", [800], "what these detectors are published with")
        yield Choice("model.max_size", 1333, "likewise")
        return
    wanted = min(facts.short_side or SIDE, SIDE)
    for_objects = OBJECT / facts.object_share if facts.object_share else 0
    side = _rounded(min(MOST_SIDE, max(LEAST_SIDE, wanted, for_objects)))
    share = f"half of the objects are larger than {facts.object_share * side:.0f} pixels then"
    why = f"images have {facts.short_side:.0f}; {share}" if facts.short_side else share
    yield Choice("model.min_size", [side], f"pixels of the short side: {why}")
    yield Choice("model.max_size", _rounded(side * min(2.0, facts.aspect)), "the shape that half of the images have")


def _rounded(side: float) -> int:
    return max(STEP, math.ceil(side / STEP) * STEP)


def choose_training(facts: Facts, detector: str) -> Iterator[Choice]:
    """Learning rate and schedule."""
    small = detector.endswith(("_lite0", "_small"))
    base, clip = (2, 10.0) if small else (16, 35.0)
    rate = OptimSection().lr
    yield Choice(
        "optim.base_batch", base, f"images per step that optim.lr, {rate:g} unless set, is meant for: it scales"
    )
    yield Choice("optim.clip", clip, "bounds the gradient of a step with odd images")
    if not facts.gpu:
        yield Choice("compute.channels_last", True, "faster on a processor")
    seen, least, most = (SEEN_ON_GPU, 12, 60) if facts.gpu else (SEEN_ON_CPU, 8, 40)
    epochs = min(most, max(least, math.ceil(seen / facts.images)))
    yield Choice("schedule.epochs", epochs, f"of {facts.images:,} images: {epochs * facts.images:,} are seen")
    decay = sorted({max(1, round(epochs * 2 / 3)), max(1, round(epochs * 11 / 12))})
    yield Choice("schedule.decay", decay, "epochs after which the rate is a tenth: at two thirds, and near the end")
    yield Choice("schedule.warmup", "auto", "a tenth of the run, 500 steps at most")


class Suggestion(NamedTuple):
    """A method to try beside the baseline.

    Attributes:
        method: Its name; ``softmax`` where the baseline will do.
        why: One line.
    """

    method: str
    why: str


def suggest_method(counts: CategoryCounts) -> Suggestion:
    """What to train after the baseline."""
    times, there = spread(counts.instances), counts.instances[counts.instances > 0]
    has = f"the most frequent class has {there.max():,} instances, the rarest {there.min():,}"
    if times >= LONG_TAIL and len(there) > 1:
        return Suggestion("bags", f"{has}: {times:,.0f} times as many, so rare classes are compared among themselves")
    return Suggestion("softmax", f"{has}: no long tail, the baseline will do")
