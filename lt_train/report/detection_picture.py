"""One image with what a model found in it: masks, boxes, names and scores.

Shapes: H, W image rows and columns; h, w those of the picture, which is no larger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lt_data.pictures.figures import COLOURS, DPI, category_label, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

# pixels of the picture's longer side
LONGEST, SHORTEST = 1400, 640
# pixels of the legend: its width at least, of each group across and down, of the title and the margins down
_LEGEND, _GROUP, _TITLE = 520, (150, 22), 44
_LABEL = 16  # pixels of a box's label down
_HEAD, _GAP = 36, 12  # pixels of the titles down, and between two images
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
    threshold: float = 0.0,
    truth: Sequence[Mapping[str, Any]] | None = None,
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
        threshold: Lowest score that is drawn; where all are below, the picture says what the best one is.
        truth: What is annotated, as results without a score; with it the picture has two parts, the annotations first.

    Raises:
        OutputError: The picture cannot be written.
    """
    labels = _Labels(names, group_of, groups)
    save_figure(_figure(image, records, truth, labels, threshold), path)


def draw_detections(
    image: npt.NDArray[np.uint8],
    records: Sequence[Mapping[str, Any]],
    *,
    names: Mapping[int, str],
    group_of: Mapping[int, str],
    groups: Sequence[str],
    threshold: float = 0.0,
) -> Image:
    """The same picture, in memory, as an RGB image.

    Args:
        image: As for :func:`plot_detections`, as the other arguments.
        records: Likewise.
        names: Likewise.
        group_of: Likewise.
        groups: Likewise.
        threshold: Likewise.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    labels = _Labels(names, group_of, groups)
    canvas = FigureCanvasAgg(_figure(image, records, None, labels, threshold))
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


class _Labels(NamedTuple):
    names: Mapping[int, str]
    group_of: Mapping[int, str]
    groups: Sequence[str]


def _figure(
    image: npt.NDArray[np.uint8],
    records: Sequence[Mapping[str, Any]],
    truth: Sequence[Mapping[str, Any]] | None,
    labels: _Labels,
    threshold: float,
) -> Figure:
    """The image with the detections, and before it the same with what is annotated if that is given."""
    colour_of = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(labels.groups)}
    height, width = image.shape[:2]
    shown = min(max(height, width, SHORTEST), LONGEST) / max(height, width)
    strong = [record for record in records if record["score"] >= threshold]
    remark = "" if strong else _none_drawn(records, labels.names, threshold)
    found = f"found: {remark}" if remark else "found"
    parts = [("", strong)] if truth is None else [("annotated", truth), (found, strong)]
    below = remark if remark and truth is None else "training instances of the category"
    figure, panels = _canvas(width * shown, height * shown, colour_of, [title for title, _ in parts], below)
    for axes, (_, objects) in zip(panels, parts, strict=True):
        ordered = sorted(objects, key=_on_top)
        colours = [colour_of[labels.group_of[record["category_id"]]] for record in ordered]
        _draw_image(axes, image, ordered, colours, min(shown, 1.0))
        for record, colour in zip(ordered, colours, strict=True):
            _draw_box(axes, record, colour, _label(record, labels.names), (width, shown))
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_axis_off()
    return figure


def _none_drawn(records: Sequence[Mapping[str, Any]], names: Mapping[int, str], threshold: float) -> str:
    """Why nothing is drawn: an image without a box would look like an error."""
    if not records:
        return "nothing found"
    best = max(records, key=lambda record: float(record["score"]))
    name = category_label(names[best["category_id"]], best["category_id"])
    return f"no score of {threshold:g}; the best is {name} {float(best['score']):.2g}"


def _on_top(record: Mapping[str, Any]) -> float:
    """What is greater is drawn later: the score, or of annotations how small the box is."""
    if "score" in record:
        return float(record["score"])
    return -float(record["bbox"][2]) * float(record["bbox"][3])


def _label(record: Mapping[str, Any], names: Mapping[int, str]) -> str:
    name = category_label(names[record["category_id"]], record["category_id"])
    return f"{name} {float(record['score']):.2f}" if "score" in record else name


def _canvas(
    width: float, height: float, colour_of: Mapping[str, str], titles: Sequence[str], below: str
) -> tuple[Figure, list[Axes]]:
    """A figure with room for images of so many pixels side by side, and the groups below them under a title."""
    from matplotlib.patches import Patch

    part = width + _GAP
    wanted = part * len(titles) - _GAP
    across = max(wanted, _LEGEND)
    columns = max(int(across // _GROUP[0]), 1)
    head = _HEAD if any(titles) else 0
    down = head + height + _TITLE + _GROUP[1] * -(-len(colour_of) // columns)
    figure = new_figure(across / DPI, down / DPI)
    figure.set_layout_engine("none")
    figure.legend(
        [Patch(color=colour) for colour in colour_of.values()],
        list(colour_of),
        loc="lower center",
        ncols=min(columns, len(colour_of)),
        frameon=False,
        fontsize=7,
        title=below,
        title_fontsize=7,
    )
    panels = []
    for number, title in enumerate(titles):
        left = (across - wanted) / 2 + number * part
        panels.append(figure.add_axes((left / across, 1 - (head + height) / down, width / across, height / down)))
        panels[-1].set_title(title, fontsize=8, pad=6)
    return figure, panels


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
