"""The losses of a model on validation data: those of training, without a gradient and without a trace in the model.

Every draw is keyed by the image and the same in each evaluation, so that the curve moves only because the model does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext

import torch
from torch import Tensor

from lt_data.progress import SILENT
from lt_data.terminal import Bar
from lt_train.data.dataset import Batch, DetectionDataset, make_loader
from lt_train.data.images import as_input, on_device
from lt_train.data.plan import Draw
from lt_train.detectors import LongTailDetector
from lt_train.detectors.trunks.norm import stored_statistics
from lt_train.inference.detect import pack, unpack
from lt_train.memory import inference_advice, named_memory
from lt_train.processes import Processes
from lt_train.recipe.sections import Recipe

# index of the batch, its images, its losses by name
_BatchLosses = tuple[int, int, dict[str, float]]


def validation_losses(
    model: LongTailDetector, dataset: DetectionDataset | None, recipe: Recipe, processes: Processes | None = None
) -> dict[str, float] | None:
    """The mean of every loss over the images, in batches of ``eval.batch`` in the order of the file.

    A loss of a batch is what training would compute of it: its regions are drawn, a head that samples does so, and
    what no trained weight depends on is left out. Batch norms go by their stored statistics.

    Args:
        model: The detector, on its device; left as it was.
        dataset: Samples of the validation data; ``None`` asks for nothing.
        recipe: Batch size and workers.
        processes: This process among others that do their share of the batches.

    Returns:
        ``loss``, their sum, and every loss; ``None`` without a dataset, and in all processes but the first.

    Raises:
        DataError: An image cannot be read, or another process is gone.
    """
    if dataset is None:
        return None
    processes = processes or Processes()
    size, count = recipe.eval.batch, len(dataset)
    batches = [(n, range(n * size, min((n + 1) * size, count))) for n in range(-(-count // size))]
    own = _losses_of(model, dataset, processes.share(batches), recipe, processes)
    parts = processes.gather(pack(own))
    return None if parts is None else _mean([row for part in parts for row in unpack(part, list[_BatchLosses])])


def _losses_of(
    model: LongTailDetector,
    dataset: DetectionDataset,
    batches: Sequence[tuple[int, range]],
    recipe: Recipe,
    processes: Processes,
) -> list[_BatchLosses]:
    draws = [[Draw(epoch=0, position=row, row=row) for row in rows] for _, rows in batches]
    loader = closing(make_loader(dataset, draws, workers=recipe.data.workers))
    found: list[_BatchLosses] = []
    was_training = model.training
    memory = named_memory("validation loss", inference_advice(recipe))
    with memory, loader as loaded, Bar("validation loss") if processes.is_first else nullcontext(SILENT) as bar:
        for (number, rows), batch in zip(batches, loaded, strict=True):
            processes.check()
            losses = _of_batch(model, batch)
            found.append((number, len(rows), {name: float(value) for name, value in losses.items()}))
            bar(len(found), len(batches))
    model.train(was_training)
    return found


def _of_batch(model: LongTailDetector, batch: Batch) -> Mapping[str, Tensor]:
    images, targets = batch
    device = next(model.parameters()).device
    model.train()
    # no inference mode: tensors that a head puts in place of its own would be of no use in training
    with torch.no_grad(), stored_statistics(model), model.head_state_kept():
        losses: Mapping[str, Tensor] = model(
            [as_input(image, device) for image in images], [on_device(target, device) for target in targets]
        )
    return losses


def _mean(rows: Sequence[_BatchLosses]) -> dict[str, float]:
    """Means weighted by the images of each batch, summed in the order of the batches whoever computed them."""
    rows = sorted(rows)
    images = sum(count for _, count, _ in rows)
    names = rows[0][2]
    means = {name: sum(count * losses[name] for _, count, losses in rows) / images for name in names}
    return {"loss": sum(means.values()), **means}
