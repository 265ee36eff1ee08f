"""The changing state of a run: how it starts, what a checkpoint of it holds, how it is put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lt_data.counts.categories import counts_to_plain
from lt_data.errors import RecipeError
from lt_train.data.bad_images import BadImages
from lt_train.data.target import MaskForm
from lt_train.detectors import LongTailDetector, set_trainable
from lt_train.detectors.table import named_detector
from lt_train.detectors.weights import LoadReport
from lt_train.engine.losses import Losses, TrainingStopped
from lt_train.engine.optim import make_optimizer
from lt_train.features.training import KnownTraining
from lt_train.processes import Processes
from lt_train.recipe.methods import METHODS
from lt_train.recipe.sections import Recipe
from lt_train.runs.compute import prepare
from lt_train.runs.data import RunData, check_unchanged
from lt_train.runs.model import make_model, model_from_run

# layers that a message names
FEW = 3
# buffers are each process's own between two forward passes; PyTorch renames the option
_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in signature(DistributedDataParallel).parameters else ""
OWN_BUFFERS: Any = {_BUFFERS or "broadcast_buffers": False}


@dataclass
class RunState:
    """Everything that changes during a run.

    Attributes:
        model: The detector that is trained, on its device.
        optimizer: SGD over its trainable parameters.
        scaler: Scales the loss where gradients are fp16; does nothing elsewhere.
        ema: Average of the model over the steps, or ``None``.
        losses: Of the last step, on their way.
        done: Optimiser steps taken.
        best: Best figure of an evaluation so far (``eval.select``), or ``None``.
        best_step: Its step.
        waited: Evaluations since then.
        evaluated: The last step whose evaluation ended.
        saved: The step of the newest whole checkpoint, or ``None`` if there is none yet.
        last_is_whole: Whether what the file ``last`` holds may be kept as ``previous``.
        processes: This process among those that train together; all of their states are equal.
        trained: What is called for losses: the model, or what averages its gradients over the processes.
        masks: What of the instances' masks targets hold.
        stuff: Whether targets hold a stuff map.
        bad_images: Images that this process left out since it started.
        unseen: How many of the held-out images, the first of them, neither this run nor one it came from has seen.
        features: What the run is trained from in place of images, or ``None``.
        heads: What the head carried before each of the last two steps, by their index.
    """

    model: LongTailDetector
    optimizer: torch.optim.SGD
    scaler: GradScaler = field(default_factory=lambda: GradScaler(enabled=False))
    ema: AveragedModel | None = None
    losses: Losses | None = None
    done: int = 0
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    evaluated: int = 0
    saved: int | None = None
    last_is_whole: bool = True
    notes: list[str] = field(default_factory=list)
    processes: Processes = field(default_factory=Processes)
    masks: MaskForm = "none"
    stuff: bool = False
    bad_images: BadImages | None = None
    unseen: int = 0
    features: KnownTraining | None = None
    trained: nn.Module = field(init=False)
    heads: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.trained = averaging_gradients(self.model, self.processes)

    def remember_head(self, step: int) -> None:
        """Keeps what the head carries before a step; that a step went wrong is known after the next one has begun."""
        if self.model.head.carries_state:
            self.heads = {i: kept for i, kept in self.heads.items() if i == step - 1}
            self.heads[step] = self.model.head_state()

    def head_before(self, step: int) -> dict[str, Tensor]:
        """What the head carried before a step, by the names of the model; empty where that is what it has now."""
        return self.heads.get(step, {})

    @contextmanager
    def gradients_stay(self) -> Iterator[None]:
        """Around a forward and backward pass after which gradients are not averaged yet: others follow."""
        with self.trained.no_sync() if isinstance(self.trained, DistributedDataParallel) else nullcontext():
            yield

    @property
    def result(self) -> LongTailDetector:
        """The model to evaluate and to keep: the average where there is one."""
        if self.ema is None:
            return self.model
        average: Any = self.ema.module
        return cast(LongTailDetector, average)


def averaging_gradients(model: LongTailDetector, processes: Processes) -> nn.Module:
    """The model with gradients that are averaged over the processes; itself where there is one.

    On a processor the gradient of each weight is summed by itself, so that a run that goes on has the bits of one that
    was not stopped: PyTorch sorts gradients into other buckets after the first backward pass, and the order in which
    three and more processes add up hangs on the place in a bucket. On GPUs the buckets are summed.

    Args:
        model: On its device.
        processes: All processes, which come here together.
    """
    if processes.world == 1:
        return model
    shared = DistributedDataParallel(model, **OWN_BUFFERS)
    if next(model.parameters()).device.type == "cpu":
        # PyTorch looks at annotations, which are text here; a lambda has none
        shared.register_comm_hook(processes.world, lambda world, bucket: _mean_of_each_weight(world, bucket))
    return shared


def _mean_of_each_weight(world: int, bucket: Any) -> Future[Tensor]:
    """The gradients of a bucket, averaged over the processes one by one; in the form that PyTorch calls."""
    for gradient in bucket.gradients():
        dist.all_reduce(gradient)
    done: Future[Tensor] = Future()
    done.set_result(bucket.buffer().div_(world))
    return done


def start_state(
    recipe: Recipe,
    data: RunData,
    device: torch.device,
    *,
    init_from: Path | None,
    resume: bool,
    processes: Processes | None = None,
) -> RunState:
    """A model with its first weights and an optimiser over what is trained.

    Args:
        recipe: What to do.
        data: Its data.
        device: Of this process.
        init_from: A run directory or checkpoint to start from.
        resume: Whether everything is to be put back from a checkpoint.
        processes: This process among those that train together.

    Raises:
        DataError: The weights cannot be used.
        RecipeError: Nothing is trained, or a layer starts anew that must not.
    """
    if init_from is not None and not resume:
        taken = model_from_run(recipe, data, init_from, fresh_classifier=recipe.head.fresh_classifier)
        model, report, unseen = taken.model, taken.report, taken.unseen
        notes = [f"weights from {init_from}; newly initialised: {_fresh(report)}", *taken.notes]
    else:
        model = make_model(recipe, data.train.counts, data.groups, load_pretrained=not resume)
        report, notes = model.load_report, [] if resume else _first_notes(recipe, model)
        unseen = len(data.held_out)
    if not set_trainable(model, recipe.train):
        raise RecipeError(
            f"train: '{recipe.train}' trains nothing and there is no calibration; choose what to train, or what to fit"
        )
    if not resume:
        where = f"weights from {init_from}" if init_from is not None else f"model.weights={recipe.model.weights}"
        _check_classifier(recipe, model, report, where)
        _check_fresh_layers(recipe, model, report, where)
        _check_random_trunk(recipe, model, report, where)
        notes += _counted_as_one(recipe, model)
        notes += _started_second_head(recipe, model)
    check_shared_head(recipe, model, processes or Processes())
    prepare(model, recipe.compute, device)
    return RunState(
        model,
        _at_rest(make_optimizer(model.parameters(), recipe.optim)),
        GradScaler(device.type, enabled=recipe.compute.precision == "fp16"),
        _average(model, recipe.optim.ema),
        notes=notes,
        processes=processes or Processes(),
        masks=data.dataset.masks,
        unseen=unseen,
        stuff=data.dataset.stuff is not None,
    )


def _counted_as_one(recipe: Recipe, model: LongTailDetector) -> list[str]:
    """Says that classes without any count as having one, where the head's formula has counts."""
    head = model.head
    counts = head.counts.images if head.goes_by == "images" else head.counts.instances
    empty = sum(count == 0 for count in counts or ()) if head.goes_by else 0
    what = f"{head.goes_by} in training count as having one in the formula of head {recipe.head.name}"
    return [f"note: {empty} classes without {what}"] if empty else []


def _started_second_head(recipe: Recipe, model: LongTailDetector) -> list[str]:
    """Lets a second head begin, and says which classes it is going to score."""
    if model.second_head is None:
        return []
    model.start_second_head()
    kind, below = recipe.second_head.kind, recipe.second_head.below
    number, classes = int(model.second_head.tail.sum()), model.head.num_classes
    if not number:
        return [f"warning: second_head.below: no class has fewer than {below} training instances; it scores nothing"]
    return [f"second head {kind}: scores the {number} of {classes} classes with fewer than {below} training instances"]


def check_shared_head(recipe: Recipe, model: LongTailDetector, processes: Processes) -> None:
    """Refuses a head that draws and counts among all images of a batch where no process has all of them.

    Raises:
        RecipeError: It is so.
    """
    if processes.world > 1 and model.head.samples_in_batch and recipe.optim.micro_batch is None:
        raise RecipeError(
            f"optim.micro_batch: is null, and head {recipe.head.name} draws regions among all images of a batch, which "
            f"{processes.world} processes share; set optim.micro_batch, for example 2 as in the paper"
        )


def _at_rest(optimizer: torch.optim.SGD) -> torch.optim.SGD:
    """The optimiser with a momentum of 0: if its first step is left out, PyTorch's fused one keeps unset memory."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _average(model: LongTailDetector, decay: float | None) -> AveragedModel | None:
    """The average that starts as the model is after a step; its buffers are always the model's, not averages."""
    return None if decay is None else AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


def _check_classifier(recipe: Recipe, model: LongTailDetector, report: LoadReport, where: str) -> None:
    """Refuses a fresh classifier where the method goes on from a trained one.

    Raises:
        RecipeError: It starts anew.
    """
    method = METHODS[recipe.method]
    anew = dict(zip(report.reinitialised, report.reasons, strict=True))
    if not report.loaded:
        anew = dict.fromkeys(model.classifiers(), "there are no weights")
    fresh = [layer for layer in model.classifiers() if layer in anew]
    if method.keeps_classifier and fresh:
        raise RecipeError(
            f"{where}: {fresh[0]} would start anew ({anew[fresh[0]]}), but method {recipe.method} "
            f"goes on from a trained one; it needs {method.needs}, with the same groups and categories"
        )


def _check_fresh_layers(recipe: Recipe, model: LongTailDetector, report: LoadReport, where: str) -> None:
    """Refuses layers that start anew and are never trained: everything after them would see random numbers.

    Raises:
        RecipeError: There are some.
    """
    trained = {name.rpartition(".")[0] for name, weight in model.named_parameters() if weight.requires_grad}
    reasons = zip(report.reinitialised, report.reasons, strict=True)
    frozen = {layer: why for layer, why in reasons if layer not in trained}
    if frozen:
        head = all(f"{layer}.".startswith(model.parts("head+reg")) for layer in frozen)
        parts = "train=head+reg or train=all" if head else "train=all"
        more = f" and {len(frozen) - FEW} more" if len(frozen) > FEW else ""
        why = "; ".join(dict.fromkeys(frozen.values()))
        raise RecipeError(
            f"{where}: {', '.join([*frozen][:FEW])}{more} would start anew ({why}) "
            f"and stay random, since train={recipe.train} does not train that; set {parts}, or give --init-from a run "
            "with the same categories"
        )


def _check_random_trunk(recipe: Recipe, model: LongTailDetector, report: LoadReport, where: str) -> None:
    """Refuses to train a part of a detector of which nothing has been trained: the rest would stay random.

    Raises:
        RecipeError: It is so.
    """
    kept = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    if not report.loaded and kept:
        method = METHODS[recipe.method]
        needs = f"method {recipe.method} needs {method.needs}" if method.starts_from_run else "give --init-from RUN"
        raise RecipeError(
            f"{where}: nothing has been trained, and train={recipe.train} leaves {len(kept)} weights of the model as "
            f"random as they are drawn; {needs}, or start from weights of the whole detector with model.weights, or "
            "set train=all"
        )


def _first_notes(recipe: Recipe, model: LongTailDetector) -> list[str]:
    """What a run that starts from no other run starts from."""
    weights, notes = recipe.model.weights, []
    if weights != "none":
        report = model.load_report
        notes.append(f"weights '{weights}': {report.loaded} tensors; newly initialised: {_fresh(report)}")
        notes += report.notes
    elif named_detector(recipe.model.name).trunk.pretrained:
        notes.append(
            f"warning: model.weights=none: the trunk of {recipe.model.name} starts from random numbers, which takes "
            "very many images and epochs; set model.weights=imagenet (or coco, or a file), unless that is what you want"
        )
    if METHODS[recipe.method].starts_from_run:
        notes.append(
            f"warning: method {recipe.method} needs {METHODS[recipe.method].needs}; without it, it trains on top of "
            f"weights '{weights}'"
        )
    elif recipe.train != "all":
        notes.append(f"warning: train={recipe.train} without --init-from trains on top of weights '{weights}'")
    return notes


def _fresh(report: LoadReport) -> str:
    return ", ".join(report.reinitialised) or "nothing"


def checkpoint_content(recipe: Recipe, data: RunData, state: RunState) -> dict[str, Any]:
    """Everything that a checkpoint of a training holds.

    Raises:
        DataError: An annotation file was changed since it was read.
        TrainingStopped: The last loss or a weight is not finite: the run could not go on from there.
    """
    _check_finite(state)
    progress = {
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "done": state.done,
        "best": state.best,
        "best_step": state.best_step,
        "waited": state.waited,
        "evaluated": state.evaluated,
        "val_sha256": val_sha256(data),
    }
    if state.ema is not None:
        progress |= {"trained_model": state.model.state_dict(), "averaged": int(state.ema.n_averaged)}
    return {**weights_content(recipe, data, state.result, unseen=state.unseen), **progress}


def _check_finite(state: RunState) -> None:
    # an interrupted run is saved before anybody has read the losses of its last step
    if state.losses is not None:
        state.losses.read()
    damaged = [name for name, weight in state.model.named_parameters() if not bool(weight.isfinite().all())]
    if damaged:
        raise TrainingStopped(
            f"step {state.done}: {len(damaged)} weights, {damaged[0]} the first, are not finite; go back to the last "
            "checkpoint, and lower optim.lr or set optim.clip"
        )


def weights_content(recipe: Recipe, data: RunData, model: LongTailDetector, *, unseen: int) -> dict[str, Any]:
    """What a checkpoint holds for whoever uses the model: weights, recipe, categories, and how much it has not seen.

    Raises:
        DataError: An annotation file was changed since it was read.
    """
    check_unchanged(data)
    return {
        "model": model.state_dict(),
        "recipe": recipe.to_plain(),
        "categories": counts_to_plain(data.train.counts),
        "train_sha256": data.train.file.sha256,
        "unseen": unseen,
    }


def val_sha256(data: RunData) -> str | None:
    """Digest of the validation file, if there is one."""
    return None if data.val is None else data.val.file.sha256
