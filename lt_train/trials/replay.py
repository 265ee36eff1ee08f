"""Taking a step again whose loss or gradient was not finite, to find where that begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from lt_data.counts.categories import counts_from_plain
from lt_data.errors import DataError
from lt_train.data.dataset import Sample
from lt_train.data.images import as_input, on_device
from lt_train.data.plan import Draw
from lt_train.detectors import LongTailDetector, set_trainable
from lt_train.engine.debug import STEP, TENSORS, KeptDraw, KeptStep
from lt_train.launch import refuse_several
from lt_train.recipe.load import resolved_recipe
from lt_train.recipe.sections import Recipe
from lt_train.runs.checkpoint import load_checkpoint
from lt_train.runs.compute import prepare
from lt_train.runs.content import load_weights_into
from lt_train.runs.data import RunData, load_run_data
from lt_train.runs.model import choose_device, make_model


def replay(folder: Path, *, device: str | None = None) -> Iterator[str]:
    """Lines about a step that is taken again, each as soon as it is known. Nothing is written.

    Args:
        folder: What a run kept of the step: ``RUN/debug/step-N``.
        device: Device; the recipe's unless given.

    Raises:
        DataError: The folder, its files or the training data cannot be used.
        RecipeError: There is no such device.
    """
    refuse_several("lt-train replay")
    kept = _read(folder)
    content = load_checkpoint(folder / TENSORS)
    recipe = resolved_recipe(content["recipe"], where=str(folder / TENSORS))
    data = load_run_data(recipe)
    if data.train.file.sha256 != content["train_sha256"]:
        raise DataError(f"{data.train.file.path}: is not the file of the run (sha256 differs); put that one back")
    where = choose_device(device or recipe.device)
    yield f"step {kept.step + 1}, epoch {kept.epoch + 1}, by {kept.processes} processes: {kept.found}"
    damaged = [name for name, value in content["model"].items() if not _is_finite(value)]
    if damaged:
        yield f"weights that are not finite before the step: {len(damaged)}, {damaged[0]} the first"
    model = _model(recipe, data, content, folder / TENSORS, where)
    batches = _batches(kept, data, content["images"])
    for number, (samples, changed) in enumerate(batches):
        yield from (f"{name}: other pixels than in the run" for name in changed)
        if not samples:
            yield "no image of this forward pass could be read"
            continue
        yield from _look_at(model, samples, kept.batches[number], where)


def _read(folder: Path) -> KeptStep:
    path = folder / STEP
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeptStep)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); give RUN/debug/step-N of a run that stopped"
        ) from None
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: is not what a run keeps of a step ({error}); give RUN/debug/step-N") from None


def _model(
    recipe: Recipe, data: RunData, content: dict[str, Any], path: Path, device: torch.device
) -> LongTailDetector:
    counts = counts_from_plain(content["categories"])
    model = make_model(recipe, counts, data.groups, load_pretrained=False)
    load_weights_into(model, content["model"], path)
    set_trainable(model, recipe.train)
    return prepare(model, recipe.compute, device).train()


def _batches(kept: KeptStep, data: RunData, pixels: Any) -> Iterator[tuple[list[Sample], list[str]]]:
    """The samples of each forward pass with the pixels that the run saw, and the files that have others now."""
    for draws, images in zip(kept.batches, pixels, strict=True):
        samples, changed = [], []
        for draw, image in zip(draws, images, strict=True):
            now, target = data.dataset[Draw(draw.epoch, draw.position, draw.row, draw.label)]
            target["place"] = draw.place
            changed += [] if torch.equal(now, image) else [draw.file]
            samples.append((image, target))
        yield samples, changed


def _look_at(
    model: LongTailDetector, samples: Sequence[Sample], draws: Sequence[KeptDraw], device: torch.device
) -> Iterator[str]:
    """Lines about one forward and backward pass, and about each of its images alone."""
    with watching(model) as first:
        losses = _losses(model, samples, device)
        wrong = [name for name, value in losses.items() if not _is_finite(value)]
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [name for name, p in model.named_parameters() if p.grad is not None and not _is_finite(p.grad)]
    model.zero_grad(set_to_none=True)
    if not wrong and not gradients:
        yield f"{len(samples)} images: all losses and gradients are finite here"
        return
    if wrong:
        yield f"losses that are not finite: {', '.join(wrong)}"
    if gradients:
        yield f"gradients that are not finite: {len(gradients)} weights, {gradients[-1]} the first on the way back"
    yield f"first module whose output is not finite: {first()}"
    alone = [draw for draw, sample in zip(draws, samples, strict=True) if not _is_sound(model, sample, device)]
    yield f"images that do so alone: {len(alone)} of {len(draws)}"
    yield from (f"  image {draw.image_id}: {draw.file}" for draw in alone)


def _losses(model: LongTailDetector, samples: Sequence[Sample], device: torch.device) -> dict[str, Tensor]:
    with model.head_state_kept():
        found: dict[str, Tensor] = model(
            [as_input(image, device) for image, _ in samples],
            [on_device(target.copy(), device) for _, target in samples],
        )
    return found


def _is_sound(model: LongTailDetector, sample: Sample, device: torch.device) -> bool:
    losses = _losses(model, [sample], device)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    sound = all(map(_is_finite, losses.values())) and all(
        p.grad is None or _is_finite(p.grad) for p in model.parameters()
    )
    model.zero_grad(set_to_none=True)
    return sound


@contextmanager
def watching(model: nn.Module) -> Iterator[Callable[[], str]]:
    """Around a forward pass: gives a function that names the first module whose output was not finite.

    Only modules without others in them are looked at; what the losses do by themselves is none of them.
    """
    found: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not all(map(_is_finite, _tensors(output))):
                came = "its input was finite" if all(map(_is_finite, _tensors(inputs))) else "its input was not"
                found.append(f"{name} ({came})")

        return hook

    handles = [
        module.register_forward_hook(look(name)) for name, module in model.named_modules() if not any(module.children())
    ]
    try:
        yield lambda: found[0] if found else "none; the losses or the way back make it"
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or not value.is_floating_point() or bool(value.isfinite().all())
