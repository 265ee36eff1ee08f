"""A count per category over its rank, on bands that name the groups: instances, or images, of every category.

Readable from a handful of categories to more than a thousand: up to ``MOST_NAMED`` every category is named below its
point, beyond that every k-th rank and the extremes. Bands lie across the picture, so that also an empty group has a
place to be named at.

Shapes: C categories by rank, B bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_data.pictures.figures import COLOURS, category_label, name_counts, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED: Final = 100
_MOST_SAMPLED: Final = 65
_MOST_VALUES: Final = 40
# where a category without any is drawn: a log axis has no zero
_ZERO: Final = 0.35
# inches: the area for the points, what title and axis labels take, and a letter of a rotated name
_AREA: Final = 4.2
_AROUND: Final = 0.85
_LETTER: Final = 0.062
# lines of text that fit beside the area
_LINES: Final = 26


@dataclass(frozen=True)
class Band:
    """Counts with ``lower <= count < upper``.

    Attributes:
        name: For example ``[10, 100)``.
        lower: Smallest count.
        upper: First count beyond, or ``None``.
    """

    name: str
    lower: int
    upper: int | None


@dataclass(frozen=True)
class RankedCounts:
    """A count of each category, most first, ties by ascending id.

    Attributes:
        values: Descending, shape [C].
        category_ids: Dataset ids, shape [C].
        names: C names.
    """

    values: IntArray
    category_ids: IntArray
    names: tuple[str, ...]


def rank_counts(values: IntArray, category_ids: IntArray, names: Sequence[str]) -> RankedCounts:
    """Categories by descending count, ties by ascending dataset id."""
    order = np.lexsort((category_ids, -values))
    return RankedCounts(values[order], category_ids[order], tuple(names[i] for i in order.tolist()))


def ranks_figure(
    ranked: RankedCounts, bands: Sequence[Band], *, title: str, unit: str, shares: bool = True, note: str = ""
) -> Figure:
    """Draws the count of every category over its rank.

    Args:
        ranked: C categories; at least one has a count above 0.
        bands: B bands in ascending order that cover all counts.
        title: Above the picture.
        unit: What is counted, for example ``instances``.
        shares: Write each band's share of the sum beside it; right where nothing is counted for two categories.
        note: Below the title, small.
    """
    count = len(ranked.values)
    # the last inches are for the names of the bands
    width = float(np.clip(1.0 + 0.155 * count, 6.5, 13.5)) + 2.6
    labels = _rank_labels(ranked)
    figure = new_figure(width, _AREA + _AROUND + _LETTER * max(len(label) for label in labels.values()))
    axes = figure.subplots()
    axes.set_yscale("log")
    low, high = _limits(ranked.values, bands)
    axes.set_ylim(low, high)
    axes.set_xlim(0.5 - 0.01 * count, count + 0.5 + 0.01 * count)
    band_of = band_index(ranked.values, bands)
    _shade(axes, bands)
    _draw_points(axes, ranked.values, band_of)
    texts = [_band_text(band, ranked.values, band_of == b, unit, shares) for b, band in enumerate(bands)]
    _name_bands(axes, bands, texts)
    _name_ranks(axes, ranked, labels)
    axes.set_ylabel(f"{unit} per category (log scale)")
    axes.set_title("\n".join(text for text in (plain(title, 110), note) if text), fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def band_index(values: IntArray, bands: Sequence[Band]) -> IntArray:
    """Number of the band (from 0) of each count, same shape."""
    return np.searchsorted([band.lower for band in bands[1:]], values, side="right").astype(np.int64)


def _limits(values: IntArray, bands: Sequence[Band]) -> tuple[float, float]:
    """Ends of the vertical axis: every count and the lower bound of every band lie within."""
    bottom = 0.25 if (values == 0).any() or min((band.lower for band in bands[1:]), default=2) < 2 else 0.7
    return bottom, 1.8 * max(int(values.max(initial=1)), *(2 * band.lower for band in bands))


def _shade(axes: Axes, bands: Sequence[Band]) -> None:
    """Bands in faint colours; bounds lie half a count lower, so that no point lies on one."""
    low, high = axes.get_ylim()
    for b, band in enumerate(bands):
        bottom = low if b == 0 else band.lower - 0.5
        top = high if band.upper is None else band.upper - 0.5
        axes.axhspan(bottom, top, color=_colour(b), alpha=0.10, lw=0)
        if b:
            axes.axhline(bottom, color="#8A8A8A", lw=0.8, ls=(0, (4, 3)))


def _draw_points(axes: Axes, values: IntArray, band_of: IntArray) -> None:
    count = len(values)
    ranks = np.arange(1, count + 1)
    places = np.where(values > 0, values.astype(np.float64), _ZERO)
    colours = np.array([_colour(b) for b in band_of.tolist()])
    some, none = values > 0, values == 0
    if count <= MOST_NAMED:
        axes.vlines(ranks[some], axes.get_ylim()[0], places[some], color=colours[some], lw=0.8, alpha=0.55)
    size = float(np.clip(1800 / count, 6, 30))
    axes.scatter(ranks[some], places[some], s=size, c=colours[some], lw=0, zorder=3)
    if none.any():
        axes.scatter(ranks[none], places[none], s=max(size, 14), marker="x", c="#444444", lw=0.9, zorder=3)
    if count <= _MOST_VALUES:
        for rank, place, value in zip(ranks.tolist(), places.tolist(), values.tolist(), strict=True):
            style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 7, "rotation": 90 if count > 26 else 0}
            # lifts the number off the line between two bands
            style["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.6}
            axes.annotate(f"{value:,}", (rank, place), (0, 5), textcoords="offset points", **style)


def _band_text(band: Band, values: IntArray, members: BoolArray, unit: str, shares: bool) -> str:
    """Name, categories and share of one band."""
    count = int(members.sum())
    lines = [plain(band.name), f"{count:,} {'category' if count == 1 else 'categories'}"]
    total = int(values.sum())
    if shares and total:
        lines.append(f"{values[members].sum() / total:.1%} of {unit}")
    return "\n".join(lines)


def _name_bands(axes: Axes, bands: Sequence[Band], texts: Sequence[str]) -> None:
    """Writes a text beside each band, with a line to its middle where it had to move."""
    low, high = np.log10(axes.get_ylim())
    bounds = [low, *(np.log10(band.lower - 0.5) for band in bands[1:]), high]
    middles = (np.array(bounds[:-1]) + np.array(bounds[1:])) / 2
    places = (middles - low) / (high - low)
    lines = max(text.count("\n") + 1 for text in texts)
    one_line = len(texts) * lines > _LINES
    gap = ((1 if one_line else lines) + 0.3) * 0.87 / _LINES
    for b, (middle, place, text) in enumerate(zip(places, spread(places, gap), texts, strict=True)):
        axes.annotate(
            text.replace("\n", ": ", 1).replace("\n", ", ") if one_line else text,
            (1.0, middle),
            (1.025, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            arrowprops={
                "arrowstyle": "-",
                "color": _colour(b),
                "lw": 2.5,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
        )


def spread(places: npt.ArrayLike, gap: float) -> FloatArray:
    """Moves places in 0..1 as little as needed to keep them apart.

    Args:
        places: Ascending, shape [B].
        gap: Smallest distance; less where B of them do not fit.

    Returns:
        Ascending places in 0..1, shape [B].
    """
    moved = np.array(places, np.float64)
    gap = min(gap, 1.0 / max(len(moved), 1))
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    for i in range(len(moved)):
        moved[i] = min(moved[i], 1.0 - gap / 2 - (len(moved) - 1 - i) * gap)
    return moved


def named_ranks(count: int) -> IntArray:
    """Ranks (from 1) to name on an axis of ``count``: all, or the first, the last and every k-th between them."""
    if count <= MOST_NAMED:
        return np.arange(1, count + 1)
    steps = (m * 10**e for e in range(18) for m in (1, 2, 5))
    step = next(step for step in steps if count / step <= _MOST_SAMPLED)
    between = np.arange(step, count - step // 2, step)
    return np.array([1, *between.tolist(), count], np.int64)


def _rank_labels(ranked: RankedCounts) -> dict[int, str]:
    """The ranks to name and their labels: names, with the rank where not all are named."""
    count = len(ranked.values)
    ranks = named_ranks(count).tolist()
    names = [category_label(ranked.names[rank - 1], int(ranked.category_ids[rank - 1]), 22) for rank in ranks]
    if len(ranks) < count:
        names = [f"{name}  {rank:,}" for name, rank in zip(names, ranks, strict=True)]
    return dict(zip(ranks, names, strict=True))


def _name_ranks(axes: Axes, ranked: RankedCounts, labels: dict[int, str]) -> None:
    size = 8 if len(labels) <= 30 else 7
    axes.set_xticks(list(labels), list(labels.values()), rotation=90, fontsize=size)
    everyone = len(labels) == len(ranked.values)
    axes.set_xlabel("categories by rank" if everyone else "some categories, with their ranks")
    axes.minorticks_off()
    if (ranked.values == 0).any():
        decades = [10**e for e in range(19) if 10**e <= axes.get_ylim()[1]]
        axes.set_yticks([_ZERO, *decades], ["0", *(f"{value:,}" for value in decades)])
    else:
        name_counts(axes)


def _colour(band: int) -> str:
    return COLOURS[band % len(COLOURS)]
