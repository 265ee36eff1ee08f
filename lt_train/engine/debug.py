"""What is kept of a step whose loss or gradient is not finite, so that it can be taken again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from torch import Tensor

from lt_data.errors import LtError
from lt_train.data.plan import Draw, Plan
from lt_train.engine.losses import NotFinite
from lt_train.engine.state import RunState, weights_content
from lt_train.recipe.sections import Recipe
from lt_train.runs.checkpoint import save_checkpoint
from lt_train.runs.data import RunData
from lt_train.runs.directory import RunDir, write_text

SCHEMA: Final = 1
STEP, TENSORS = "step.json", "step.pt"


class KeptDraw(msgspec.Struct, frozen=True):
    """An image of the step and the key of its draws.

    Attributes:
        epoch: Counts from 0.
        position: Place in the epoch.
        row: Row of the training set.
        place: Place in the forward pass, of which images that cannot be read are left out.
        image_id: Dataset id.
        file: The image file.
        label: Class of which alone the objects are trained on, or 0.
    """

    epoch: int
    position: int
    row: int
    place: int
    image_id: int
    file: str
    label: int = 0


class KeptStep(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``step.json``.

    Attributes:
        step: Counts from 0.
        epoch: Likewise.
        processes: How many took the step together.
        found: What was not finite, as the run said.
        batches: The images of each forward pass.
    """

    schema: int = SCHEMA
    step: int
    epoch: int
    processes: int
    found: str
    batches: list[list[KeptDraw]]


def keep_step(run: RunDir, recipe: Recipe, data: RunData, plan: Plan, state: RunState, index: int, found: str) -> Path:
    """Writes the images, their keys, the weights and the recipe of a step that changed no weight.

    Args:
        run: The run directory.
        recipe: Of the run.
        data: Likewise.
        plan: Likewise.
        state: Its model has the weights from before the step.
        index: Of the step, from 0.
        found: What was not finite.

    Returns:
        The directory that it was written to; what an earlier attempt at the step left there is replaced.

    Raises:
        OutputError: It cannot be written.
    """
    step = next(plan.steps(index))
    folder = run.debug / f"step-{index + 1}"
    folder.mkdir(parents=True, exist_ok=True)
    kept_images = [list(_readable(batch, data)) for batch in step.batches]
    pixels = [[image for _, image in batch] for batch in kept_images]
    # the checkpoint holds the recipe too
    content = weights_content(recipe, data, state.model, unseen=state.unseen)
    # the head has taken in the step, and perhaps the next one
    content["model"] = {**content["model"], **state.head_before(index)}
    save_checkpoint(folder / TENSORS, {**content, "images": pixels})
    kept = KeptStep(
        step=index,
        epoch=step.epoch,
        processes=state.processes.world,
        found=found,
        batches=[[draw for draw, _ in batch] for batch in kept_images],
    )
    write_text(folder / STEP, json.dumps(msgspec.to_builtins(kept), indent=2, ensure_ascii=False) + "\n")
    return folder


def _readable(batch: Sequence[Draw], data: RunData) -> Iterator[tuple[KeptDraw, Tensor]]:
    """The images of a forward pass with their pixels, without those that the run left out."""
    for place, draw in enumerate(batch):
        try:
            pixels = data.dataset[draw][0]
        except LtError:
            continue
        file = data.train.paths[data.dataset.rows[draw.row]]
        image_id = data.dataset.image_id(draw.row)
        yield KeptDraw(draw.epoch, draw.position, draw.row, place, image_id, str(file), draw.label), pixels


@contextmanager
def keeping_a_step_that_fails(
    recipe: Recipe, data: RunData, plan: Plan, state: RunState, run: RunDir
) -> Iterator[None]:
    """Around steps: keeps what is needed to take one again whose loss or gradient is not finite, and says so.

    All processes come here with the same step; the first one says it, and none ends before it has written.
    """
    try:
        yield
    except NotFinite as error:
        if not state.processes.is_first:
            # until the first one ends, which says why
            state.processes.wait()
            raise
        line = error.problems[0]
        raise NotFinite(line + _kept(recipe, data, plan, state, run, found=line.partition(";")[0])) from None


def _kept(recipe: Recipe, data: RunData, plan: Plan, state: RunState, run: RunDir, *, found: str) -> str:
    """Keeps the last step; what to do with it. That it cannot be kept does not hide why the run stops."""
    assert state.losses is not None
    try:
        folder = keep_step(run, recipe, data, plan, state, state.losses.step, found)
    except (LtError, OSError) as error:
        return f"; the step could not be kept ({' '.join(str(error).split())})"
    return f"; lt-train replay {folder} takes the step again and says where it begins"
