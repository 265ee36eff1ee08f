"""Evaluating runs from features: one, or several that share their frozen weights in one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lt_data.annotations.same_categories import check_same_categories
from lt_data.errors import DataError, LtError, RecipeError
from lt_train.data.detection_data import DetectionData
from lt_train.detectors import LongTailDetector
from lt_train.evaluation import Detections, evaluation_groups
from lt_train.evaluation.directory import METRICS, check_evaluation_dir, read_metrics
from lt_train.evaluation.measure import Choices, Measured
from lt_train.features.evaluation import KnownValidation, System, check_fits, open_validation
from lt_train.features.image_files import check_images
from lt_train.features.reading import Cache, open_cache
from lt_train.features.stores import PutAside, collected
from lt_train.inference.detect import load_trained
from lt_train.inference.evaluate_run import evaluate_run, evaluation_place
from lt_train.processes import Processes, run_together
from lt_train.recipe.paths import VAL_PATHS, check_paths
from lt_train.recipe.sections import Recipe, has_masks
from lt_train.runs.data import load_validation
from lt_train.runs.directory import RunDir

# told of a run, what was measured, and where that was written
Each = Callable[[Path, Measured, Path], None]


@dataclass(frozen=True)
class Systems:
    """What became of several runs.

    Attributes:
        measured: Runs that were measured, and where that was written.
        left_out: Those that were measured before.
        problems: A line for each thing that kept one from being measured.
    """

    measured: tuple[tuple[Path, Path], ...]
    left_out: tuple[Path, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Asked:
    """What is wanted of every run.

    Attributes:
        cache: Features of the validation images.
        features: Where they are, as somebody gave it.
        how: Arguments of :func:`lt_train.inference.evaluate_run.evaluate_run`.
        missing: Whether runs that are measured already are left out.
    """

    cache: Cache
    features: Path
    how: dict[str, Any]
    missing: bool

    def masks(self, recipe: Recipe) -> bool:
        """Whether masks of a run are measured."""
        return _with_masks(recipe, self.how["choices"])


@dataclass(frozen=True)
class _Ready:
    """A run that nothing stands in the way of.

    Attributes:
        path: Its directory.
        system: Its detector, which shares what it has in common with others.
        data: What it is measured on.
        store: What it finds.
    """

    path: Path
    system: System
    data: DetectionData
    store: PutAside


def evaluate_from_features(
    run: Path, features: Path, *, choices: Choices | None = None, **options: Any
) -> tuple[Measured, Path] | None:
    """Evaluates a checkpoint of a run on its validation images without proposals and region features being computed.

    Args:
        run: The run directory.
        features: What ``lt-train cache --out`` was given.
        choices: How to measure. Unless it is boxes only, the trunk of a detector with masks sees every image.
        **options: Of :func:`lt_train.inference.evaluate_run.evaluate_run`.

    Returns:
        As there.

    Raises:
        LtError: As there; and the features do not fit.
    """

    def predict(
        model: LongTailDetector, data: DetectionData, recipe: Recipe, *, processes: Processes | None = None
    ) -> Detections | None:
        processes = processes or Processes()
        known = open_validation(features, recipe, data, model, processes)
        return known.predict_alone(model, data, recipe, processes, masks=_with_masks(recipe, choices))

    return evaluate_run(run, choices=choices, predictor=predict, **options)


def evaluate_systems(
    runs: Sequence[Path],
    features: Path,
    *,
    checkpoint: str = "last",
    groups: str | None = None,
    choices: Choices | None = None,
    device: str | None = None,
    root: Path | None = None,
    missing: bool = False,
    force: bool = False,
    each: Each = lambda run, measured, out: None,
    processes: Processes | None = None,
) -> Systems | None:
    """Evaluates several runs in one pass over the validation images: for masks the trunk sees each image once.

    Each is measured and written as :func:`evaluate_from_features` does it alone. What they share is in memory once, and
    what they find lies in a file of each until it is measured, one run after the other. A run that cannot be measured
    does not stop the others.

    Args:
        runs: Run directories with the frozen weights of the features and the same validation data.
        features: What ``lt-train cache --out`` was given.
        checkpoint: ``last`` or ``best``.
        groups: As for :func:`lt_train.inference.evaluate_run.evaluate_run`, as are the following.
        choices: How to measure.
        device: Device, the first recipe's unless given.
        root: What the relative paths of the recipes are relative to now.
        missing: Leave out runs whose checkpoint is measured already, with masks where they are wanted.
        force: Replace evaluations that exist elsewhere than in ``RUN/eval``.
        each: Called when a run has just been measured.
        processes: This process among those that have found each other; unless given, they look for each other here.

    Returns:
        What became of them; ``None`` in all processes but the first.

    Raises:
        DataError: The features are not whole, or images have changed since.
    """
    how: dict[str, Any] = {"checkpoint": checkpoint, "groups": groups, "choices": choices}
    # with --missing, what is there and not all that is wanted is renewed
    how |= {"device": device, "root": root, "force": force or missing}

    def work(processes: Processes) -> Systems:
        asked = _Asked(open_cache(features, "val", processes), features, how, missing)
        ready, left_out, problems = _ready_ones(list(dict.fromkeys(runs)), asked, processes)
        if ready:
            # they have the same
            check_images(asked.cache, ready[0].data.paths, processes)
        for masks in (True, False):
            _look([one for one in ready if asked.masks(one.system.recipe) == masks], asked, processes, masks=masks)
        measured = []
        for one in ready:
            found = collected(one.store, one.data, processes)
            one.store.close()
            # the other processes wait for the next run
            if found is not None:
                try:
                    measured.append((one.path, _measure(one.path, found, asked, each)))
                except LtError as error:
                    problems += _lines(one.path, error)
        return Systems(tuple(measured), tuple(left_out), tuple(problems))

    if processes is None:
        return run_together(work)
    found = work(processes)
    return found if processes.is_first else None


def _ready_ones(
    runs: Sequence[Path], asked: _Asked, processes: Processes
) -> tuple[list[_Ready], list[Path], list[str]]:
    """Runs that can be measured, those that are already, and what is wrong with the others."""
    ready, left_out, problems = list[_Ready](), list[Path](), list[str]()
    for run in runs:
        one, error = None, None
        try:
            one = _ready(RunDir(run), asked, processes, ready)
        except LtError as raised:
            error = raised
        # a run is measured by all processes or by none
        if processes.agree(error is not None):
            problems += _lines(run, error or DataError("another process cannot use it; its own output says why"))
        elif processes.agree(one is None):
            left_out.append(run)
        elif one is not None:
            ready.append(one)
    return ready, left_out, problems


def _lines(run: Path, error: LtError) -> list[str]:
    return [line if str(run) in line else f"{run}: {line}" for line in error.problems]


def _ready(run: RunDir, asked: _Asked, processes: Processes, others: Sequence[_Ready]) -> _Ready | None:
    """A run with all that it needs; ``None`` if it is measured already.

    Raises:
        LtError: It cannot be measured, or not together with the others.
    """
    how, recipe = asked.how, run.load_recipe(asked.how["root"])
    place = evaluation_place(run, recipe, how["checkpoint"], choices=how["choices"])
    kinds = ("bbox", "segm") if asked.masks(recipe) else ("bbox",)
    if asked.missing and _is_measured(place, run.checkpoint(how["checkpoint"]), kinds):
        return None
    if place != run.evaluation:
        check_evaluation_dir(place, force=how["force"])
    first = others[0] if others else None
    device = how["device"] if first is None else str(next(first.system.model.parameters()).device)
    trained = load_trained(run, how["checkpoint"], device=device, processes=processes)
    if how["groups"] is not None:
        evaluation_groups(how["groups"], trained.counts)
    data = _validation(run, recipe, trained.counts, first, masks=asked.masks(recipe))
    check_fits(asked.cache, asked.features, recipe, data, trained.model)
    if first is not None:
        _share_equal_weights(trained.model, first.system.model)
    return _Ready(run.path, System(trained.model, recipe), data, PutAside(run.path))


def _is_measured(place: Path, checkpoint: Path, kinds: Sequence[str]) -> bool:
    """Whether an evaluation has all that is wanted, and came after its checkpoint."""
    try:
        metrics = read_metrics(place)
        return all(kind in metrics for kind in kinds) and _time(place / METRICS) >= _time(checkpoint)
    except (DataError, OSError):
        return False


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns


def _validation(run: RunDir, recipe: Recipe, counts: Any, first: _Ready | None, *, masks: bool) -> DetectionData:
    """What a run is measured on; the first one's data if that is the same.

    Raises:
        LtError: It has none, which cannot be used, or other images than the first one.
    """
    val = recipe.data.val
    if val is None:
        raise RecipeError(f"{run.path}: its recipe has no data.val; there is nothing to evaluate it on")
    check_paths(recipe, VAL_PATHS)
    theirs = None if first is None else first.system.recipe.data
    if first is None or theirs is None or theirs.val is None:
        return load_validation(val, counts, masks=masks, reading=recipe.data.reading)
    if val.images.resolve() != theirs.val.images.resolve():
        raise DataError(
            f"{run.path}: its validation images are in {val.images}, those of {first.path} in {theirs.val.images}; "
            "evaluate it alone"
        )
    if val.annotations.resolve() == theirs.val.annotations.resolve() and recipe.data.reading == theirs.reading:
        check_same_categories(first.data.file, counts.category_ids, counts.names, other="the training file")
        return first.data
    return load_validation(val, counts, masks=masks, reading=recipe.data.reading)


def _share_equal_weights(model: LongTailDetector, first: LongTailDetector) -> None:
    """Lets a model have the tensors of another where they are equal: memory holds them once."""
    theirs = {**dict(first.named_parameters()), **dict(first.named_buffers())}
    for name, own in (*model.named_parameters(), *model.named_buffers()):
        other = theirs.get(name)
        if other is not None and _alike(own, other) and own.equal(other):
            own.data = other.data


def _alike(own: Tensor, other: Tensor) -> bool:
    """Whether two tensors lie in memory alike: with other strides, as of ``channels_last``, layers round otherwise."""
    return (own.dtype, own.device, own.shape, own.stride()) == (other.dtype, other.device, other.shape, other.stride())


def _look(ready: Sequence[_Ready], asked: _Asked, processes: Processes, *, masks: bool) -> None:
    """One pass over the images for these runs."""
    if ready:
        known = KnownValidation(asked.cache)
        systems, stores = [one.system for one in ready], [one.store for one in ready]
        known.predict_systems(systems, ready[0].data, processes, stores, masks=masks)


def _measure(run: Path, found: Detections, asked: _Asked, each: Each) -> Path:
    """Measures what a run has found, and writes it where its evaluation alone would be."""
    done = evaluate_run(run, predictor=_given(found), processes=Processes(), **asked.how)
    assert done is not None, "internal error: one process measures"
    each(run, *done)
    return done[1]


def _with_masks(recipe: Recipe, choices: Choices | None) -> bool:
    return has_masks(recipe) and not (choices and choices.boxes_only)


def _given(found: Detections) -> Any:
    """What stands for predicting where that is done."""

    def predict(*_: Any, processes: Processes | None = None) -> Detections:
        return found

    return predict
