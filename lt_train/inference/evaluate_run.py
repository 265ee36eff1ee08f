"""Predictions of a model on a data set, measured and written: AP of boxes and masks, overall, per group, per class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from lt_data.counts.categories import CategoryCounts
from lt_data.errors import RecipeError
from lt_data.groups import Group
from lt_train.data.detection_data import DetectionData
from lt_train.detectors import LongTailDetector
from lt_train.detectors.second_head import Scores
from lt_train.evaluation import Detections, evaluation_groups, write_evaluation
from lt_train.evaluation.chosen_on import chosen_on_notes
from lt_train.evaluation.directory import check_evaluation_dir
from lt_train.evaluation.measure import Choices, Measured, measure
from lt_train.inference.detect import ImageList, detect, load_trained
from lt_train.inference.kept_regions import few_regions_kept
from lt_train.processes import Processes, run_together
from lt_train.recipe.paths import VAL_PATHS, check_paths
from lt_train.recipe.sections import Files, Recipe, has_masks
from lt_train.runs.data import ValidationData, load_validation
from lt_train.runs.directory import RunDir


class Predictor(Protocol):
    """What finds detections of every image of a data set, as :func:`predict` does."""

    def __call__(
        self, model: LongTailDetector, data: DetectionData, recipe: Recipe, *, processes: Processes | None = None
    ) -> Detections | None:
        """The detections, in the order of the file; ``None`` in all processes but the first."""


@dataclass(frozen=True)
class _Predicted:
    """What a run found with all that is needed to measure it.

    Attributes:
        warnings: What is wrong with the model's scores; these lines stand above the figures, in a log too.
        odd: What is odd about the data that is measured, for whoever asked for the evaluation.
    """

    detections: Detections
    data: ValidationData
    recipe: Recipe
    counts: CategoryCounts
    groups: tuple[Group, ...]
    out: Path
    warnings: tuple[str, ...]
    odd: tuple[str, ...] = ()


def evaluate_run(
    path: Path | str,
    *,
    checkpoint: str = "last",
    files: Files | None = None,
    groups: str | None = None,
    choices: Choices | None = None,
    out: Path | str | None = None,
    force: bool = False,
    device: str | None = None,
    root: Path | None = None,
    scores: Scores | None = None,
    predictor: Predictor | None = None,
    processes: Processes | None = None,
) -> tuple[Measured, Path] | None:
    """Evaluates a checkpoint of a run, in one process or in those that torchrun started.

    Args:
        path: The run directory.
        checkpoint: ``last`` or ``best``.
        files: Annotations and images to evaluate on; the recipe's validation data unless given.
        groups: A preset, bounds such as ``10,100,1000``, ``coco-lt-paper`` or a groups file; those that the run was
            trained with unless given.
        choices: How to measure.
        out: Where to write; ``eval`` in the run directory for the run's own data and last checkpoint, which is renewed
            (never by boxes alone where there are masks).
        force: Replace an evaluation that exists elsewhere.
        device: Device, the recipe's unless given; several processes have a GPU each where it leaves the choice.
        root: What the relative paths of the run's recipe are relative to now, see :meth:`RunDir.load_recipe`.
        scores: Of which heads, for a run with a second one; the recipe's unless given.
        predictor: What finds the detections, in place of the whole network.
        processes: This process among those that have found each other; unless given, they look for each other here.

    Returns:
        The evaluation and the directory that it was written to; ``None`` in all processes but the first.

    Raises:
        DataError: The run, the checkpoint, the groups or the data cannot be used.
        OutputError: The output exists.
        RecipeError: Scores are chosen, and the run has one head.
    """
    run, wanted = RunDir(Path(path)), None if out is None else Path(out)

    def work(processes: Processes) -> _Predicted | None:
        recipe = run.load_recipe(root)
        masks = has_masks(recipe) and not (choices and choices.boxes_only)
        _check_scores(recipe, scores, path)
        where = wanted or evaluation_place(run, recipe, checkpoint, files=files, choices=choices, scores=scores)
        if wanted is not None or where != run.evaluation:
            check_evaluation_dir(where, force=force, inputs=[files.annotations] if files else [])
        source = files or _own_data(recipe, path)
        trained = load_trained(run, checkpoint, device=device, processes=processes)
        if scores is not None:
            trained.model.score_by(scores)
        chosen = trained.groups if groups is None else evaluation_groups(groups, trained.counts)
        data = load_validation(source, trained.counts, masks=masks, reading=recipe.data.reading)
        found = (predictor or predict)(trained.model, data, recipe, processes=processes)
        if found is None:
            return None
        warnings, odd = _warnings(trained.model, data, recipe), _odd(run, data, trained.train_sha256)
        return _Predicted(found, data, recipe, trained.counts, chosen, where, warnings, odd)

    predicted = run_together(work) if processes is None else work(processes)
    if predicted is None:
        return None
    measured = _measure_and_write(predicted, choices)
    return replace(measured, notes=predicted.data.notes), predicted.out


def _check_scores(recipe: Recipe, scores: Scores | None, path: Path | str) -> None:
    """Refuses a choice between two heads for a run that has one.

    Raises:
        RecipeError: It is so.
    """
    if scores is not None and recipe.second_head.kind == "none":
        raise RecipeError(f"--scores: got {scores}, and {path} has one head; leave it out")


def _own_data(recipe: Recipe, path: Path | str) -> Files:
    """The validation data of a run's recipe.

    Raises:
        RecipeError: It has none.
        DataError: A relative path leads nowhere.
    """
    if recipe.data.val is None:
        raise RecipeError(f"{path}: its recipe has no data.val; give --annotations and --images")
    check_paths(recipe, VAL_PATHS)
    return recipe.data.val


def _odd(run: RunDir, data: DetectionData, train_sha256: str) -> tuple[str, ...]:
    """What is odd about measuring a run on this data: it has been seen in training, or something was chosen on it."""
    file = data.file
    trained = f"{file.path.name} is the file that the run was trained on: its figures say nothing about new images"
    return (*[trained] * (file.sha256 == train_sha256), *chosen_on_notes(run.data, file.path, file.sha256))


def evaluation_place(
    run: RunDir,
    recipe: Recipe,
    checkpoint: str,
    *,
    files: Files | None = None,
    choices: Choices | None = None,
    scores: Scores | None = None,
) -> Path:
    """Where an evaluation of a run is written unless somebody says where.

    ``RUN/eval``, which every training renews, is of the run's own data, last checkpoint and all that it finds.

    Args:
        run: The run directory.
        recipe: Of the run.
        checkpoint: ``last`` or ``best``.
        files: What it is measured on, if that is not its own validation data.
        choices: How to measure.
        scores: Of which heads, if that is not what the recipe says.
    """
    boxes_only = has_masks(recipe) and choices is not None and choices.boxes_only
    part = ("-boxes" if boxes_only else "") + (f"-{scores}" if scores else "")
    if files is None and checkpoint == "last" and not part:
        return run.evaluation
    stem = f"-{files.annotations.stem}" if files else ""
    return run.path / f"eval-{checkpoint}{stem}{part}"


def evaluate_model(
    model: LongTailDetector,
    data: ValidationData,
    recipe: Recipe,
    *,
    counts: CategoryCounts,
    groups: tuple[Group, ...],
    out: Path,
    processes: Processes | None = None,
    predictor: Predictor | None = None,
    choices: Choices | None = None,
) -> Measured | None:
    """Predicts, measures and writes ``metrics.json``, ``per_class.csv``, ``inputs.json`` and ``predictions.json``.

    Args:
        model: The detector, on its device.
        data: What to evaluate on.
        recipe: Batch size, workers and whether there are masks.
        counts: Counts of the training file.
        groups: Groups of the training file.
        out: Directory to write to.
        processes: This process among others, each of which predicts its share.
        predictor: What finds the detections, in place of the whole network.
        choices: How to measure.

    Returns:
        The evaluation; ``None`` in all processes but the first.
    """
    found = (predictor or predict)(model, data, recipe, processes=processes)
    if found is None:
        return None
    predicted = _Predicted(found, data, recipe, counts, groups, out, _warnings(model, data, recipe))
    return _measure_and_write(predicted, choices)


def _warnings(model: LongTailDetector, data: DetectionData, recipe: Recipe) -> tuple[str, ...]:
    """What is wrong with the scores of a model, if they are a calibration's."""
    return () if model.calibration is None else few_regions_kept(model, ImageList.of(data), recipe)


def _measure_and_write(predicted: _Predicted, choices: Choices | None = None) -> Measured:
    measured = measure(
        predicted.data.file,
        predicted.detections,
        truth=predicted.data.truth,
        iou_types=("bbox", "segm") if has_masks(predicted.recipe) else ("bbox",),
        groups=predicted.groups,
        train_counts=predicted.counts,
        choices=choices,
        with_confusion=True,
    )
    write_evaluation(
        predicted.out,
        measured.metrics,
        measured.per_class,
        predicted.detections,
        inputs=measured.inputs,
        confusion=measured.confusion,
    )
    text = "\n".join([*predicted.warnings, measured.text])
    return replace(measured, text=text, warnings=(*predicted.odd, *measured.warnings))


def predict(
    model: LongTailDetector,
    data: DetectionData,
    recipe: Recipe,
    *,
    processes: Processes | None = None,
) -> Detections | None:
    """Detections of every image, in the order of the file.

    Args:
        model: The detector, on its device; left in the mode it was in.
        data: The images.
        recipe: Batch size and workers.
        processes: This process among others that do their share.

    Returns:
        The detections; ``None`` in all processes but the first.

    Raises:
        DataError: An image cannot be read, or another process is gone.
    """
    images = ImageList.of(data)
    found = detect(model, images, recipe, category_ids=data.ids, processes=processes)
    return None if found is None else found.detections()
