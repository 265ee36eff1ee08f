"""The evaluators with one signature: hotcoco (fast), and pycocotools and lvis (the official reference).

All take the same columns and give ``(precision [T, R, K, A], recall [T, K, A])`` with -1 where nothing could be
measured: T IoU thresholds .50:.05:.95, R 101 recall points, K categories ascending, A areas all / small / medium /
large (limits 32^2 and 96^2 px^2).
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import sys
from typing import Final, Literal

from lt_data.errors import RecipeError
from lt_data.versions import install_command, version_of
from lt_train.evaluation.engines.curves import Curves
from lt_train.evaluation.engines.fast import run_hotcoco
from lt_train.evaluation.engines.lvis_package import find_lvis
from lt_train.evaluation.engines.official import run_lvis, run_pycocotools
from lt_train.evaluation.engines.protocols import Protocol
from lt_train.evaluation.engines.self_check import disagreement
from lt_train.evaluation.predictions.columns import Detections, IouType
from lt_train.evaluation.truth.columns import GroundTruth

EngineName = Literal["auto", "fast", "official"]
Engine = Literal["hotcoco", "pycocotools", "lvis"]

_OFFICIAL: Final[dict[Protocol, Engine]] = {"coco": "pycocotools", "lvis": "lvis"}

log = logging.getLogger(__name__)


def choose_engine(engine: EngineName, protocol: Protocol) -> Engine:
    """Name the evaluator to use.

    Args:
        engine: ``fast`` is hotcoco, which must give the official figures on a small built-in case (checked once per
            process); ``official`` is pycocotools or, for the protocol ``lvis``, the package of that name; ``auto`` is
            hotcoco where ``fast`` would be taken, else the official one with a warning (once per process).
        protocol: The protocol to measure by.

    Raises:
        RecipeError: Another name, an engine that is not installed, or hotcoco does not give the official figures.
    """
    if engine not in ("auto", "fast", "official"):
        raise RecipeError(f"evaluation engine {engine!r} is unknown; allowed are auto, fast, official")
    official = _OFFICIAL[protocol]
    has_official = official == "pycocotools" or find_lvis() is not None
    if engine == "official":
        if not has_official:
            raise RecipeError(
                f"evaluation engine 'official' needs the package lvis for the protocol lvis: "
                f"{install_command('official')}, or choose 'fast'"
            )
        return official
    installed = importlib.util.find_spec("hotcoco") is not None
    reason = disagreement(protocol) if installed else f"hotcoco is not installed ({install_command('eval')})"
    if not reason:
        return "hotcoco"
    if engine == "fast":
        raise RecipeError(f"evaluation engine 'fast': {reason}; choose official or auto")
    if not has_official:
        raise RecipeError(
            f"nothing can evaluate the protocol lvis: {reason}, and lvis is not there ({install_command('official')})"
        )
    _warn(official, reason)
    return official


@functools.cache
def _warn(official: Engine, reason: str) -> None:
    """Once per process, not for boxes, masks and every evaluation of a training anew."""
    log.warning("evaluating with %s, which is slower and uses more memory: %s", official, reason)


def engine_version(engine: Engine) -> str:
    """Package name and version, as reports print it."""
    # reading what is installed takes as long as evaluating a small file: only for packages that do not say it
    package = sys.modules.get(engine)
    said = getattr(package, "__version__", None)
    return f"{engine} {said or version_of(engine) or 'of unknown version'}"


def run_engine(
    engine: Engine,
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou_type: IouType,
    protocol: Protocol,
    max_detections: int,
) -> Curves:
    """Evaluates with the chosen engine.

    Args:
        engine: What :func:`choose_engine` returned for the protocol.
        ground_truth: The annotations, as :func:`lt_train.evaluation.engines.protocols.as_counted` gives them.
        detections: Checked detections.
        iou_type: ``bbox`` or ``segm``.
        protocol: What ``max_detections`` limits: detections of an image and category, or of an image.
        max_detections: Best-scored detections that count.
    """
    if engine == "pycocotools":
        return run_pycocotools(ground_truth, detections, iou_type=iou_type, max_detections=max_detections)
    if engine == "lvis":
        return run_lvis(ground_truth, detections, iou_type=iou_type, max_detections=max_detections)
    return run_hotcoco(ground_truth, detections, iou_type=iou_type, protocol=protocol, max_detections=max_detections)
