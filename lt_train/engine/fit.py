"""Training: read ``fit`` first, it is the main path of the package and calls things in the order they happen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from lt_data.errors import RecipeError
from lt_train.data.bad_images import BadImages
from lt_train.data.dataset import make_loader
from lt_train.data.plan import Plan, Step
from lt_train.data.share import check_shareable
from lt_train.engine.budget import write_seen, write_trainable
from lt_train.engine.calibrate import calibrate_together
from lt_train.engine.debug import keeping_a_step_that_fails
from lt_train.engine.interrupts import Interrupted, Interrupts
from lt_train.engine.optim import check_schedule, describe_lr, describe_warmup, lr_at
from lt_train.engine.restore import restore_state
from lt_train.engine.resume import as_begun, read_begun
from lt_train.engine.state import RunState, checkpoint_content, start_state
from lt_train.engine.step import Draws, LossesOf, losses_of_images, name_lost_workers, train_step
from lt_train.engine.together import describe_processes, left_out_by_all, share_statistics, things_seen
from lt_train.engine.usage import StepTimer, Waiting, expected_time
from lt_train.evaluation.figures.selection import selected_figure
from lt_train.evaluation.figures.table import explanations, percent
from lt_train.evaluation.measure import Choices, Measured
from lt_train.features.training import check_same_features, features_to_record, open_training, refuse_other_parts
from lt_train.inference.evaluate_run import evaluate_model
from lt_train.inference.validation_loss import validation_losses
from lt_train.memory import named_memory, training_advice
from lt_train.processes import Processes, process_device, run_together
from lt_train.recipe.load import beaten_in
from lt_train.recipe.paths import with_absolute_paths
from lt_train.recipe.sections import Recipe
from lt_train.report.run_report import draw_run_report
from lt_train.runs.checkpoint import save_checkpoint
from lt_train.runs.data import RunData, data_record, describe_data, load_run_data, make_plan, written_notes
from lt_train.runs.directory import RunDir, create_run_dir, new_run, resumed_run, write_environment
from lt_train.runs.live import figures
from lt_train.runs.log import RunLog, SilentLog
from lt_train.runs.model import choose_device, names_of_head_groups
from lt_train.runs.trackers import Tracker, make_trackers
from lt_train.sizing.batch import decided_batch

# the time of a run is told after so many steps, where it has a few more
TIMED, LEAST_TIMED = 5, 20


def fit(
    recipe: Recipe,
    out: Path | str,
    *,
    init_from: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    from_features: Path | None = None,
    notes: Sequence[str] = (),
) -> RunDir | None:
    """Trains a recipe and writes a run directory, in one process or in those that a launcher started.

    Args:
        recipe: What to do.
        out: The run directory; several processes have to see the same one.
        init_from: A run directory or checkpoint whose weights a new run starts from; not with ``resume``.
        resume: Continue the run in ``out``; nothing but ``FREE_TO_CHANGE`` may differ.
        force: Replace a run that exists.
        from_features: What ``lt-train cache --out`` was given, to train a classifier without opening an image.
        notes: Lines about the recipe, for the log.

    Returns:
        The run directory; ``None`` in all processes but the first.

    Raises:
        DataError: Data, weights or checkpoints cannot be used, or another process is gone.
        RecipeError: The recipe cannot run here, or differs from that of the run to resume.
        OutputError: ``out`` exists, another process writes it, or it cannot be written.
        TrainingStopped: A loss became infinite or NaN, or a loader process died, see ``lt_train.engine.step``.
        Interrupted: A signal ended the run, which can be resumed; see ``lt_train.engine.interrupts``.
    """
    place, source = Path(out), None if init_from is None else Path(init_from)

    def work(processes: Processes) -> RunDir:
        return fit_together(
            recipe,
            place,
            processes,
            init_from=source,
            resume=resume,
            force=force,
            from_features=from_features,
            notes=notes,
        )

    return run_together(work)


def fit_together(
    recipe: Recipe,
    out: Path,
    processes: Processes | None = None,
    *,
    init_from: Path | None = None,
    resume: bool = False,
    force: bool = False,
    from_features: Path | None = None,
    notes: Sequence[str] = (),
) -> RunDir:
    """The same in one of several processes that have found each other, see :func:`lt_train.processes.run_together`."""
    processes = processes or Processes()
    recipe = with_absolute_paths(recipe)
    if recipe.calibration.name != "none":
        if resume:
            raise RecipeError("--resume: a calibration takes no steps, there is nothing to continue; start it again")
        return calibrate_together(
            recipe, out, processes, init_from=init_from, force=force, from_features=from_features, notes=notes
        )
    if from_features is not None:
        refuse_other_parts(recipe, from_features)
    memory = named_memory("training", training_advice(recipe))
    with memory, _place(out, resume=resume, force=force, processes=processes) as lock_notes:
        lines = (*notes, *lock_notes)
        return _fit(
            recipe,
            out,
            init_from=init_from,
            resume=resume,
            force=force,
            from_features=from_features,
            notes=lines,
            processes=processes,
        )


def _place(out: Path, *, resume: bool, force: bool, processes: Processes) -> AbstractContextManager[tuple[str, ...]]:
    """Keeps the run directory to these processes, the first of which writes it."""
    if not processes.is_first:
        return nullcontext(())
    return resumed_run(out) if resume else new_run(out, force=force)


def _fit(
    recipe: Recipe,
    out: Path,
    *,
    init_from: Path | None,
    resume: bool,
    force: bool,
    from_features: Path | None,
    notes: Sequence[str],
    processes: Processes,
) -> RunDir:
    """The same in a directory that no others write."""
    # what is to be decided is made to be shared
    check_shareable(recipe.optim.batch, recipe.optim.micro_batch or 1, processes.world)
    trackers = make_trackers(recipe.trackers) if processes.is_first else []
    device = choose_device(process_device(recipe.device, processes))
    begun = read_begun(RunDir(out)) if resume else None
    if begun is not None:
        recipe, taken = as_begun(recipe, begun)
        notes = (*notes, *taken)
    data = load_run_data(recipe)
    processes.compare(things_seen(recipe, data, begun))
    recipe, decided = decided_batch(recipe, data, device, processes)
    notes = (*notes, *decided)
    plan = make_plan(recipe, data)
    if begun is None:
        # a run that was started by an older version may go on with a warm-up that is refused now
        check_schedule(recipe.schedule, plan)
    state = start_state(recipe, data, device, init_from=init_from, resume=resume, processes=processes)
    run = RunDir(out)
    if begun is not None:
        restore_state(state, run, begun, recipe, data, steps=plan.total_steps())
        # frees a second copy of the weights
        begun = None
        processes.compare({"the step to go on from": str(state.done)})
    if from_features is not None:
        state.features = open_training(from_features, recipe, data, state.model, processes)
    if resume:
        check_same_features(run.data, state.features)
    elif processes.is_first:
        create_run_dir(out, recipe, {**data_record(data), **features_to_record(state.features)}, force=force)
    if processes.is_first:
        write_environment(run, device, processes.world)
        for tracker in trackers:
            tracker.start(run.path, recipe.to_plain(), done=state.done)
    _run(recipe, data, plan, state, run, trackers, notes)
    return run


def _run(
    recipe: Recipe,
    data: RunData,
    plan: Plan,
    state: RunState,
    run: RunDir,
    trackers: Sequence[Tracker],
    notes: Sequence[str],
) -> None:
    """All of a run that is logged, by the first process."""
    total = plan.total_steps()
    if not state.processes.is_first:
        try:
            with state.processes.together():
                _train(recipe, data, plan, state, run, SilentLog(total=total, every=recipe.log_every))
                left_out_by_all(state.bad_images, state.processes)
        except KeyboardInterrupt as error:
            raise _ended(error, state, total) from None
        return
    with RunLog(run, total=total, every=recipe.log_every, done=state.done, trackers=trackers) as log:
        try:
            for line in _opening_lines(recipe, data, plan, state, run, notes):
                log.line(line)
            with state.processes.together():
                _train(recipe, data, plan, state, run, log)
                left_out = left_out_by_all(state.bad_images, state.processes)
            for line in (*write_seen(run.report / "seen.csv", data, plan, state.done), *written_notes(data)):
                log.line(line)
            for line in left_out:
                log.line(line)
            names = names_of_head_groups(recipe, data.groups, data.train.counts)
            draw_run_report(run.report, run.path.name, losses=run.metrics, evaluation=run.evaluation, head_groups=names)
        except KeyboardInterrupt as error:
            for line in written_notes(data):
                log.line(line)
            raise _ended(error, state, total) from None


def _ended(error: KeyboardInterrupt, state: RunState, total: int) -> KeyboardInterrupt:
    """What an interrupt is called where the run ends: it says whether and how to go on."""
    if state.saved is None:
        error.args = ("before the first checkpoint; start again with --force",)
        return error
    return Interrupted(
        f"after step {state.done} of {total}; continue with --resume, from the checkpoint of step {state.saved}"
    )


def _train(recipe: Recipe, data: RunData, plan: Plan, state: RunState, run: RunDir, log: RunLog | SilentLog) -> None:
    """Every step of the plan that is not done, with checkpoints and evaluations between them."""
    kept = keeping_a_step_that_fails(recipe, data, plan, state, run)
    with kept, Interrupts(log.show_below) as interrupts, name_lost_workers(recipe.data.workers):
        if not state.last_is_whole:
            _save_last(recipe, data, state, run)
        if _owes_evaluation(recipe, plan, state):
            _evaluate(recipe, data, state, run, log, interrupts)
        # a run that goes on may have ended so before
        for step in () if _is_over(recipe, plan, state, log) else _steps(recipe, data, plan, state, log):
            if state.processes.agree(interrupts.waiting):
                _save_last(recipe, data, state, run)
                # launchers end the others when one is gone, and the first one may still write
                state.processes.wait()
                interrupts.deliver()
                if state.processes.world > 1:
                    # the signal may have come to another process alone
                    raise KeyboardInterrupt
            evaluating = _is_evaluated(step, recipe, plan)
            if evaluating or _is_due(step, recipe, _save_every(recipe)):
                _save_last(recipe, data, state, run)
            if evaluating:
                _evaluate(recipe, data, state, run, log, interrupts)
                if _is_over(recipe, plan, state, log):
                    break


def _is_over(recipe: Recipe, plan: Plan, state: RunState, log: RunLog | SilentLog) -> bool:
    """Whether the run has waited long enough for a better figure, which the first process knows; all come here."""
    patience = recipe.eval.patience
    if patience is None or state.done == plan.total_steps():
        return False
    if not state.processes.agree(state.processes.is_first and state.waited >= patience):
        return False
    log.line(
        f"ended early, after step {state.done}: {state.waited} evaluations without a better figure "
        f"(eval.patience={patience}); the best was that of step {state.best_step}, kept as checkpoints/best.pt"
    )
    return True


def _steps(recipe: Recipe, data: RunData, plan: Plan, state: RunState, log: RunLog | SilentLog) -> Iterator[Step]:
    """Takes the steps that remain; each is given out when it is done and logged."""
    device = next(state.model.parameters()).device
    draws = Draws(plan, state.done, state.processes, recipe.optim.micro_batch or 1)
    if recipe.data.on_bad_image == "skip":
        state.bad_images = BadImages(recipe.data.most_bad_images, log.line)
    features = state.features
    loader = make_loader(
        data.dataset if features is None else features.dataset,
        draws,
        workers=recipe.data.workers,
        pin_memory=device.type == "cuda",
        left_out=None if state.bad_images is None else state.bad_images.add,
    )
    with closing(loader):
        yield from _steps_on(Waiting(loader), recipe, plan, state, log)


def _steps_on(batches: Waiting, recipe: Recipe, plan: Plan, state: RunState, log: RunLog | SilentLog) -> Iterator[Step]:
    """The same, on batches that are being loaded."""
    device, features = next(state.model.parameters()).device, state.features
    losses_of: LossesOf = losses_of_images if features is None else features.losses_of
    timer, total, first = StepTimer(batches), plan.total_steps(), state.done
    state.model.train()
    for step in plan.steps(state.done):
        lr = lr_at(step, recipe.optim, recipe.schedule, total)
        due = log.is_due(step.index)
        with timer.step(step.images):
            losses = train_step(state, step, batches, lr=lr, clip=recipe.optim.clip, losses_of=losses_of)
            # on a GPU this waits for the step, which is time of training
            values = losses.read() if due else {}
        state.done = step.index + 1
        log.advance(state.done, epoch=step.epoch, seconds_left=timer.seconds_left(total - state.done))
        if due:
            log.step({"loss": sum(values.values()), **values, "lr": lr, **timer.figures(device)})
        if state.done == first + TIMED and total - first >= LEAST_TIMED:
            log.line(expected_time(timer, plan.epoch_steps(0), total - state.done))
        yield step


def _is_due(step: Step, recipe: Recipe, every: int | None) -> bool:
    """``every`` counts steps when the schedule does, else epochs."""
    if every is None:
        return False
    if recipe.schedule.iterations is not None:
        return (step.index + 1) % every == 0
    return step.ends_epoch and (step.epoch + 1) % every == 0


def _is_evaluated(step: Step, recipe: Recipe, plan: Plan) -> bool:
    return step.index + 1 == plan.total_steps() or _is_due(step, recipe, recipe.eval.every)


def _owes_evaluation(recipe: Recipe, plan: Plan, state: RunState) -> bool:
    """Whether the run was stopped in the evaluation after its last step."""
    return state.evaluated < state.done and _is_evaluated(next(plan.steps(state.done - 1)), recipe, plan)


def _save_every(recipe: Recipe) -> int:
    return 1 if recipe.schedule.iterations is None else max(1, recipe.schedule.iterations // 5)


def _evaluate(
    recipe: Recipe, data: RunData, state: RunState, run: RunDir, log: RunLog | SilentLog, interrupts: Interrupts
) -> None:
    """Measures on the validation data, if there is any, and keeps the best checkpoint."""
    if data.val is None:
        return
    share_statistics(state)
    known = None if state.features is None else state.features.validation
    with interrupts.at_once(), log.paused():
        losses = validation_losses(state.result, data.val_dataset, recipe, state.processes)
        measured = evaluate_model(
            state.result,
            data.val,
            recipe,
            counts=data.train.counts,
            groups=data.groups,
            out=run.evaluation,
            processes=state.processes,
            predictor=None if known is None else known.predict,
            choices=None if known is None else Choices(boxes_only=True),
        )
    state.evaluated = state.done
    if losses is not None:
        values = {f"eval/{name}": value for name, value in losses.items()}
        log.line("validation: " + "  ".join(f"{name} {text}" for name, text in figures(losses)[0]))
        log.record({"step": state.done, **values})
    if measured is not None:
        _keep_best(measured, recipe, data, state, run, log)
    _save_last(recipe, data, state, run)


def _keep_best(
    measured: Measured, recipe: Recipe, data: RunData, state: RunState, run: RunDir, log: RunLog | SilentLog
) -> None:
    """Tells what was measured, and keeps the checkpoint if it is the best so far."""
    again = explanations(measured.metrics)
    for line in measured.text.splitlines():
        log.line(line, once=line in again)
    for kind in ("bbox", "segm"):
        if kind in measured.metrics:
            log.record({"step": state.done, f"eval/{kind}_AP": measured.metrics[kind]["AP"]})
    select = recipe.eval.select
    value, name = selected_figure(measured.metrics, select, groups=data.groups, counts=data.train.counts)
    if select != "AP":
        log.record({"step": state.done, "eval/selected": value})
    if value is None:
        # nothing to wait for: the next evaluation has the same objects
        return
    is_best = state.best is None or value > state.best
    state.waited = 0 if is_best else state.waited + 1
    if is_best:
        state.best, state.best_step = value, state.done
        save_checkpoint(run.best, checkpoint_content(recipe, data, state))
    if select != "AP" or recipe.eval.patience is not None:
        log.line(f"{name}: {percent(value)}; {_beside_best(state)}")


def _beside_best(state: RunState) -> str:
    if not state.waited:
        return "the best so far"
    ago = "1 evaluation" if state.waited == 1 else f"{state.waited} evaluations"
    return f"the best is {percent(state.best)}, {ago} ago at step {state.best_step}"


def _save_last(recipe: Recipe, data: RunData, state: RunState, run: RunDir) -> None:
    keep = run.previous if state.last_is_whole else None
    content = checkpoint_content(recipe, data, state)
    if state.processes.is_first:
        save_checkpoint(run.last, content, keep=keep)
    state.saved, state.last_is_whole = state.done, True


def _opening_lines(
    recipe: Recipe, data: RunData, plan: Plan, state: RunState, run: RunDir, notes: Sequence[str]
) -> list[str]:
    """What the run is going to do, for people."""
    lines = [
        f"method {recipe.method}: head={recipe.head.name} sampler={recipe.sampler.name} train={recipe.train}",
        *beaten_in(recipe),
        *notes,
        *describe_data(recipe, data, plan),
        *describe_processes(recipe, data, state),
        describe_lr(recipe.optim),
        describe_warmup(recipe.schedule, plan.total_steps()),
        *write_trainable(run.report / "trainable.csv", state.model),
        *state.notes,
        *(state.features.describe() if state.features is not None else ()),
    ]
    if state.saved is not None:
        lines.append(f"continuing at step {state.done} of {plan.total_steps()}")
    return lines
