"""From precision per class to the figures of ``eval/metrics.json``: overall, per group and per frequency.

Every figure is a plain mean of class APs, so the group APs, weighted by their number of measured classes, give the
overall AP; that is checked each time. Fractions 0..1; None where no class could be measured.
Groups follow the instance counts of the training set (BAGS, CVPR 2020, AP1-AP4 of supplement Table 1); frequency is
the LVIS one (rare / common / frequent by training images).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_data.arrays import BoolArray, FloatArray
from lt_train.evaluation.figures.average_precision import AREAS, Evaluation

if TYPE_CHECKING:
    from lt_data.groups import Group

METRICS_SCHEMA = 1
FREQUENCIES = ("r", "c", "f")
# what evaluations that stand side by side have in common
_SHARED = ("protocol", "engine", "images", "detections")

# kind (groups, frequency) -> name -> which of the K classes it has
Members = Mapping[str, Mapping[str, BoolArray]]


def summarise(
    evaluations: Mapping[str, Evaluation],
    *,
    groups: Sequence[Group],
    frequency: Mapping[int, str] | None = None,
    untrained: Sequence[int] = (),
    fixed: Mapping[str, Evaluation] | None = None,
) -> dict[str, Any]:
    """Builds the content of ``eval/metrics.json`` (schema 1).

    Args:
        evaluations: ``bbox`` and, if masks were evaluated, ``segm``; of the same annotations and results.
        groups: Groups of the training set; category ids are dataset ids.
        frequency: ``r``, ``c`` or ``f`` by dataset category id; what the annotation file says, if None.
        untrained: Dataset ids of the categories without a training instance.
        fixed: The same evaluations with ``fixed``, to stand beside them.

    Returns:
        A dict that JSON can hold; ``segm`` is there only if evaluated, ``AP_fixed`` and ``fixed`` only if given,
        ``counts.classes.untrained`` only if a measured class has no training instance.

    Raises:
        ValueError: No evaluation, or evaluations of different annotations.
        RuntimeError: The group APs do not add up to AP (a defect of this code, never of the data).
    """
    first = _same_annotations(evaluations, fixed or {})
    members = _members(first, groups, frequency)
    metrics: dict[str, Any] = {
        "schema": METRICS_SCHEMA,
        "protocol": first.protocol,
        "engine": first.engine,
        "max_detections": first.max_detections,
    }
    for iou_type in sorted(evaluations):
        metrics[iou_type] = _block(evaluations[iou_type], members)
        if fixed:
            block = _block(fixed[iou_type], members)
            metrics[iou_type] |= {"AP_fixed": block["AP"], "fixed": block}
    measured = ~np.isnan(first.class_ap())
    classes: dict[str, Any] = {"AP": int(measured.sum())}
    for kind, masks in members.items():
        classes[kind] = {name: int((mask & measured).sum()) for name, mask in masks.items()}
    if (hopeless := _member_mask(first, untrained) & measured).any():
        in_groups = {name: int((mask & hopeless).sum()) for name, mask in members["groups"].items()}
        classes["untrained"] = {"AP": int(hopeless.sum()), "groups": in_groups}
    metrics["counts"] = {
        "images": first.images,
        "ground_truth": int(first.instances.sum()),
        "detections": first.detections,
        "classes": classes,
    }
    return metrics


def mean_or_none(values: FloatArray) -> float | None:
    """Mean of the numbers that are not NaN; None if there are none."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if len(measured) else None


def _members(first: Evaluation, groups: Sequence[Group], frequency: Mapping[int, str] | None) -> Members:
    """Which classes each group and each frequency has, [K] each."""
    if frequency is None:
        frequency = dict(zip(first.category_ids.tolist(), first.frequencies or (), strict=False))
    of_frequency = {name: [i for i, letter in frequency.items() if letter == name] for name in FREQUENCIES}
    return {
        "groups": {group.name: _member_mask(first, group.category_ids) for group in groups},
        "frequency": {name: _member_mask(first, ids) for name, ids in of_frequency.items()},
    }


def _block(evaluation: Evaluation, members: Members) -> dict[str, Any]:
    """The figures of one IoU type."""
    ap = evaluation.class_ap()
    block: dict[str, Any] = {
        "AP": mean_or_none(ap),
        "AP50": mean_or_none(evaluation.class_ap(iou=0.5)),
        "AP75": mean_or_none(evaluation.class_ap(iou=0.75)),
    }
    for measure, values_of in (("AP", evaluation.class_ap), ("AR", evaluation.class_ar)):
        for area in AREAS:
            name = measure + ("" if area == "all" else area[0])
            block[name] = mean_or_none(values_of(area=area))
    for kind, masks in members.items():
        block[kind] = {name: mean_or_none(ap[mask]) for name, mask in masks.items()}
        _check_identity(ap, block["AP"], block[kind], masks)
    return block


def _check_identity(
    ap: FloatArray,
    overall: float | None,
    parts: Mapping[str, float | None],
    masks: Mapping[str, BoolArray],
) -> None:
    """Weighted by their measured classes, the parts must give the whole, where they cover each class once."""
    measured = ~np.isnan(ap)
    times_covered = np.sum([mask.astype(int) for mask in masks.values()], axis=0) if masks else np.zeros(len(ap))
    if overall is None or (times_covered[measured] != 1).any():
        return
    total = sum((value or 0.0) * int((masks[name] & measured).sum()) for name, value in parts.items())
    if abs(total / int(measured.sum()) - overall) > 1e-9:
        raise RuntimeError(
            f"internal error: the parts {dict(parts)} average to {total / int(measured.sum())}, not to AP {overall}"
        )


def _member_mask(evaluation: Evaluation, category_ids: Iterable[int]) -> BoolArray:
    return np.isin(evaluation.category_ids, np.fromiter(category_ids, dtype=np.int64))


def _same_annotations(evaluations: Mapping[str, Evaluation], fixed: Mapping[str, Evaluation]) -> Evaluation:
    if not evaluations or not set(evaluations) <= {"bbox", "segm"}:
        raise ValueError(f"evaluations must be 'bbox' and/or 'segm', got {sorted(evaluations)}")
    if fixed and (set(fixed) != set(evaluations) or not all(evaluation.fixed for evaluation in fixed.values())):
        raise ValueError("fixed must hold an evaluation with fixed=True for each of the evaluations")
    first, *others = [*(evaluations[name] for name in sorted(evaluations)), *fixed.values()]
    for other in others:
        same = np.array_equal(first.category_ids, other.category_ids) and np.array_equal(
            first.instances, other.instances
        )
        if not same or any(getattr(first, name) != getattr(other, name) for name in _SHARED):
            raise ValueError("the evaluations are not of the same annotations and results")
    return first
