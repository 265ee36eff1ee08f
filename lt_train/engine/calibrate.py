"""Post-hoc methods: a trained run gets other scores, no gradient is taken. Read ``calibrate`` first.

The result is a run directory of its own, which can be evaluated, compared and used to predict like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from lt_data.counts.categories import CategoryCounts
from lt_data.errors import DataError, RecipeError
from lt_data.progress import SILENT
from lt_data.terminal import Bar
from lt_train.calibration.base import Calibration
from lt_train.data.bad_images import BadImages
from lt_train.data.dataset import make_loader
from lt_train.data.detection_data import box_centres
from lt_train.data.images import as_input, on_device
from lt_train.data.plan import Plan
from lt_train.detectors import LongTailDetector, set_trainable
from lt_train.engine.budget import write_trainable
from lt_train.engine.calibration_search import Search, best_value, candidates
from lt_train.engine.state import weights_content
from lt_train.engine.together import left_out_by_all, things_seen
from lt_train.evaluation.measure import Choices
from lt_train.features.calibrating import Known, open_known
from lt_train.global_batch import sharing, summed
from lt_train.inference.evaluate_run import evaluate_model
from lt_train.memory import named_memory, training_advice
from lt_train.processes import Processes, process_device, run_together
from lt_train.recipe.load import Override, beaten_in, calibration_content, make_noted, parse_overrides
from lt_train.recipe.paths import still_written, with_absolute_paths
from lt_train.recipe.sections import Recipe
from lt_train.recipe.step_sections import AUTO_BATCH
from lt_train.report.run_report import draw_run_report
from lt_train.runs.checkpoint import save_checkpoint
from lt_train.runs.compute import prepare
from lt_train.runs.data import (
    GroupsFor,
    RunData,
    data_record,
    describe_groups,
    load_run_data,
    written_notes,
)
from lt_train.runs.directory import RunDir, create_run_dir, new_run, write_environment, write_recipe
from lt_train.runs.hold_out import annotations_outside
from lt_train.runs.log import RunLog, SilentLog
from lt_train.runs.metadata import ChosenGroups, trained_groups, trained_groups_source
from lt_train.runs.model import FromRun, choose_device, model_from_run
from lt_train.runs.search_images import search_images
from lt_train.sizing.batch import with_batch


def calibrate_run(
    run: Path,
    method: str,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    checkpoint: str = "last",
    search: Search | None = None,
    force: bool = False,
    root: Path | None = None,
    from_features: Path | None = None,
) -> RunDir | None:
    """Fits a method to a run with the run's own recipe: its head and data stay, its test settings become the method's.

    Args:
        run: The trained run directory.
        method: A key of ``METHODS`` with a calibration.
        out: The run directory to write.
        overrides: ``dotted.key=value`` texts.
        checkpoint: ``last`` or ``best``.
        search: Which option to search and where, or ``None``.
        force: Replace a run that exists.
        root: What the relative paths of the run's recipe are relative to now, see :meth:`RunDir.load_recipe`.
        from_features: What ``lt-train cache --out`` was given, to open no image.

    Raises:
        LtError: As :func:`calibrate`.
    """

    def work(processes: Processes) -> RunDir:
        source = RunDir(run)
        trained = source.load_recipe(root)
        content, renewed = calibration_content(trained.to_plain(), method, overrides)
        recipe, notes = make_noted(content, overrides, where=f"{run} with {method}")
        recipe = recipe.with_written(still_written(trained.written, trained.to_plain(), recipe))
        return calibrate_together(
            recipe,
            out,
            processes,
            init_from=source.checkpoint(checkpoint),
            search=search,
            force=force,
            from_features=from_features,
            notes=(*renewed, *notes),
            groups_asked=any(_names_groups(override) for override in parse_overrides(overrides)),
        )

    return run_together(work)


def _names_groups(override: Override) -> bool:
    section = override.key == "data" and isinstance(override.value, dict) and "groups" in override.value
    return section or override.key == "data.groups"


def calibrate(
    recipe: Recipe,
    out: Path,
    *,
    init_from: Path | None,
    search: Search | None = None,
    force: bool = False,
    from_features: Path | None = None,
    notes: Sequence[str] = (),
    groups_asked: bool | None = None,
) -> RunDir | None:
    """Fits a calibration to a trained run and writes a run directory, in one process or in those of a launcher.

    Args:
        recipe: What to do; its ``calibration`` says which method.
        out: The run directory to write.
        init_from: The trained run directory or checkpoint.
        search: Which option to search and where, or ``None``.
        force: Replace a run that exists.
        from_features: What ``lt-train cache --out`` was given, to open no image.
        notes: Lines about the recipe, for the log.
        groups_asked: Whether ``data.groups`` of the recipe beats the groups that the run was trained with; unless said,
            it does where it is not null.

    Returns:
        The run directory; ``None`` in all processes but the first.

    Raises:
        DataError: Data or weights cannot be used, or the calibration finds nothing to go by.
        RecipeError: The recipe has no calibration, no run is given, the method does not fit the head, or the option
            cannot be searched.
        OutputError: ``out`` exists.
    """

    def work(processes: Processes) -> RunDir:
        return calibrate_together(
            recipe,
            out,
            processes,
            init_from=init_from,
            search=search,
            force=force,
            from_features=from_features,
            notes=notes,
            groups_asked=groups_asked,
        )

    return run_together(work)


def calibrate_together(
    recipe: Recipe,
    out: Path,
    processes: Processes,
    *,
    init_from: Path | None,
    search: Search | None = None,
    force: bool = False,
    from_features: Path | None = None,
    notes: Sequence[str] = (),
    groups_asked: bool | None = None,
) -> RunDir:
    """The same in one of several processes that have found each other."""
    recipe = with_absolute_paths(recipe)
    if recipe.optim.batch == AUTO_BATCH:
        # it takes no steps: this many images go through the model at a time
        recipe = with_batch(recipe, processes.world)
    if recipe.calibration.name == "none":
        raise RecipeError("calibration: the recipe has none; choose a method with --method, see lt-train methods")
    if init_from is None:
        raise RecipeError(
            f"calibration '{recipe.calibration.name}' is fitted to a trained run; name one with --init-from RUN"
        )
    if out.resolve() in (init_from.resolve(), *init_from.resolve().parents):
        raise RecipeError(f"{out}: is the run that is calibrated; choose another --out")
    with new_run(out, force=force) if processes.is_first else nullcontext(()) as lock_notes:
        return _calibrate(
            recipe,
            out,
            init_from=init_from,
            search=search,
            force=force,
            from_features=from_features,
            notes=(*notes, *lock_notes),
            groups_for=groups_to_keep(recipe, init_from, groups_asked),
            processes=processes,
        )


def _calibrate(
    recipe: Recipe,
    out: Path,
    *,
    init_from: Path,
    search: Search | None,
    force: bool,
    from_features: Path | None,
    notes: Sequence[str],
    groups_for: GroupsFor | None,
    processes: Processes,
) -> RunDir:
    """The same in a directory that the first process alone writes."""
    recipes = candidates(recipe, search) if search else []
    device = choose_device(process_device(recipe.device, processes))
    data = load_run_data(recipe, groups_for)
    processes.compare(things_seen(recipe, data))
    taken = _trained_model(recipe, data, init_from)
    images = search_images(data, taken.unseen, files=search.files, on=search.on) if search else None
    model = prepare(taken.model, recipe.compute, device)
    known = None
    if from_features is not None:
        known = open_known(
            from_features, recipe, data, model, processes, train=_calibration_of(model).regions != "none"
        )
    run = RunDir(out)
    if processes.is_first:
        searched = {"search": {"option": search.option, **images.record()}} if search and images else {}
        create_run_dir(out, recipe, data_record(data) | searched, force=force)
        write_environment(run, device, processes.world)
    with RunLog(run, total=0, every=1) if processes.is_first else SilentLog() as log:
        if processes.is_first:
            for line in (
                *_opening_lines(recipe, data, init_from, notes),
                *taken.notes,
                *(known.describe() if known is not None else ()),
                *write_trainable(run.report / "trainable.csv", model),
            ):
                log.line(line)
        bad_images = BadImages(recipe.data.most_bad_images, log.line) if recipe.data.on_bad_image == "skip" else None
        for line in (*_fit(model, recipe, data, processes, bad_images, known), *left_out_by_all(bad_images, processes)):
            log.line(line)
        if search is not None and images is not None:
            best = best_value(model, recipe, data, search, images, run.report, log.line, processes, known)
            _calibration_of(model).choose(search.option, search.values[best])
            recipe = recipes[best]
        if processes.is_first:
            write_recipe(run, recipe)
            save_checkpoint(run.last, weights_content(recipe, data, model, unseen=taken.unseen))
        _evaluate(model, recipe, data, run, log, processes, known)
        if processes.is_first:
            for line in written_notes(data):
                log.line(line)
            name = f"{run.path.name} ({images.mark})" if images else run.path.name
            draw_run_report(run.report, name, losses=None, evaluation=run.evaluation)
    return run


def groups_to_keep(recipe: Recipe, source: Path, asked: bool | None = None) -> GroupsFor | None:
    """Gives the groups that a run was trained with, whatever became of their file.

    Args:
        recipe: Of the calibration.
        source: The run directory, or a checkpoint of it.
        asked: Whether ``data.groups`` of the recipe beats them; unless said, it does where it is not null.

    Returns:
        ``None`` where they are left to the recipe: if it beats them, and for a checkpoint without its run.
    """
    if recipe.data.groups is not None if asked is None else asked:
        return None
    run = RunDir(source if source.is_dir() else source.parent.parent)
    if not run.recipe.is_file():
        return None

    def groups_for(counts: CategoryCounts) -> ChosenGroups | None:
        groups = trained_groups(run.data, run.load_recipe(), counts)
        listed = sorted(i for group in groups for i in group.category_ids)
        # data of other categories has other groups
        if listed != sorted(counts.category_ids.tolist()):
            return None
        return ChosenGroups(groups, f"{trained_groups_source(run.data)}, as {run.path} was trained with")

    return groups_for


def _trained_model(recipe: Recipe, data: RunData, source: Path) -> FromRun:
    """The model of a run, all of it: a fresh layer could not be calibrated."""
    taken = model_from_run(recipe, data, source)
    report = taken.report
    if report.reinitialised:
        raise DataError(
            f"{source}: {', '.join(report.reinitialised)} does not fit head={recipe.head.name}, these categories and "
            "groups, "
            "and would start anew; a calibration needs trained layers: give the run's own head and data, and leave out "
            "data.groups"
        )
    set_trainable(taken.model, "none")
    return taken


def _opening_lines(recipe: Recipe, data: RunData, source: Path, notes: Sequence[str]) -> list[str]:
    options = " ".join(f"{key}={value}" for key, value in recipe.calibration.model_dump().items() if key != "name")
    return [
        f"method {recipe.method}: head={recipe.head.name} calibration={recipe.calibration.name} {options}",
        *beaten_in(recipe),
        *notes,
        f"weights from {source}",
        f"data: {len(data.dataset):,} images, {len(data.train.counts.names)} categories",
        describe_groups(data),
        *data.notes,
    ]


def _fit(
    model: LongTailDetector,
    recipe: Recipe,
    data: RunData,
    processes: Processes,
    bad_images: BadImages | None,
    known: Known | None,
) -> list[str]:
    """What the calibration takes from classifier, boxes and one pass over the training images; notes."""
    calibration = _calibration_of(model)
    model.start_calibration()
    if calibration.wants_boxes:
        # every process looks at all of them: no image is opened
        centres, labels = box_centres(data.train, annotations_outside(data.train, data.held_out))
        calibration.fit_boxes(torch.from_numpy(centres), torch.from_numpy(labels))
    if calibration.regions != "none":
        one_pass = Plan(recipe.seed, len(data.dataset), recipe.optim.batch, accumulate=1, epochs=1)
        batches = processes.share([list(batch) for step in one_pass.steps() for batch in step.batches])
        model.train()
        done, total = 0, sum(map(len, batches))
        device = next(model.parameters()).device
        memory = named_memory("fitting", training_advice(recipe))
        with memory, Bar("fitting") if processes.is_first else nullcontext(SILENT) as bar:
            left_out = None if bad_images is None else bad_images.add
            # classes are described by their own objects, not by pasted or changed ones
            dataset = data.dataset.unchanged() if known is None else known.dataset(model)
            for inputs, targets in make_loader(dataset, batches, workers=recipe.data.workers, left_out=left_out):
                processes.check()
                if not inputs:
                    continue
                if known is None:
                    model.fit_calibration(
                        [as_input(image, device) for image in inputs], [on_device(target, device) for target in targets]
                    )
                else:
                    labelled = known.labelled(model, inputs, calibration.features)
                    for part, regions in zip(calibration.parts, labelled, strict=True):
                        part.fit(*regions)
                done += len(inputs)
                bar(done, total)
        model.eval()
    with sharing(processes.world):
        for buffer in calibration.counted():
            buffer.copy_(summed(buffer))
    return calibration.finish()


def _calibration_of(model: LongTailDetector) -> Calibration:
    calibration = model.calibration
    assert calibration is not None, "internal error: the recipe has a calibration"
    return calibration


def _evaluate(
    model: LongTailDetector,
    recipe: Recipe,
    data: RunData,
    run: RunDir,
    log: RunLog | SilentLog,
    processes: Processes,
    known: Known | None,
) -> None:
    if data.val is None:
        log.line("no validation data: no evaluation")
        return
    validation = None if known is None else known.of(data.val)
    measured = evaluate_model(
        model,
        data.val,
        recipe,
        counts=data.train.counts,
        groups=data.groups,
        out=run.evaluation,
        processes=processes,
        predictor=None if validation is None else validation.predict,
        choices=None if validation is None else Choices(boxes_only=True),
    )
    for line in measured.text.splitlines() if measured is not None else ():
        log.line(line)
