"""Evaluation of COCO and LVIS results: AP for boxes and masks, per class and per group of the training set.

Nothing here imports torch.
"""

from lt_train.evaluation.directory import write_evaluation, write_per_class, write_results
from lt_train.evaluation.figures.average_precision import Evaluation, evaluate, evaluate_checked
from lt_train.evaluation.figures.group_sets import evaluation_groups
from lt_train.evaluation.figures.metrics import summarise
from lt_train.evaluation.figures.per_class import per_class_rows
from lt_train.evaluation.figures.table import format_metrics
from lt_train.evaluation.predictions.columns import CheckedDetections, Detections, Problem, join_detections
from lt_train.evaluation.predictions.of_model import model_detections
from lt_train.evaluation.predictions.paste import paste_masks_to_rle
from lt_train.evaluation.predictions.reading import check_results, read_detections
from lt_train.evaluation.truth.columns import GroundTruth, load_ground_truth

__all__ = [
    "CheckedDetections",
    "Detections",
    "Evaluation",
    "GroundTruth",
    "Problem",
    "check_results",
    "evaluate",
    "evaluate_checked",
    "evaluation_groups",
    "format_metrics",
    "join_detections",
    "load_ground_truth",
    "model_detections",
    "paste_masks_to_rle",
    "per_class_rows",
    "read_detections",
    "summarise",
    "write_evaluation",
    "write_per_class",
    "write_results",
]
