"""Systems side by side: differences of AP with paired bootstrap intervals, overall, per group and per class.

The first system is the baseline; a difference is another system minus the baseline. Fractions 0..1.
Intervals cover which images were collected; two trainings that differ only in their seed differ by more than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from lt_data.arrays import BoolArray, FloatArray
from lt_data.errors import DataError
from lt_data.groups import Group, group_name_of
from lt_train.evaluation.comparison.bootstrap import (
    ClassAP,
    class_ap,
    image_weights,
    mean_ap,
    percentile_interval,
    weighted_class_ap,
)
from lt_train.evaluation.comparison.matches import Matches
from lt_train.evaluation.predictions.columns import IOU_TYPES, IouType

Kind = Literal["overall", "group", "class"]

# with fewer images than this, resamples hardly differ and their interval is too narrow
FEWEST_IMAGES: Final = 10
LEVEL: Final = 0.95


@dataclass(frozen=True)
class System:
    """What one system found.

    Attributes:
        name: What to call it.
        matches: Its matches by IoU type.
        metrics: Content of its ``metrics.json``; None if there is none.
    """

    name: str
    matches: Mapping[IouType, Matches]
    metrics: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Change:
    """A system against the baseline in one figure.

    Attributes:
        value: Difference on the images as they are; None where nothing was measured.
        low: Lower end of the interval.
        high: Upper end.
        within_noise: Whether the interval holds 0; None where too few images have ground truth to tell.
    """

    value: float | None
    low: float | None
    high: float | None
    within_noise: bool | None


@dataclass(frozen=True)
class Row:
    """One figure of all systems.

    Attributes:
        kind: ``overall``, ``group`` or ``class``.
        name: ``AP``, ``AP50``, or the name of the group or class.
        category_id: Dataset id of a class, else None.
        group: Group of a class, else None.
        classes: Classes with ground truth that the figure is a mean of.
        images: Images with ground truth of them.
        instances: Their ground truth.
        values: One figure per system; None where nothing was measured.
        changes: One per system after the baseline.
    """

    kind: Kind
    name: str
    category_id: int | None
    group: str | None
    classes: int
    images: int
    instances: int
    values: tuple[float | None, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Comparison:
    """Systems on the same images.

    Attributes:
        names: One per system, the baseline first.
        protocol: How they were measured.
        max_detections: The protocol's limit.
        images: Images of the annotations.
        resamples: Bootstrap resamples.
        seed: Their seed.
        rows: Rows by IoU type: overall, groups, classes.
        notes: Lines about what a system's options were chosen on, by its name.
    """

    names: tuple[str, ...]
    protocol: str
    max_detections: int
    images: int
    resamples: int
    seed: int
    rows: Mapping[IouType, tuple[Row, ...]]
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Subject:
    """What a row is about: the classes [K] that it averages, and of which figure."""

    kind: Kind
    name: str
    members: BoolArray
    ap50: bool = False
    category_id: int | None = None
    group: str | None = None


def compare_systems(
    systems: Sequence[System], *, groups: Sequence[Group] = (), resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Differences of two or more systems with 95 % intervals.

    Args:
        systems: At least two, of different names, matched against the same annotations; the first is the baseline.
        groups: Groups to average over; categories by dataset id.
        resamples: Bootstrap resamples.
        seed: Seed of the resamples; the same images are drawn for every system and IoU type.

    Raises:
        DataError: Fewer than two systems, two of one name, systems that were measured on different things, or on
            no image.
        ValueError: No resample.
    """
    types = _check(systems)
    first = systems[0].matches[types[0]]
    weights = image_weights(len(first.image_ids), resamples, seed=seed)
    rows = {}
    for iou_type in types:
        matches = [system.matches[iou_type] for system in systems]
        measured = [class_ap(found) for found in matches]
        resampled = [weighted_class_ap(found, weights) for found in matches]
        subjects = _subjects(matches[0], groups)
        rows[iou_type] = tuple(_row(subject, matches[0], measured, resampled) for subject in subjects)
    return Comparison(
        names=tuple(system.name for system in systems),
        protocol=first.protocol,
        max_detections=first.max_detections,
        images=len(first.image_ids),
        resamples=resamples,
        seed=seed,
        rows=rows,
    )


def _subjects(matches: Matches, groups: Sequence[Group]) -> Iterator[_Subject]:
    everything = np.ones(len(matches.category_ids), dtype=np.bool_)
    yield _Subject("overall", "AP", everything)
    yield _Subject("overall", "AP50", everything, ap50=True)
    for group in groups:
        yield _Subject("group", group.name, np.isin(matches.category_ids, group.category_ids))
    group_of = group_name_of(groups)
    for k, category in enumerate(matches.category_ids.tolist()):
        one = np.zeros_like(everything)
        one[k] = True
        name, group_name = matches.category_names[k], group_of.get(category)
        yield _Subject("class", name, one, category_id=category, group=group_name)


def _row(subject: _Subject, matches: Matches, measured: Sequence[ClassAP], resampled: Sequence[ClassAP]) -> Row:
    of_members = subject.members[matches.truth_categories]
    images = len(np.unique(matches.truth_images[of_members]))
    values = [float(_figure(ap, subject)[0]) for ap in measured]
    draws = [_figure(ap, subject) for ap in resampled]
    pairs = zip(values[1:], draws[1:], strict=True)
    return Row(
        kind=subject.kind,
        name=subject.name,
        category_id=subject.category_id,
        group=subject.group,
        classes=len(np.unique(matches.truth_categories[of_members])),
        images=images,
        instances=int(matches.truth_counts[of_members].sum()),
        values=tuple(None if np.isnan(value) else value for value in values),
        changes=tuple(_change(value - values[0], draw - draws[0], images) for value, draw in pairs),
    )


def _figure(ap: ClassAP, subject: _Subject) -> FloatArray:
    """The figure of a row in each resample, [B]."""
    return mean_ap(ap.ap50 if subject.ap50 else ap.ap, subject.members)


def _change(value: float, draws: FloatArray, images: int) -> Change:
    low, high = percentile_interval(draws, level=LEVEL)
    if np.isnan(value) or np.isnan(low):
        return Change(None if np.isnan(value) else value, None, None, None)
    return Change(value, low, high, low <= 0 <= high if images >= FEWEST_IMAGES else None)


def _check(systems: Sequence[System]) -> tuple[IouType, ...]:
    """The IoU types that all systems have, once they are known to be comparable."""
    if len(systems) < 2:
        raise DataError(f"compare: got {len(systems)} systems; give at least two, the baseline first")
    names = [system.name for system in systems]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"compare: several systems are called {', '.join(twice)}; give each a name of its own")
    types = tuple(kind for kind in IOU_TYPES if all(kind in system.matches for system in systems))
    if not types:
        have = "; ".join(f"{system.name}: {', '.join(system.matches) or 'none'}" for system in systems)
        raise DataError(f"compare: no IoU type that all systems have ({have}); evaluate them with the same one")
    if not len(systems[0].matches[types[0]].image_ids):
        raise DataError("compare: the annotations hold no image, so there is nothing to draw resamples of")
    for iou_type in types:
        for system in systems[1:]:
            _check_same(systems[0].matches[iou_type], system.matches[iou_type], names[0], system.name)
    return types


def _check_same(first: Matches, other: Matches, name: str, other_name: str) -> None:
    limits = [(found.protocol, found.max_detections) for found in (first, other)]
    if limits[0] != limits[1]:
        texts = [f"{protocol} with {limit} detections" for protocol, limit in limits]
        raise DataError(f"compare: {name} was measured by {texts[0]}, {other_name} by {texts[1]}; measure both alike")
    columns = ("image_ids", "category_ids", "truth_categories", "truth_images", "truth_counts")
    if not all(np.array_equal(getattr(first, column), getattr(other, column)) for column in columns):
        raise DataError(
            f"compare: {name} and {other_name} were measured on different annotations; evaluate both on the same file"
        )
