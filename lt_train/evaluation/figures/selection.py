"""The one figure by which checkpoints of a run are compared: the best is kept, and patience waits for a better one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lt_data.groups import Group

if TYPE_CHECKING:
    from lt_data.counts.categories import CategoryCounts


class Selected(NamedTuple):
    """What a checkpoint is chosen by.

    Attributes:
        value: The figure in 0..1; ``None`` where nothing could be measured.
        name: What it is, for people.
    """

    value: float | None
    name: str


def selected_figure(
    metrics: Mapping[str, Any], select: str, *, groups: Sequence[Group] = (), counts: CategoryCounts | None = None
) -> Selected:
    """The figure of an evaluation that decides: of masks where they are measured, else of boxes.

    Args:
        metrics: Content of ``metrics.json``.
        select: ``AP``; ``rarest``, the AP of the group whose classes have the fewest training instances on average,
            among the groups in which any class was measured; or ``groups``, the mean of the APs of the groups, which
            weighs a group of three classes as much as one of a hundred.
        groups: Those of the run, for ``rarest``.
        counts: Of its training file, likewise.
    """
    kind = "mask" if "segm" in metrics else "box"
    block = metrics.get("segm", metrics["bbox"])
    if select == "AP":
        return Selected(_number(block["AP"]), f"{kind} AP")
    measured = {name: float(value) for name, value in block["groups"].items() if value is not None}
    if select == "groups":
        mean = sum(measured.values()) / len(measured) if measured else None
        return Selected(mean, f"{kind} AP, mean of {len(measured)} groups")
    rarest = next((name for name in _rarest_first(groups, counts) if name in measured), None)
    return Selected(None if rarest is None else measured[rarest], f"{kind} AP of the rarest group, {rarest}")


def _rarest_first(groups: Sequence[Group], counts: CategoryCounts | None) -> list[str]:
    """Names of the groups with classes, by their mean number of training instances: groups may be any partition."""
    if counts is None:
        return []
    means = {
        group.name: float(counts.instances[np.isin(counts.category_ids, group.category_ids)].mean())
        for group in groups
        if group.category_ids
    }
    return sorted(means, key=means.__getitem__)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
