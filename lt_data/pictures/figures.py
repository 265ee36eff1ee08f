"""Pictures of counts: the alignment of two distributions, and the groups of a dataset; what all pictures share.

Figures are built on ``matplotlib.figure.Figure`` directly, so no window or backend is touched; files are written
beside their place and then renamed, and the same figure gives the same bytes.

Shapes: C pool categories by rank, n_ref reference categories by rank, G groups.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lt_data.arrays import IntArray
from lt_data.errors import OutputError
from lt_data.files.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# told apart with any kind of colour vision; after Okabe and Ito, "Color Universal Design" (2008)
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
DPI: Final = 120
FORMATS: Final = (".png", ".svg")


class GroupLike(Protocol):
    """What ``plot_groups`` needs of a group; ``lt_data.counts.group_stats.GroupCounts`` is one."""

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
    realised: IntArray,
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
        realised: Instances that the dataset has of each, shape [C].
        pool_name: For the legend.
        reference_name: For the legend.

    Raises:
        OutputError: The file cannot be written.
    """
    save_figure(
        alignment_figure(
            pool_instances=pool_instances,
            reference_instances=reference_instances,
            reference_positions=reference_positions,
            targets=targets,
            realised=realised,
            pool_name=pool_name,
            reference_name=reference_name,
        ),
        path,
    )


def alignment_figure(
    *,
    pool_instances: IntArray,
    reference_instances: IntArray,
    reference_positions: IntArray,
    targets: IntArray,
    realised: IntArray,
    pool_name: str,
    reference_name: str,
) -> Figure:
    """The figure of :func:`plot_alignment`, with the same arguments.

    ``reference_instances`` may hold 0 at ranks that no pool category takes and whose count is not known. A reference of
    length 0 stands for targets that were given one by one: they are drawn alone.
    """
    pool, reference = np.asarray(pool_instances), np.asarray(reference_instances)
    largest = int(max(pool.max(), reference.max(initial=1), np.max(targets)))
    figure, panels = _panels(2 if len(reference) else 1, largest)
    if len(reference):
        labels = (f"{plain(pool_name, 40)} (pool)", f"{plain(reference_name, 40)} (reference)")
        _draw_ranks(panels[0], pool, reference, np.asarray(reference_positions), labels=labels)
    _draw_targets(panels[-1], pool, np.asarray(targets), np.asarray(realised))
    for axes in panels:
        axes.set_ylabel("instances")
        _log_counts(axes)
        tidy(axes)
        axes.legend(frameon=False)
    return figure


def _panels(count: int, largest: int) -> tuple[Figure, list[Axes]]:
    """A figure of one or two panels with the same room around each, enough for the texts and numbers up to ``largest``.

    :func:`new_figure` measures every text instead, which takes longer than drawing them.
    """
    from matplotlib.figure import Figure

    width, height = (12.5, 4.8) if count > 1 else (8.5, 4.8)
    # inches
    left, right, bottom, top = 0.5 + 0.085 * len(f"{largest:,}"), 0.15, 0.6, 0.4
    gap = left + right
    panel = (width - left - right - (count - 1) * gap) / count
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height, wspace=gap / panel)
    return figure, [figure.add_subplot(1, count, i + 1) for i in range(count)]


def _log_counts(axes: Axes) -> None:
    """A log axis with a tick at every decade, and between them where there are few."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 100 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else range(1, 10)))
    axes.minorticks_off()
    name_counts(axes)


def name_counts(axes: Axes) -> None:
    """Writes the whole numbers of a log axis in full, from 1 on."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 and value % 1 == 0 else "")


def _draw_ranks(axes: Axes, pool: IntArray, reference: IntArray, aligned: IntArray, *, labels: tuple[str, str]) -> None:
    """Both curves over the relative rank, and the places of the reference that are taken.

    A title with a place of its own need not be moved out of the way of the axis, for which every tick is measured.
    """
    ranks, places = _relative(len(pool)), _relative(len(reference))
    known = reference > 0
    mark = float(np.clip(240 / len(pool), 1, 3))
    axes.plot(ranks, _positive(pool), "o-", ms=mark, lw=1, color=COLOURS[0], label=labels[0])
    axes.plot(places[known], reference[known], lw=1.5, color=COLOURS[1], label=labels[1])
    style: dict[str, Any] = {"ms": mark + 1, "mfc": "none", "mew": 0.5 if len(pool) > 200 else 1, "color": COLOURS[1]}
    axes.plot(places[aligned], _positive(reference[aligned]), "s", **style, label="reference rank taken")
    axes.set_title(f"{len(pool):,} pool ranks on {len(reference):,} reference ranks", y=1)
    axes.set_xlabel("relative rank: 0 = most instances, 1 = fewest")


def _draw_targets(axes: Axes, pool: IntArray, targets: IntArray, realised: IntArray) -> None:
    """Pool count, target and what became of it at each rank; ranks with more wanted than there is are marked."""
    rank = np.arange(1, len(pool) + 1)
    mark = float(np.clip(300 / len(pool), 3, 8))
    axes.vlines(rank, _positive(pool), targets, color="#BBBBBB", lw=1, zorder=1)
    axes.plot(rank, _positive(pool), "o", ms=mark / 2, color=COLOURS[0], label=f"pool ({pool.sum():,} instances)")
    axes.plot(rank, targets, "_", ms=mark, mew=2, color=COLOURS[1], label=f"target ({targets.sum():,} instances)")
    label = f"realised ({realised.sum():,} instances)"
    axes.plot(rank, _positive(realised), "o", ms=mark, mfc="none", color=COLOURS[2], label=label)
    short = pool < targets
    if short.any():
        label = f"short of instances ({int(short.sum())} categories)"
        axes.plot(rank[short], targets[short], "x", ms=mark, color="#C00000", label=label)
    axes.set_title("instances per category: pool, target, realised", y=1)
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
    save_figure(groups_figure(groups, title), path)


def groups_figure(groups: Sequence[GroupLike], title: str, what: str = "training instances per category") -> Figure:
    """The figure of :func:`plot_groups`, with the same arguments; ``what`` says by what the groups are."""
    figure = new_figure(max(8.0, 3 * (1.2 + 0.62 * len(groups))), 3.9)
    figure.suptitle(plain(title))
    panels = figure.subplots(1, 3)
    names = [group.name for group in groups]
    _draw_bars(panels[0], names, [group.categories for group in groups], "categories")
    _draw_bars(panels[1], names, [group.images for group in groups], "images", log=True)
    _draw_bars(panels[2], names, [group.instances for group in groups], "instances", log=True)
    panels[1].set_xlabel(what)
    return figure


def _draw_bars(axes: Axes, names: Sequence[str], values: Sequence[int], title: str, *, log: bool = False) -> None:
    from matplotlib.ticker import MaxNLocator

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
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{title} (log scale)" if log else title, fontsize=10)
    tidy(axes)


def new_figure(width: float, height: float) -> Figure:
    """A figure of ``width`` x ``height`` inches that no global state knows of."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def tidy(axes: Any) -> None:
    """Takes away the frame's upper and right side and draws faint horizontal lines under the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E4E4E4", lw=0.7)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG or, by the path's ending, an SVG beside its place, then renames it.

    Raises:
        OutputError: The path has another ending, or the file cannot be written.
    """
    path = Path(path).absolute()
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path}: pictures are written as {' or '.join(FORMATS)}; choose a name that ends so")
    write_whole(path, partial(write_figure, figure), make_folder=True)


def write_figure(figure: Figure, path: Path) -> None:
    """Writes straight to a path that ends in ``.png`` or ``.svg``; no date and no random name gets into the bytes.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib import rc_context

    if path.suffix.lower() == ".svg":
        with rc_context({"svg.hashsalt": "lt-data"}):
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    else:
        figure.savefig(path, format="png", metadata={"Software": None})
    path.chmod(0o644)


def plain(text: str, longest: int = 60) -> str:
    """Text to draw as it is: one line, shortened in the middle, a dollar sign no start of a formula.

    Characters that only format are left out: those for the direction of writing would turn round what stands beside.

    Args:
        text: For example a category's or a file's name.
        longest: Characters to keep at most; the start and the end of a longer text stay.
    """
    text = "".join(c if ord(c) in _drawn_characters() else "?" for c in " ".join(_shown(text).split()))
    if len(text) > longest:
        tail = longest // 3
        text = f"{text[: longest - tail - 1]}\u2026{text[-tail:]}"
    return text.replace("$", r"\$")


def category_label(name: str, category_id: int, longest: int = 24) -> str:
    """A category's name as :func:`plain` gives it, or its id where the font lacks most of the name's characters."""
    shown = _shown(name)
    missing = sum(ord(c) not in _drawn_characters() for c in shown)
    return f"id {category_id}" if not shown or 2 * missing > len(shown) else plain(name, longest)


def _shown(text: str) -> str:
    return "".join(c for c in text if unicodedata.category(c) != "Cf")


@lru_cache(maxsize=1)
def _drawn_characters() -> frozenset[int]:
    """Code points that the font of the pictures has."""
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    return frozenset(font.get_charmap())


def _relative(count: int) -> npt.NDArray[np.float64]:
    """Ranks as 0..1, shape [count]; a single one lies at 0."""
    return np.linspace(0.0, 1.0, count) if count > 1 else np.zeros(count)


def _positive(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Counts as float with NaN, which is not drawn, in place of 0: a log axis has no zero."""
    values = np.asarray(counts, np.float64)
    return np.where(values > 0, values, np.nan)
