"""Pictures of counts: the alignment of two distributions, and the groups of a dataset.

Figures are built on ``matplotlib.figure.Figure`` directly, so no window, backend or global state is touched; files are
written beside their place and then renamed.

Shapes: C pool categories by rank, n_ref reference categories by rank, G groups.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lt_data.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# told apart with any kind of colour vision; after Okabe and Ito, "Color Universal Design" (2008)
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
DPI: Final = 120

IntArray = npt.NDArray[np.int64]


class GroupLike(Protocol):
    """What ``plot_groups`` needs of a group; ``lt_data.group_stats.GroupCounts`` is one."""

    @property
    def name(self) -> str:
        """For example ``[10, 100)``."""

    @property
    def categories(self) -> int:
        """Categories in the group."""

    @property
    def images(self) -> int:
        """Distinct images that hold one of them."""

    @property
    def instances(self) -> int:
        """Their instances."""


def plot_alignment(
    path: Path,
    *,
    pool_instances: IntArray,
    reference_instances: IntArray,
    reference_positions: IntArray,
    targets: IntArray,
    pool_name: str,
    reference_name: str,
) -> None:
    """Draws which reference rank each pool category is aligned with, and what becomes of its count.

    Args:
        path: The PNG file to write; an existing one is replaced.
        pool_instances: Descending counts, shape [C].
        reference_instances: Descending counts, shape [n_ref].
        reference_positions: Reference rank (from 0) of each pool rank, shape [C].
        targets: Instances wanted of each pool rank, shape [C].
        pool_name: For the legend.
        reference_name: For the legend.

    Raises:
        OutputError: The file cannot be written.
    """
    figure = new_figure(12.5, 4.8)
    left, right = figure.subplots(1, 2)
    ranks, places = _relative(len(pool_instances)), _relative(len(reference_instances))
    aligned = np.asarray(reference_positions)
    left.plot(ranks, _positive(pool_instances), "o-", ms=3, lw=1, color=COLOURS[0], label=f"{pool_name} (pool)")
    left.plot(places, reference_instances, lw=1.5, color=COLOURS[1], label=f"{reference_name} (reference)")
    left.plot(
        places[aligned],
        np.asarray(reference_instances)[aligned],
        "s",
        ms=4,
        mfc="none",
        color=COLOURS[1],
        label="reference rank taken",
    )
    left.set_title(f"{len(pool_instances):,} pool ranks on {len(reference_instances):,} reference ranks")
    left.set_xlabel("relative rank: 0 = most instances, 1 = fewest")
    _draw_targets(right, np.asarray(pool_instances), np.asarray(targets))
    for axes in (left, right):
        axes.set_yscale("log")
        axes.set_ylabel("instances")
        tidy(axes)
        axes.legend(frameon=False)
    save_figure(figure, path)


def _draw_targets(axes: Axes, pool: IntArray, targets: IntArray) -> None:
    """Pool count and target of each rank; ranks with more wanted than there is are marked."""
    rank = np.arange(1, len(pool) + 1)
    mark = float(np.clip(300 / len(pool), 3, 8))
    axes.vlines(rank, _positive(pool), targets, color="#BBBBBB", lw=1, zorder=1)
    axes.plot(rank, _positive(pool), "o", ms=mark / 2, color=COLOURS[0], label=f"pool ({pool.sum():,} instances)")
    axes.plot(rank, targets, "_", ms=mark, mew=2, color=COLOURS[1], label=f"target ({targets.sum():,} instances)")
    short = pool < targets
    if short.any():
        label = f"short of instances ({int(short.sum())} categories)"
        axes.plot(rank[short], targets[short], "x", ms=mark, color="#C00000", label=label)
    axes.set_title("instances per category: pool and target")
    axes.set_xlabel("rank in the pool")


def plot_groups(path: Path, groups: Sequence[GroupLike], title: str) -> None:
    """Draws categories, images and instances per group as three rows of bars side by side.

    Args:
        path: The PNG file to write; an existing one is replaced.
        groups: G groups, rarest first.
        title: Above the bars.

    Raises:
        OutputError: The file cannot be written.
    """
    figure = new_figure(max(8.0, 3 * (1.2 + 0.62 * len(groups))), 3.9)
    figure.suptitle(title)
    panels = figure.subplots(1, 3)
    names = [group.name for group in groups]
    _draw_bars(panels[0], names, [group.categories for group in groups], "categories")
    _draw_bars(panels[1], names, [group.images for group in groups], "images", log=True)
    _draw_bars(panels[2], names, [group.instances for group in groups], "instances", log=True)
    panels[1].set_xlabel("training instances per category")
    save_figure(figure, path)


def _draw_bars(axes: Axes, names: Sequence[str], values: Sequence[int], title: str, *, log: bool = False) -> None:
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    axes.bar(range(len(names)), values, color=colours, width=0.72)
    floor = 0.5 if log else 0.0
    for i, value in enumerate(values):
        place = (i, max(value, floor))
        axes.annotate(f"{value:,}", place, (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=20 if len(names) > 4 else 0)
    if log:
        # room below and above: a bar of 1 is seen, and so is the number on the longest one
        axes.set_yscale("log")
        axes.set_ylim(floor, 4 * max([*values, 1]))
    else:
        axes.set_ylim(floor, 1.12 * max([*values, 1]))
    axes.set_title(f"{title} (log scale)" if log else title, fontsize=10)
    tidy(axes)


def new_figure(width: float, height: float) -> Figure:
    """A figure of ``width`` x ``height`` inches that no global state knows of."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def tidy(axes: Any) -> None:
    """Takes away the frame's upper and right side and draws faint horizontal lines behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E4E4E4", lw=0.7)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG beside its place, then renames it; the same figure gives the same bytes.

    Raises:
        OutputError: The file cannot be written.
    """
    path = Path(path).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(handle)
        work = Path(name)
        try:
            figure.savefig(work, format="png", metadata={"Software": None})
            work.chmod(0o644)
            os.replace(work, path)
        finally:
            work.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another file") from None


def _relative(count: int) -> npt.NDArray[np.float64]:
    """Ranks as 0..1, shape [count]; a single one lies at 0."""
    return np.linspace(0.0, 1.0, count) if count > 1 else np.zeros(count)


def _positive(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Counts as float with NaN, which is not drawn, in place of 0: a log axis has no zero."""
    values = np.asarray(counts, np.float64)
    return np.where(values > 0, values, np.nan)
