"""``lt-train init``: reads data of one's own and writes a recipe for it and for this machine. Read ``draft_recipe``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lt_data.dataset.names import GROUPS, annotations_path
from lt_data.errors import RecipeError
from lt_data.files.writing import check_output_file, write_whole
from lt_data.groups import make_groups
from lt_data.progress import SILENT, Progress
from lt_train.detectors.table import named_detector
from lt_train.drafting.bounds import log_spaced_bounds
from lt_train.drafting.choices import (
    Choice,
    Suggestion,
    choose_data,
    choose_model,
    choose_training,
    suggest_method,
    wants_masks,
)
from lt_train.drafting.facts import Facts, gather_facts
from lt_train.drafting.sources import Sources, find_sources
from lt_train.drafting.start_weights import Start, choose_start
from lt_train.drafting.text import commented, content_of
from lt_train.recipe.load import make_recipe
from lt_train.recipe.sections import Files
from lt_train.runs.data import load_validation
from lt_train.runs.live import duration
from lt_train.runs.model import choose_device
from lt_train.sizing.batch import fitting_batch
from lt_train.sizing.step_cost import StepCost, step_cost, whole_memory


@dataclass(frozen=True)
class Draft:
    """A recipe for data of one's own.

    Attributes:
        text: The file, with comments; the same for the same data and machine.
        notes: What to know of it, a line each; how long it takes is measured, so it differs from time to time.
    """

    text: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Wishes:
    """What is not left to be chosen.

    Attributes:
        val: Validation annotations; beside the training file unless given.
        val_images: Their images; those of training unless given.
        model: ``model.name``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        download: Whether weights may be downloaded when the run starts.
    """

    val: Path | None = None
    val_images: Path | None = None
    model: str | None = None
    device: str = "auto"
    download: bool = False


def write_draft(
    data: Path,
    images: Path,
    out: Path,
    *,
    wishes: Wishes | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Draft:
    """Writes a recipe for data of one's own, see :func:`draft_recipe`.

    Args:
        data: As there.
        images: As there.
        out: The file to write; its name ends in ``.yaml`` or ``.yml``.
        wishes: What is not left to be chosen.
        force: Replace a file that exists.
        progress: As there.

    Raises:
        LtError: As :func:`draft_recipe`, or the file exists or cannot be written.
    """

    def check() -> None:
        check_output_file(out, force=force, suffixes=(".yaml", ".yml"))

    check()
    draft = draft_recipe(data, images, folder=out.parent, name=str(out), wishes=wishes, progress=progress)
    check()
    write_whole(out, draft.text.encode("utf-8"))
    return draft


def draft_recipe(
    data: Path,
    images: Path,
    *,
    folder: Path = Path(),
    name: str = "my.yaml",
    wishes: Wishes | None = None,
    progress: Progress = SILENT,
) -> Draft:
    """A recipe for data of one's own and this machine, every value with its reason; it loads as it is.

    Args:
        data: A folder that ``lt-data split`` wrote, a dataset directory, or one annotation file.
        images: The folder that file names are relative to.
        folder: Where the recipe is going to lie: its paths are relative to it.
        name: How the commands in its first lines call it.
        wishes: What is not left to be chosen.
        progress: Told of each long step.

    Raises:
        DataError: The data cannot be used.
        RecipeError: There is no such detector or device.
        OutOfMemory: Not even one image fits.
    """
    wishes = wishes or Wishes()
    sources = find_sources(data, wishes.val)
    progress.step(f"reading {sources.train}")
    facts = gather_facts(sources.train, images, choose_device(wishes.device))
    val_images = wishes.val_images or images
    start = _start(facts, wishes)
    if sources.val is not None:
        files = Files(annotations=sources.val, images=val_images)
        masks = named_detector(start.detector).masks
        load_validation(files, facts.train.counts, masks=masks, reading=facts.train.reading)
    choices = [
        *_files(sources, images, val_images, folder),
        *choose_data(facts, own_groups=(sources.train / GROUPS).is_file()),
        *choose_model(facts, start, asked=wishes.model is not None),
        *choose_training(facts, start.detector),
        Choice("device", wishes.device, "a GPU where there is one" if wishes.device == "auto" else "as asked for"),
    ]
    progress.step(f"trying a step of {start.detector} with one image")
    cost = _cost(choices, facts)
    choices = _with_batch(choices, cost, facts)
    # what is written loads
    make_recipe(content_of(choices), where=name)
    suggestion = suggest_method(facts.train.counts)
    text = commented(choices, _opening(facts, name, suggestion, sources))
    return Draft(text, tuple(_notes(choices, facts, start, sources, cost)))


def _start(facts: Facts, wishes: Wishes) -> Start:
    masks = wants_masks(facts)
    if wishes.model is not None:
        masks = named_detector(wishes.model).masks
        if masks and not facts.mask_share:
            raise RecipeError(
                f"--model: {wishes.model} predicts masks, and {facts.train.file.path} has none that can be trained on; "
                "choose a faster_rcnn_..."
            )
    return choose_start(gpu=facts.gpu, masks=masks, download=wishes.download, detector=wishes.model)


def _files(sources: Sources, images: Path, val_images: Path, folder: Path) -> list[Choice]:
    kind = "the dataset directory" if sources.train.is_dir() else "what is trained on"
    choices = [
        Choice("data.train.annotations", _relative(sources.train, folder), f"{kind}; relative to this file"),
        Choice("data.train.images", _relative(images, folder), "the folder that file names are relative to"),
    ]
    if sources.val is None:
        return [*choices, Choice("data.val", None, f"{sources.why}; without it there is no AP and no best checkpoint")]
    return [
        *choices,
        Choice("data.val.annotations", _relative(sources.val, folder), sources.why),
        Choice("data.val.images", _relative(val_images, folder), "likewise"),
    ]


def _relative(path: Path, folder: Path) -> str:
    """The path from a folder, if it leads there; links may make it lead elsewhere."""
    relative = os.path.relpath(path, folder)
    leads = os.path.realpath(os.path.join(folder, relative)) == os.path.realpath(path)
    return relative if leads else str(path.absolute())


def _cost(choices: Sequence[Choice], facts: Facts) -> StepCost:
    counts, given = facts.train.counts, {choice.key: choice.value for choice in choices}
    edges = given["data.groups"] or log_spaced_bounds(counts.instances)
    groups = make_groups(counts.category_ids, counts.instances, edges)
    return step_cost(make_recipe(content_of(choices)), counts, groups, facts.device, timed=True)


def _with_batch(choices: Sequence[Choice], cost: StepCost, facts: Facts) -> list[Choice]:
    """The choices with the batch in front of that which the learning rate is meant for."""
    found = fitting_batch(cost, images=facts.images, memory=whole_memory(facts.device), gpu=facts.gpu)
    place = next(i for i, choice in enumerate(choices) if choice.key == "optim.base_batch")
    return [*choices[:place], Choice("optim.batch", found.images, found.why), *choices[place:]]


def _opening(facts: Facts, name: str, suggestion: Suggestion, sources: Sources) -> list[str]:
    counts = facts.train.counts
    machine = "with a GPU" if facts.gpu else f"without a GPU, {facts.cores} cores"
    lines = [
        f"Written by lt-train init for {facts.images:,} images with {int(facts.train.usable.sum()):,} objects of "
        f"{len(counts.names):,} classes ({annotations_path(sources.train).name}), on a machine {machine}.",
        "",
        f"lt-train fit {name} --out runs/base",
    ]
    if suggestion.method != "softmax":
        method = suggestion.method
        lines.append(f"lt-train fit {name} method={method} --init-from runs/base --out runs/{method}")
    return [*lines, f"Method: {suggestion.why}. lt-train methods lists all."]


def _notes(choices: Sequence[Choice], facts: Facts, start: Start, sources: Sources, cost: StepCost) -> list[str]:
    given = {choice.key: choice.value for choice in choices}
    notes = []
    if start.weights == "none":
        notes.append(
            f"warning: model.weights=none: {start.why}; from random weights it takes very many images and epochs"
        )
    if sources.val is None:
        notes.append(f"warning: validation data is {sources.why}")
    epoch = cost.seconds * facts.images
    return [
        *notes,
        f"an epoch of {facts.images:,} images takes about {duration(epoch)} here, all {given['schedule.epochs']} "
        f"about {duration(epoch * given['schedule.epochs'])}, without reading images and evaluation (measured: one "
        f"image of {cost.width} x {cost.height} pixels, forward and backward, {cost.seconds:.2f} s)",
    ]
