"""Images with boxes, masks and names drawn on them, side by side: the truth and what each run makes of it.

Shapes: H, W image rows and columns, K objects of one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lt_data.pictures.figures import COLOURS, new_figure, plain, save_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

_CELL = 3.4
_LEGEND = 0.75
# both in the font of the pictures
_RIGHT, _WRONG = "\u2713", "\u2717"


@dataclass(frozen=True)
class Found:
    """What makes a panel one of detections.

    Attributes:
        scores: K scores in 0..1.
        right: Whether each of K detections stands for an object; ``None`` where there is no ground truth.
        missed: xyxy pixels of the objects that no detection stands for, shape [M, 4]; ``None`` likewise.
    """

    scores: Sequence[float]
    right: Sequence[bool] | None = None
    missed: npt.NDArray[np.floating] | None = None


@dataclass(frozen=True)
class Panel:
    """One cell of the grid: an image and the objects to draw on it.

    Attributes:
        image: RGB uint8, shape [H, W, 3].
        boxes: xyxy pixels, shape [K, 4].
        names: K category names.
        groups: K group names; they choose the colours.
        masks: bool, shape [K, H, W], or None.
        title: Above the cell, for example the image's id.
        found: Of detections; ``None`` for ground truth.
    """

    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.floating]
    names: Sequence[str]
    groups: Sequence[str]
    masks: npt.NDArray[np.bool_] | None = None
    title: str = ""
    found: Found | None = None


def plot_predictions(
    path: Path, panels: Sequence[Panel], *, columns: Sequence[str], groups: Sequence[str] = ()
) -> None:
    """Draws a grid with one image a row.

    Args:
        path: The PNG file to write; an existing one is replaced.
        panels: Row after row, as many in a row as there are columns.
        columns: Headings, for example ``ground truth``, ``softmax``, ``bags``.
        groups: Group names in the order of the legend; names that only the panels know follow.

    Raises:
        ValueError: The panels do not fill whole rows, or a panel's fields differ in length.
        OutputError: The picture cannot be written.
    """
    if not panels or not columns or len(panels) % len(columns):
        raise ValueError(f"{len(panels)} panels do not fill rows of {len(columns)} columns")
    for i, panel in enumerate(panels):
        _check(panel, f"panel {i}")
    names = list(dict.fromkeys([*groups, *(name for panel in panels for name in panel.groups)]))
    colour_of = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    rows = len(panels) // len(columns)
    figure = new_figure(_CELL * len(columns), _CELL * rows + _LEGEND)
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for i, (axes, panel) in enumerate(zip(grid.flat, panels, strict=True)):
        _draw_panel(axes, panel, colour_of)
        heading = columns[i] if i < len(columns) else ""
        axes.set_title("\n".join(text for text in (heading, panel.title) if text), fontsize=9)
    _legend(figure, colour_of, judged=any(panel.found and panel.found.right is not None for panel in panels))
    save_figure(figure, path)


def _legend(figure: Figure, colour_of: Mapping[str, str], *, judged: bool) -> None:
    """The groups' colours, and what the lines mean where detections are judged."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if not colour_of:
        return
    handles: list[Artist] = [Patch(color=colour) for colour in colour_of.values()]
    texts = [f"{name} training instances" for name in colour_of]
    if judged:
        texts += [f"{_RIGHT} right: the class, and IoU at least 0.5", f"{_WRONG} wrong", "object not found"]
        handles += [Line2D([], [], color="#333333", ls=style, lw=1.4) for style in ("-", "--", ":")]
    # down the columns: the colours on the left, the lines on the right
    figure.legend(handles, texts, loc="outside lower center", ncols=4, frameon=False, fontsize=7)


def _check(panel: Panel, where: str) -> None:
    count = len(panel.names)
    fields: dict[str, Sized | None] = {"boxes": panel.boxes, "groups": panel.groups, "masks": panel.masks}
    if panel.found is not None:
        fields |= {"scores": panel.found.scores, "marks": panel.found.right}
    for name, values in fields.items():
        if values is not None and len(values) != count:
            raise ValueError(f"{where}: {len(values)} {name} for {count} names")
    if panel.masks is not None and panel.masks.shape[1:] != panel.image.shape[:2]:
        raise ValueError(f"{where}: masks of {panel.masks.shape[1:]} on an image of {panel.image.shape[:2]}")


def _draw_panel(axes: Axes, panel: Panel, colour_of: dict[str, str]) -> None:
    """The image, then masks, boxes and names; the best score comes last and so lies on top."""
    height, width = panel.image.shape[:2]
    order = list(range(len(panel.names)))
    if panel.found is not None:
        order.sort(key=list(panel.found.scores).__getitem__)
    axes.imshow(_with_masks(panel, order, colour_of), extent=(0, width, height, 0), interpolation="nearest")
    for box in () if panel.found is None or panel.found.missed is None else panel.found.missed:
        # seen on dark and on light pixels
        axes.add_patch(_rectangle(box, edgecolor="white", lw=1.2, alpha=0.8))
        axes.add_patch(_rectangle(box, edgecolor="black", lw=1.2, ls=":"))
    for k in order:
        colour = colour_of[panel.groups[k]]
        if panel.masks is not None and panel.masks[k].any():
            middle = (np.arange(width) + 0.5, np.arange(height) + 0.5)
            axes.contour(*middle, panel.masks[k], levels=[0.5], colors=colour, linewidths=0.9)
        wrong = panel.found is not None and panel.found.right is not None and not panel.found.right[k]
        axes.add_patch(_rectangle(panel.boxes[k], edgecolor=colour, lw=1.4, ls="--" if wrong else "-"))
        _write(axes, panel, k, colour, (width, height))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])


def _rectangle(box: npt.NDArray[np.floating], **style: Any) -> Patch:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = (float(v) for v in box)
    return Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **style)


def _write(axes: Axes, panel: Panel, k: int, colour: str, size: tuple[int, int]) -> None:
    """The name of an object, with the score and whether it is right where it is a detection."""
    (x, y), (width, height) = (float(v) for v in panel.boxes[k][:2]), size
    label = plain(panel.names[k], 24)
    if panel.found is not None:
        label = f"{label} {panel.found.scores[k]:.2f}"
        if panel.found.right is not None:
            label = f"{_RIGHT if panel.found.right[k] else _WRONG} {label}"
    # a box at the upper edge carries its name inside
    above = y > 0.05 * height
    axes.text(
        min(max(x, 0.0), 0.97 * width),
        y if above else max(y, 0.0),
        label,
        va="bottom" if above else "top",
        ha="left" if x < 0.6 * width else "center",
        fontsize=5.5,
        color="white",
        clip_on=True,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
    )


def _with_masks(panel: Panel, order: Sequence[int], colour_of: dict[str, str]) -> npt.NDArray[np.uint8]:
    """The image with each mask tinted in its group's colour, shape [H, W, 3]."""
    from matplotlib.colors import to_rgb

    if panel.masks is None:
        return panel.image
    picture = panel.image.astype(np.float64)
    for k in order:
        tint = 255 * np.array(to_rgb(colour_of[panel.groups[k]]))
        picture[panel.masks[k]] = 0.8 * picture[panel.masks[k]] + 0.2 * tint
    return picture.round().astype(np.uint8)
