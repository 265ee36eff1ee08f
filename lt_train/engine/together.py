"""What several processes have to agree on before they train, and what their run does not share with one process."""

from __future__ import annotations

import json

import msgspec
import torch
import torch.distributed as dist
from torch import nn

from lt_data.versions import PACKAGE, version_of
from lt_train.data.bad_images import BadImages
from lt_train.engine.resume import Begun
from lt_train.engine.state import RunState, val_sha256
from lt_train.processes import Processes
from lt_train.recipe.sections import Recipe
from lt_train.runs.data import RunData


def things_seen(recipe: Recipe, data: RunData, begun: Begun | None = None) -> dict[str, str]:
    """What all processes have to see alike, by what it is called; devices may differ.

    Args:
        recipe: What to do.
        data: Its data.
        begun: The run to go on with, if any.
    """
    return {
        "versions": f"{version_of(PACKAGE)} {torch.__version__}",
        "recipe": json.dumps(recipe.model_copy(update={"device": ""}).to_plain()),
        "training data": f"{data.train.file.sha256} {len(data.dataset)}",
        "validation data": val_sha256(data) or "",
        "checkpoint to go on from": "" if begun is None else f"{begun.path.name} {begun.content.get('done')}",
    }


def share_statistics(state: RunState) -> None:
    """Gives the model to evaluate the batch norms' running statistics of the first process, which are what it saves.

    Each process has statistics of its own images, and all of them are to evaluate the same model. All come here.
    """
    for norm in _batch_norms(state.result) if state.processes.world > 1 else ():
        for buffer in norm.buffers(recurse=False):
            dist.broadcast(buffer, src=0)


def describe_processes(recipe: Recipe, data: RunData, state: RunState) -> list[str]:
    """A line about how the batch is shared, and one about what makes the run another one than that of one process."""
    world, batch = state.processes.world, recipe.optim.batch
    if world == 1:
        return []
    shared = f"processes: {world}, which share the {batch} images of a forward pass"
    apart = [
        *(["batch norms take the statistics of each process's own images"] if _on_batches(state) else []),
        *(["images of several sizes are padded in each process by themselves"] if _has_sizes(recipe, data) else []),
        *(
            [f"each of the {recipe.optim.accumulate} forward passes of a step has divisors of its own"]
            if recipe.optim.accumulate > 1
            else []
        ),
        *(
            [f"what head {recipe.head.name} carries from batch to batch moves at each of them, not once a step"]
            if recipe.optim.accumulate > 1 and state.model.head.carries_state
            else []
        ),
    ]
    if not apart:
        return [shared]
    return [shared, f"note: another number of processes or passes is not the same run: {'; '.join(apart)}"]


def left_out_by_all(bad_images: BadImages | None, processes: Processes) -> list[str]:
    """Lines about the images that any process left out; all processes come here.

    Args:
        bad_images: Those of this process; ``None`` in all of them where one stops a run.
        processes: This process among the others.

    Returns:
        The lines, at the first process; no more than its own at the others.
    """
    if bad_images is None:
        return []
    for part in (processes.gather(msgspec.json.encode(bad_images.lines)) or [])[1:]:
        bad_images.merge(msgspec.json.decode(part, type=dict[str, int]))
    return bad_images.summary()


def _batch_norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _on_batches(state: RunState) -> bool:
    """Whether batch norms go by the statistics of the batch in training."""
    return not state.model.stored_statistics and bool(_batch_norms(state.model))


def _has_sizes(recipe: Recipe, data: RunData) -> bool:
    """Whether images of one forward pass may have several sizes."""
    sizes = data.train.file.image_sizes[data.dataset.rows]
    return len(recipe.model.short_sides) > 1 or bool((sizes != sizes[:1]).any())
