"""How well the order of methods in a study agrees with the order in which BAGS found them on LVIS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lt_data.arrays import FloatArray
from lt_train.recipe.methods import METHODS
from lt_train.studies.paper import paper_rows
from lt_train.studies.table import Row, spreads

# with fewer methods an order says nothing
FEWEST: Final = 4


def published_aps() -> dict[str, float]:
    """Box AP in percent of each method that BAGS compares, by its name here."""
    rows = {row.entry.name: row for row in paper_rows("lvis-v0.5") if row.number}
    return {
        name: value
        for name, row in rows.items()
        for published in row.published
        if published.iou_type == "bbox" and (value := published.figures["AP"]) is not None
    }


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's: 1 for the same order, -1 for the reverse one; equal values share their ranks.

    Args:
        first: One figure of each thing.
        second: Another figure of each.
    """
    ranks = [_ranks(np.asarray(values, np.float64)) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: FloatArray) -> FloatArray:
    below = (values[:, None] > values[None, :]).sum(axis=1)
    equal = (values[:, None] == values[None, :]).sum(axis=1)
    return np.asarray(below + (equal - 1) / 2, np.float64)


def format_agreement(rows: Sequence[Row]) -> str:
    """A sentence about the methods that both have; empty for too few.

    Args:
        rows: Of the study's CSV file.
    """
    means = {name: found["AP"] for name, found in spreads(rows, ["AP"]).items() if name in METHODS}
    own: Mapping[str, float] = {name: spread.mean for name, spread in means.items() if spread is not None}
    printed = published_aps()
    both = [name for name in printed if name in own]
    if len(both) < FEWEST or len({own[name] for name in both}) == 1:
        return ""
    found = rank_correlation([own[name] for name in both], [printed[name] for name in both])
    return (
        f"The order by AP of the {len(both)} methods that BAGS compares too has a rank correlation (Spearman) of "
        f"{found:+.2f} with the published order on LVIS v0.5 (1: the same order, 0: none). These are other data and "
        "another detector."
    )
