"""Evaluation of COCO results: AP for boxes and masks, per class and per instance-count group of the training set.

Nothing here imports torch but the pasting of masks, when it is called.
"""

from .coco import Evaluation, evaluate_coco
from .detections import check_results
from .files import read_results, write_evaluation, write_per_class, write_results
from .ground_truth import GroundTruth, load_ground_truth
from .metrics import summarise
from .paste import paste_masks_to_rle
from .per_class import per_class_rows
from .results import detection_results
from .tables import format_metrics

__all__ = [
    "Evaluation",
    "GroundTruth",
    "check_results",
    "detection_results",
    "evaluate_coco",
    "format_metrics",
    "load_ground_truth",
    "paste_masks_to_rle",
    "per_class_rows",
    "read_results",
    "summarise",
    "write_evaluation",
    "write_per_class",
    "write_results",
]
