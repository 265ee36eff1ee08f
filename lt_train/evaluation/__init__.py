"""Evaluation of COCO and LVIS results: AP for boxes and masks, per class and per group of the training set.

Nothing here imports torch.
"""

from .detections import Detections, check_results, read_detections
from .evaluate import Evaluation, evaluate
from .files import write_evaluation, write_per_class, write_results
from .ground_truth import GroundTruth, load_ground_truth
from .group_sets import evaluation_groups
from .metrics import summarise
from .paste import paste_masks_to_rle
from .per_class import per_class_rows
from .problems import Problem
from .results import detection_results
from .tables import format_metrics

__all__ = [
    "Detections",
    "Evaluation",
    "GroundTruth",
    "Problem",
    "check_results",
    "detection_results",
    "evaluate",
    "evaluation_groups",
    "format_metrics",
    "load_ground_truth",
    "paste_masks_to_rle",
    "per_class_rows",
    "read_detections",
    "summarise",
    "write_evaluation",
    "write_per_class",
    "write_results",
]
