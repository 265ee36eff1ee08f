"""What is kept of a step whose loss or gradient is not finite, so that it can be taken again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import msgspec

from lt_train.data.plan import Draw, Plan, Step
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
        image_id: Dataset id.
        file: The image file.
    """

    epoch: int
    position: int
    row: int
    image_id: int
    file: str


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
    pixels = [[data.dataset[draw][0] for draw in batch] for batch in step.batches]
    # the checkpoint holds the recipe too
    save_checkpoint(folder / TENSORS, {**weights_content(recipe, data, state.model), "images": pixels})
    kept = KeptStep(
        step=index,
        epoch=step.epoch,
        processes=state.processes.world,
        found=found,
        batches=_kept_draws(step, data),
    )
    write_text(folder / STEP, json.dumps(msgspec.to_builtins(kept), indent=2, ensure_ascii=False) + "\n")
    return folder


def _kept_draws(step: Step, data: RunData) -> list[list[KeptDraw]]:
    dataset = data.dataset

    def kept(draw: Draw) -> KeptDraw:
        file = data.train.paths[dataset.rows[draw.row]]
        return KeptDraw(draw.epoch, draw.position, draw.row, dataset.image_id(draw.row), str(file))

    return [[kept(draw) for draw in batch] for batch in step.batches]
