"""Training and evaluation of torchvision detectors on long-tailed data.

These are the public names; importing the package loads none of them before it is used, and PyTorch only with those that
need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lt_data.lazy import lazily

if TYPE_CHECKING:
    from lt_train.calibration import make_calibration as make_calibration
    from lt_train.detectors.build import build_detector as build_detector
    from lt_train.detectors.detector import LongTailDetector as LongTailDetector
    from lt_train.detectors.table import DETECTORS as DETECTORS
    from lt_train.engine.calibrate import calibrate_run as calibrate_run
    from lt_train.engine.fit import fit as fit
    from lt_train.engine.start import start_or_resume as start_or_resume
    from lt_train.evaluation.comparison.compare import compare as compare
    from lt_train.evaluation.comparison.compare import compare_evaluations as compare_evaluations
    from lt_train.evaluation.comparison.differences import Comparison as Comparison
    from lt_train.evaluation.figures.average_precision import Evaluation as Evaluation
    from lt_train.evaluation.figures.average_precision import evaluate as evaluate
    from lt_train.evaluation.figures.metrics import summarise as summarise
    from lt_train.evaluation.measure import Choices as Choices
    from lt_train.evaluation.measure import Measured as Measured
    from lt_train.evaluation.measure import evaluate_predictions as evaluate_predictions
    from lt_train.evaluation.predictions.columns import Detections as Detections
    from lt_train.evaluation.predictions.reading import read_detections as read_detections
    from lt_train.evaluation.truth.columns import GroundTruth as GroundTruth
    from lt_train.evaluation.truth.columns import load_ground_truth as load_ground_truth
    from lt_train.features.cache import cache_run as cache_run
    from lt_train.features.systems import evaluate_from_features as evaluate_from_features
    from lt_train.heads import HEADS as HEADS
    from lt_train.heads import make_head as make_head
    from lt_train.heads import make_head_with_background_last as make_head_with_background_last
    from lt_train.inference.evaluate_run import evaluate_run as evaluate_run
    from lt_train.inference.found import Found as Found
    from lt_train.inference.load import TrainedModel as TrainedModel
    from lt_train.inference.load import load as load
    from lt_train.inference.predict_images import predict_images as predict_images
    from lt_train.recipe.load import load_recipe as load_recipe
    from lt_train.recipe.load import make_recipe as make_recipe
    from lt_train.recipe.method import Method as Method
    from lt_train.recipe.methods import METHODS as METHODS
    from lt_train.recipe.methods import fills as fills
    from lt_train.recipe.sections import Files as Files
    from lt_train.recipe.sections import Recipe as Recipe
    from lt_train.runs.directory import RunDir as RunDir

# where each name is defined, which is imported when somebody asks for it
_HOMES = {
    "Choices": "lt_train.evaluation.measure",
    "Comparison": "lt_train.evaluation.comparison.differences",
    "DETECTORS": "lt_train.detectors.table",
    "Detections": "lt_train.evaluation.predictions.columns",
    "Evaluation": "lt_train.evaluation.figures.average_precision",
    "Files": "lt_train.recipe.sections",
    "Found": "lt_train.inference.found",
    "GroundTruth": "lt_train.evaluation.truth.columns",
    "HEADS": "lt_train.heads",
    "LongTailDetector": "lt_train.detectors.detector",
    "METHODS": "lt_train.recipe.methods",
    "Measured": "lt_train.evaluation.measure",
    "Method": "lt_train.recipe.method",
    "Recipe": "lt_train.recipe.sections",
    "RunDir": "lt_train.runs.directory",
    "TrainedModel": "lt_train.inference.load",
    "build_detector": "lt_train.detectors.build",
    "cache_run": "lt_train.features.cache",
    "calibrate_run": "lt_train.engine.calibrate",
    "compare": "lt_train.evaluation.comparison.compare",
    "compare_evaluations": "lt_train.evaluation.comparison.compare",
    "evaluate": "lt_train.evaluation.figures.average_precision",
    "evaluate_from_features": "lt_train.features.systems",
    "evaluate_predictions": "lt_train.evaluation.measure",
    "evaluate_run": "lt_train.inference.evaluate_run",
    "fills": "lt_train.recipe.methods",
    "fit": "lt_train.engine.fit",
    "load": "lt_train.inference.load",
    "load_ground_truth": "lt_train.evaluation.truth.columns",
    "load_recipe": "lt_train.recipe.load",
    "make_calibration": "lt_train.calibration",
    "make_head": "lt_train.heads",
    "make_head_with_background_last": "lt_train.heads",
    "make_recipe": "lt_train.recipe.load",
    "predict_images": "lt_train.inference.predict_images",
    "read_detections": "lt_train.evaluation.predictions.reading",
    "start_or_resume": "lt_train.engine.start",
    "summarise": "lt_train.evaluation.figures.metrics",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    return lazily(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
