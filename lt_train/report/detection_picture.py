"""One image with what a model found in it: masks, boxes, names and scores.

Shapes: H, W image rows and columns; h, w those of the picture, which is no larger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lt_data.pictures.figures import COLOURS, DPI, category_label, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# pixels of the picture's longer side
LONGEST, SHORTEST = 1400, 640
# pixels of the legend: its width at least, of each group across and down, of the title and the margins down
_LEGEND, _GROUP, _TITLE = 520, (150, 22), 44
_LABEL = 16  # pixels of a box's label down
_TINT = 0.3
_MIDDLE = 0.5


def plot_detections(
    path: Path,
    image: npt.NDArray[np.uint8],
    records: Sequence[Mapping[str, Any]],
    *,
    names: Mapping[int, str],
    group_of: Mapping[int, str],
    groups: Sequence[str],
) -> None:
    """Draws an image with its detections; the best score lies on top.

    Masks are decoded one at a time, so memory does not grow with their number.

    Args:
        path: The PNG file to write; an existing one is replaced.
        image: RGB, shape [H, W, 3].
        records: COCO results of the image.
        names: Category names by dataset id.
        group_of: Group names by dataset id; they choose the colours.
        groups: Group names in the order of the legend.

    Raises:
        OutputError: The picture cannot be written.
    """
    records = sorted(records, key=lambda record: float(record["score"]))
    colour_of = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(groups)}
    colours = [colour_of[group_of[record["category_id"]]] for record in records]
    height, width = image.shape[:2]
    shown = min(max(height, width, SHORTEST), LONGEST) / max(height, width)
    figure, axes = _canvas(width * shown, height * shown, colour_of)
    _draw_image(axes, image, records, colours, min(shown, 1.0))
    for record, colour in zip(records, colours, strict=True):
        name = category_label(names[record["category_id"]], record["category_id"])
        _draw_box(axes, record, colour, f"{name} {float(record['score']):.2f}", (width, shown))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    save_figure(figure, path)


def _canvas(width: float, height: float, colour_of: Mapping[str, str]) -> tuple[Figure, Axes]:
    """A figure with room for an image of so many pixels, and the legend of the groups below it."""
    from matplotlib.patches import Patch

    across = max(width, _LEGEND)
    columns = max(int(across // _GROUP[0]), 1)
    down = height + _TITLE + _GROUP[1] * -(-len(colour_of) // columns)
    figure = new_figure(across / DPI, down / DPI)
    figure.set_layout_engine("none")
    figure.legend(
        [Patch(color=colour) for colour in colour_of.values()],
        list(colour_of),
        loc="lower center",
        ncols=min(columns, len(colour_of)),
        frameon=False,
        fontsize=7,
        title="training instances of the category",
        title_fontsize=7,
    )
    place = (0.5 - width / across / 2, 1 - height / down, width / across, height / down)
    return figure, figure.add_axes(place)


def _draw_image(
    axes: Axes, image: npt.NDArray[np.uint8], records: Sequence[Mapping[str, Any]], colours: Sequence[str], scale: float
) -> None:
    """The image with each mask tinted and outlined in its colour."""
    from matplotlib.colors import to_rgb
    from PIL import Image

    height, width = image.shape[:2]
    h, w = max(round(height * scale), 1), max(round(width * scale), 1)
    picture = np.array(Image.fromarray(image).resize((w, h), Image.Resampling.BOX)).astype(np.float32)
    rows, columns = _middles(h, height), _middles(w, width)
    for record, colour in zip(records, colours, strict=True):
        mask = _mask(record, rows.astype(np.int64), columns.astype(np.int64))
        if mask is None or not mask.any():
            continue
        picture[mask] = (1 - _TINT) * picture[mask] + _TINT * 255 * np.array(to_rgb(colour), np.float32)
        if min(mask.shape) > 1:
            axes.contour(columns, rows, mask, levels=[_MIDDLE], colors=colour, linewidths=1.0)
    axes.imshow(picture.round().astype(np.uint8), extent=(0, width, height, 0), interpolation="nearest")


def _middles(cells: int, length: int) -> npt.NDArray[np.float64]:
    """Middle of each of ``cells`` equal parts of ``length``."""
    return (np.arange(cells) + _MIDDLE) * length / cells


def _mask(
    record: Mapping[str, Any], rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_] | None:
    """The mask at the rows [h] and columns [w] of the image, shape [h, w]."""
    from pycocotools import mask as rle

    if "segmentation" not in record:
        return None
    whole: npt.NDArray[np.uint8] = rle.decode(record["segmentation"])
    return whole[np.ix_(rows, columns)].astype(np.bool_)


def _draw_box(axes: Axes, record: Mapping[str, Any], colour: str, label: str, size: tuple[int, float]) -> None:
    """A box with its label; at the upper edge that stands inside, at the right edge it begins further left.

    ``size`` is the image's width in pixels and how large a pixel is shown.
    """
    from matplotlib.patches import Rectangle

    x, y, width, height = (float(value) for value in record["bbox"])
    image_width, shown = size
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, lw=1.6))
    inside = y * shown < _LABEL
    axes.annotate(
        label,
        (x, max(y, 0.0)),
        xytext=(1, -2 if inside else 2),
        textcoords="offset points",
        va="top" if inside else "bottom",
        ha="left" if x < 0.8 * image_width else "center",
        fontsize=7,
        color="white",
        annotation_clip=False,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
    )
