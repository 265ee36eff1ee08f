"""Which categories share images: a matrix over the most frequent ones.

Shapes: K categories, most images first; N images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from lt_data.annotations.file import AnnotationFile
from lt_data.arrays import IntArray
from lt_data.counts.categories import CategoryCounts, category_image_pairs
from lt_data.pictures.figures import category_label, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SHOWN: Final = 40
_CELL: Final = 0.235


@dataclass(frozen=True)
class CoOccurrence:
    """Images that pairs of categories share, counted from non-crowd annotations.

    Attributes:
        category_ids: Dataset ids, most images first, ties by ascending id, shape [K].
        names: K names.
        images: Distinct images of each category, shape [K].
        shared: Images that hold both, symmetric, ``images`` on the diagonal, shape [K, K].
    """

    category_ids: IntArray
    names: tuple[str, ...]
    images: IntArray
    shared: IntArray


def co_occurrence(file: AnnotationFile, counts: CategoryCounts, most: int = MOST_SHOWN) -> CoOccurrence:
    """Counts the images that pairs of the most frequent categories share.

    Args:
        file: The annotation file.
        counts: Its counts.
        most: K at most; categories without images are left out.
    """
    order = np.lexsort((counts.category_ids, -counts.images))
    top = order[counts.images[order] > 0][:most]
    row, image = category_image_pairs(file, counts.category_ids)
    place = np.full(len(counts.category_ids), -1)
    place[top] = np.arange(len(top))
    kept = place[row] >= 0
    # float32 for the fast product; whole numbers stay exact up to 2^24 images
    holds = np.zeros((len(top), len(file.image_ids)), np.float32)
    holds[place[row[kept]], image[kept]] = 1
    return CoOccurrence(
        category_ids=counts.category_ids[top],
        names=tuple(counts.names[i] for i in top.tolist()),
        images=counts.images[top],
        shared=np.rint(holds @ holds.T).astype(np.int64),
    )


def co_occurrence_figure(pairs: CoOccurrence, *, categories: int, title: str) -> Figure:
    """Draws the share of each row's images that hold the column's category too.

    Args:
        pairs: K categories, at least two.
        categories: How many the file has; says whether these are all.
        title: Above the picture.
    """
    count = len(pairs.images)
    side = max(2.6, _CELL * count)
    figure = new_figure(side + 3.6, side + 2.2)
    axes = figure.subplots()
    share = pairs.shared / pairs.images[:, None]
    np.fill_diagonal(share, np.nan)
    _draw_cells(figure, axes, share)
    labels = [category_label(n, int(i)) for n, i in zip(pairs.names, pairs.category_ids, strict=True)]
    places = np.arange(count) + 0.5
    size = 7.5 if count > 12 else 9
    rows = [f"{label}  {images:,}" for label, images in zip(labels, pairs.images.tolist(), strict=True)]
    axes.set_yticks(places, rows, fontsize=size)
    axes.set_xticks(places, labels, fontsize=size, rotation=90)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    who = f"the {count} categories with most images, of {categories:,}" if count < categories else f"{count} categories"
    axes.set_title(f"{plain(title)}: images shared by pairs of {who}", fontsize=10.5)
    axes.set_ylabel("category and its images")
    return figure


def _draw_cells(figure: Figure, axes: Axes, share: npt.NDArray[np.float64]) -> None:
    """The matrix, first row on top; the diagonal stays grey, and a pair that never meets has no number."""
    from matplotlib.colors import PowerNorm

    count = len(share)
    axes.set_facecolor("#C8C8C8")
    # the square root of the share chooses the colour: most pairs share little
    norm = PowerNorm(0.5, 0.0, float(np.nanmax(share)) or 1.0)
    cells = axes.pcolormesh(share, cmap="Blues", norm=norm, edgecolors="white", lw=0.4)
    axes.set_xlim(0, count)
    axes.set_ylim(count, 0)
    axes.set_aspect("equal")
    bar = figure.colorbar(cells, ax=axes, shrink=min(1.0, 4.5 / (_CELL * count)), pad=0.02)
    bar.set_label("share of the row's images that hold the column's category too (percent in the cells)", fontsize=8)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    for i, j in np.argwhere(share > 0).tolist():
        dark = norm(share[i, j]) > 0.6
        text = _percent(float(share[i, j]))
        axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=6, color="white" if dark else "#222222")


def _percent(share: float) -> str:
    """Whole percent without the sign; ``<1`` for what would round to 0."""
    return "<1" if share <= 0.005 else f"{100 * share:.0f}"
