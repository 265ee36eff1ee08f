"""Evaluating runs from features: one, or several that share their frozen weights in one pass over the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lt_data.errors import RecipeError
from lt_train.data.detection_data import DetectionData
from lt_train.detectors import LongTailDetector
from lt_train.evaluation import Detections
from lt_train.evaluation.measure import Choices, Measured
from lt_train.features.evaluation import open_validation
from lt_train.inference.detect import load_trained
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.processes import Processes, run_together
from lt_train.recipe.sections import Recipe, has_masks
from lt_train.runs.data import load_validation
from lt_train.runs.directory import RunDir


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
        found = known.predict_systems([model], data, recipe, processes, masks=_with_masks(recipe, choices))
        return None if found is None else found[0]

    return evaluate_run(run, choices=choices, predictor=predict, **options)


def evaluate_systems(
    runs: Sequence[Path],
    features: Path,
    *,
    checkpoint: str = "last",
    choices: Choices | None = None,
    device: str | None = None,
    **options: Any,
) -> list[tuple[Measured, Path]] | None:
    """Evaluates several runs in one pass over the validation images: for masks the trunk sees each image once.

    Args:
        runs: Run directories with the frozen weights of the features and the same validation data.
        features: What ``lt-train cache --out`` was given.
        checkpoint: ``last`` or ``best``.
        choices: How to measure.
        device: Device, the first recipe's unless given.
        **options: Of :func:`lt_train.inference.evaluate_run.evaluate_run`, the same for all runs.

    Returns:
        What that function gives for each run; ``None`` in all processes but the first.

    Raises:
        LtError: As there; and the features do not fit one of the runs.
    """

    def work(processes: Processes) -> list[Detections] | None:
        models: list[LongTailDetector] = []
        for run in runs:
            trained = load_trained(RunDir(run), checkpoint, device=device, processes=processes)
            if not models:
                first = trained
                data = _validation(run, first.recipe, first.counts)
            known = open_validation(features, trained.recipe, data, trained.model, processes)
            models.append(_sharing_frozen(trained.model, models[0] if models else trained.model))
        masks = _with_masks(first.recipe, choices)
        return known.predict_systems(models, data, first.recipe, processes, masks=masks)

    found = run_together(work)
    if found is None:
        return None
    # the others are gone
    how = {"checkpoint": checkpoint, "choices": choices, "device": device, "processes": Processes(), **options}
    measured = [evaluate_run(run, predictor=_given(one), **how) for run, one in zip(runs, found, strict=True)]
    return [one for one in measured if one is not None]


def _validation(run: Path, recipe: Recipe, counts: Any) -> DetectionData:
    if recipe.data.val is None:
        raise RecipeError(f"{run}: its recipe has no data.val; there is nothing to evaluate it on")
    return load_validation(recipe.data.val, counts, masks=False, reading=recipe.data.reading)


def _sharing_frozen(model: LongTailDetector, first: LongTailDetector) -> LongTailDetector:
    """The model with the frozen layers of another, which have the same weights: memory holds them once."""
    model.backbone, model.rpn = first.backbone, first.rpn
    for stage, other in zip(model.roi_heads.of_stages, first.roi_heads.of_stages, strict=True):
        stage.box_head = other.box_head
    return model


def _with_masks(recipe: Recipe, choices: Choices | None) -> bool:
    return has_masks(recipe) and not (choices and choices.boxes_only)


def _given(found: Detections) -> Any:
    """What stands for predicting where that is done."""

    def predict(*_: Any, processes: Processes | None = None) -> Detections:
        return found

    return predict
