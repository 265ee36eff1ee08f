"""Training: read ``fit`` first, it is the main path of the package and calls things in the order they happen."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from lt_data.errors import DataError, LtError, RecipeError
from lt_train.data.dataset import make_loader
from lt_train.data.plan import Draw, Plan, Step
from lt_train.detectors import LongTailDetector, initialise_from, set_trainable
from lt_train.detectors.weights import checkpoint_categories
from lt_train.engine.checkpoint import load_checkpoint, save_checkpoint
from lt_train.engine.evaluate import evaluate_model, selection_ap
from lt_train.engine.log import RunLog, drop_later_metrics
from lt_train.engine.optim import describe_lr, lr_at, make_optimizer, set_lr
from lt_train.engine.run_dir import RunDir, check_run_dir, create_run_dir, write_environment, write_recipe, write_text
from lt_train.engine.setup import (
    RunData,
    choose_device,
    counts_to_plain,
    data_record,
    describe_data,
    label_table,
    load_run_data,
    make_model,
    make_plan,
    resolve_checkpoint,
)
from lt_train.methods import METHODS
from lt_train.recipe import Recipe
from lt_train.report.curves import plot_loss_curves
from lt_train.report.group_bars import plot_group_ap

# a run may go on with another number of workers, on another device, with other log lines
FREE_TO_CHANGE = ("device", "log_every", "data.workers", "eval.batch")


class TrainingStopped(LtError):
    """The run cannot go on: a loss is not finite."""


@dataclass
class RunState:
    """Everything that changes during a run.

    Attributes:
        model: The detector, on its device.
        optimizer: SGD over its trainable parameters.
        done: Optimiser steps taken.
        best: Best validation AP so far, or ``None``.
    """

    model: LongTailDetector
    optimizer: torch.optim.SGD
    done: int = 0
    best: float | None = None
    notes: list[str] = field(default_factory=list)


def fit(
    recipe: Recipe,
    out: Path,
    *,
    init_from: Path | None = None,
    resume: bool = False,
    force: bool = False,
    console: Console | None = None,
) -> RunDir:
    """Trains a recipe and writes a run directory.

    Args:
        recipe: What to do.
        out: The run directory.
        init_from: A run directory or checkpoint whose weights a new run starts from; not with ``resume``.
        resume: Continue the run in ``out``; nothing but ``FREE_TO_CHANGE`` may differ.
        force: Replace a run that exists.
        console: Where progress goes; standard error unless given.

    Raises:
        DataError: Data, weights or checkpoints cannot be used.
        RecipeError: The recipe cannot run here, or differs from that of the run to resume.
        OutputError: ``out`` exists.
        TrainingStopped: A loss became infinite or NaN.
    """
    _refuse_several_processes()
    if not resume:
        check_run_dir(out, force=force)
    device = choose_device(recipe.device)
    data = load_run_data(recipe)
    plan = make_plan(recipe, data)
    state = _start(recipe, data, device, init_from=init_from, resume=resume)
    if resume:
        run = RunDir(out)
        _restore(state, run, recipe, data)
    else:
        run = create_run_dir(out, force=force)
        write_recipe(run, recipe)
        write_text(run.data, json.dumps(data_record(data), indent=2, ensure_ascii=False) + "\n")
    write_environment(run, device)
    with RunLog(run, total=plan.total_steps(), every=recipe.log_every, console=console) as log:
        for line in _opening_lines(recipe, data, plan, state, resume=resume):
            log.line(line)
        try:
            _train(recipe, data, plan, state, run, log)
        except KeyboardInterrupt:
            _save_interrupted(recipe, data, state, run, log)
            raise
        draw_report(run)
    return run


def _start(recipe: Recipe, data: RunData, device: torch.device, *, init_from: Path | None, resume: bool) -> RunState:
    """A model with its first weights and an optimiser over what is trained."""
    fresh_start = init_from is None and not resume
    model = make_model(recipe, data.train.counts, load_pretrained=fresh_start)
    notes = []
    if fresh_start and recipe.model.weights != "none":
        report = model.load_report
        fresh = ", ".join(report.reinitialised) or "nothing"
        notes.append(f"weights '{recipe.model.weights}': {report.loaded} tensors; newly initialised: {fresh}")
    if init_from is not None and not resume:
        source = resolve_checkpoint(init_from)
        content = load_checkpoint(source)
        report = initialise_from(
            model,
            content["model"],
            own_categories=label_table(data.train.counts),
            source_categories=checkpoint_categories(content, source),
        )
        fresh = ", ".join(report.reinitialised) or "nothing"
        notes.append(f"weights from {init_from}; newly initialised: {fresh}")
    elif fresh_start and recipe.train in ("head", "head+reg", "classifier"):
        notes.append(
            f"warning: train={recipe.train} without --init-from trains on top of weights '{recipe.model.weights}'"
        )
    names = set_trainable(model, recipe.train)
    if not names:
        raise RecipeError(f"train: '{recipe.train}' trains nothing; there is nothing to fit")
    optimizer = make_optimizer(model.to(device).parameters(), recipe.optim)
    return RunState(model, optimizer, notes=notes)


def _train(recipe: Recipe, data: RunData, plan: Plan, state: RunState, run: RunDir, log: RunLog) -> None:
    """Every step of the plan that is not done, with checkpoints and evaluations between them."""
    device = next(state.model.parameters()).device
    batches = make_loader(
        data.dataset,
        _Draws(plan, state.done),
        workers=recipe.data.workers,
        pin_memory=device.type == "cuda",
    )
    state.model.train()
    log.advance(state.done)
    for step in plan.steps(state.done):
        lr = lr_at(step, recipe.optim, recipe.schedule)
        losses = train_step(state, step, batches, lr=lr, clip=recipe.optim.clip)
        state.done = step.index + 1
        log.advance(state.done)
        if log.is_due(step.index):
            log.step(step.index, step.epoch, {"loss": sum(losses.values()), **losses, "lr": lr})
        finished = state.done == plan.total_steps()
        evaluating = finished or _is_due(step, recipe, recipe.eval.every)
        if evaluating or _is_due(step, recipe, _save_every(recipe)):
            save_checkpoint(run.last, _checkpoint(recipe, data, state))
        if evaluating:
            _evaluate(recipe, data, state, run, log)


def train_step(
    state: RunState, step: Step, batches: Iterator[Any], *, lr: float, clip: float | None = None
) -> dict[str, float]:
    """One optimiser step over one or several forward passes; their losses are averaged.

    Args:
        state: Model and optimiser; changed.
        step: How many forward passes, and of which images.
        batches: Gives the images and targets of each forward pass.
        lr: Learning rate.
        clip: Largest gradient norm, or ``None``.

    Returns:
        The mean of every loss.

    Raises:
        TrainingStopped: A loss is not finite; no weight was changed.
    """
    device = next(state.model.parameters()).device
    set_lr(state.optimizer, lr)
    state.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for _ in step.batches:
        images, targets = next(batches)
        losses = state.model(
            [image.to(device, non_blocking=True).float() / 255 for image in images],
            [_on_device(target, device) for target in targets],
        )
        total = torch.stack(list(losses.values())).sum() / len(step.batches)
        total.backward()  # type: ignore[no-untyped-call]
        for name, value in losses.items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + value.detach() / len(step.batches)
    values = {name: float(value) for name, value in sums.items()}
    _refuse_non_finite(values, step, targets)
    if clip is not None:
        nn.utils.clip_grad_norm_([p for p in state.model.parameters() if p.requires_grad], clip)
    state.optimizer.step()
    return values


def _refuse_non_finite(values: dict[str, float], step: Step, targets: list[dict[str, Any]]) -> None:
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        images = ", ".join(str(target["image_id"]) for target in targets)
        raise TrainingStopped(
            f"step {step.index + 1}: {', '.join(wrong)} is not finite (last images {images}); no weight was changed "
            "in this step, but earlier ones may be damaged; go back to the last checkpoint, and lower optim.lr or set "
            "optim.clip"
        )


def _on_device(target: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in target.items()}


class _Draws:
    """The draws of every forward pass that remains, for the loader."""

    def __init__(self, plan: Plan, done: int) -> None:
        self.plan = plan
        self.done = done

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in self.plan.steps(self.done):
            for batch in step.batches:
                yield list(batch)


def _is_due(step: Step, recipe: Recipe, every: int | None) -> bool:
    """``every`` counts steps when the schedule does, else epochs."""
    if every is None:
        return False
    if recipe.schedule.iterations is not None:
        return (step.index + 1) % every == 0
    return step.ends_epoch and (step.epoch + 1) % every == 0


def _save_every(recipe: Recipe) -> int:
    return 1 if recipe.schedule.iterations is None else max(1, recipe.schedule.iterations // 5)


def _evaluate(recipe: Recipe, data: RunData, state: RunState, run: RunDir, log: RunLog) -> None:
    """Measures on the validation data, if there is any, and keeps the best checkpoint."""
    if data.val is None:
        return
    measured = evaluate_model(
        state.model,
        data.val,
        recipe,
        counts=data.train.counts,
        groups=data.groups,
        out=run.evaluation,
        console=log.console,
    )
    for line in measured.text.splitlines():
        log.line(line)
    for kind in ("bbox", "segm"):
        if kind in measured.metrics:
            log.record({"step": state.done, f"eval/{kind}_AP": measured.metrics[kind]["AP"]})
    ap = selection_ap(measured.metrics)
    if ap is not None and (state.best is None or ap > state.best):
        state.best = ap
        save_checkpoint(run.best, _checkpoint(recipe, data, state))
        save_checkpoint(run.last, _checkpoint(recipe, data, state))


def _save_interrupted(recipe: Recipe, data: RunData, state: RunState, run: RunDir, log: RunLog) -> None:
    """Keeps what an interrupted run has learnt."""
    if state.done:
        save_checkpoint(run.last, _checkpoint(recipe, data, state))
        log.line(f"interrupted after step {state.done}; continue with --resume")


def draw_report(run: RunDir) -> None:
    """Draws loss curves and, where there is an evaluation, AP per group into ``report``."""
    run.report.mkdir(exist_ok=True)
    plot_loss_curves(run.report / "loss_curves.png", {run.path.name: run.metrics})
    metrics = run.evaluation / "metrics.json"
    if metrics.is_file():
        content = json.loads(metrics.read_text(encoding="utf-8"))
        for kind in ("bbox", "segm"):
            if kind in content:
                plot_group_ap(run.report / f"group_ap_{kind}.png", {run.path.name: content}, iou_type=kind)


def _checkpoint(recipe: Recipe, data: RunData, state: RunState) -> dict[str, Any]:
    return {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "done": state.done,
        "best": state.best,
        "recipe": recipe.to_plain(),
        "categories": counts_to_plain(data.train.counts),
        "train_sha256": data.train.file.sha256,
    }


def _restore(state: RunState, run: RunDir, recipe: Recipe, data: RunData) -> None:
    """Puts a run back to its last checkpoint; anything that cannot be restored is an error."""
    content = load_checkpoint(run.last)
    changed = _differences(content["recipe"], recipe.to_plain())
    if changed:
        raise RecipeError(
            [f"--resume: {line}" for line in changed]
            + ["--resume continues the same run; start a new one from its weights with --init-from"]
        )
    if content["train_sha256"] != data.train.file.sha256:
        raise DataError(f"--resume: {data.train.file.path} is not the file the run was started with (sha256 differs)")
    state.model.load_state_dict(content["model"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.done, state.best = int(content["done"]), content["best"]
    drop_later_metrics(run, state.done)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted({*old, *new}):
        name, a, b = prefix + key, old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += _differences(a, b, f"{name}.")
        elif a != b and name not in FREE_TO_CHANGE:
            lines.append(f"{name} was {a!r}, is now {b!r}")
    return lines


def _opening_lines(recipe: Recipe, data: RunData, plan: Plan, state: RunState, *, resume: bool) -> list[str]:
    """What the run is going to do, for people."""
    trainable = [parameter for parameter in state.model.parameters() if parameter.requires_grad]
    numbers = sum(parameter.numel() for parameter in trainable)
    lines = [
        f"method {recipe.method}: head={recipe.head.name} sampler={recipe.sampler.name} train={recipe.train}",
        *_beaten_presets(recipe),
        *describe_data(recipe, data, plan),
        describe_lr(recipe.optim),
        f"trainable: {len(trainable)} tensors, {numbers:,} numbers",
        *state.notes,
    ]
    if resume:
        lines.append(f"continuing at step {state.done} of {plan.total_steps()}")
    return lines


def _beaten_presets(recipe: Recipe) -> list[str]:
    """Keys that the recipe sets itself although its method would fill them with something else."""
    plain = recipe.to_plain()
    lines = []
    for key, value in METHODS[recipe.method].fills.items():
        have, preset = (plain[key]["name"], value["name"]) if isinstance(value, dict) else (plain[key], value)
        if have != preset:
            lines.append(f"note: {key}={have} is set explicitly and beats {preset} of method {recipe.method}")
    return lines


def _refuse_several_processes() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "WORLD_SIZE is more than 1: training in several processes is not built yet; start one process"
        )
