"""A grid of instances of one category, cut out of their images, with box and mask outline: ``lt-data show``.

Which instances are shown depends on nothing but the seed and the annotation ids.

Shapes: h, w rows and columns of a mask. Points are x, y in pixels of the image.
"""

from __future__ import annotations

import difflib
import hashlib
import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lt_data.annotations.file import AnnotationFile, Categories, read_annotations
from lt_data.arrays import IntArray
from lt_data.dataset.names import annotations_path
from lt_data.errors import DataError
from lt_data.files.image_content import why_unreadable
from lt_data.files.pixels import AS_STORED, ImageReading, as_rgb
from lt_data.files.writing import check_output_file
from lt_data.masks.measure import is_no_mask
from lt_data.masks.rle import fills
from lt_data.pictures.figures import COLOURS, FORMATS, new_figure, plain, save_figure
from lt_data.progress import Progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

DEFAULT_LIMIT: Final = 24
LARGEST_LIMIT: Final = 100
BOX_COLOUR: Final = COLOURS[4]
MASK_COLOUR: Final = COLOURS[5]

_CELL = 2.1
_MOST_COLUMNS = 8
# the cut is this much larger than the object, and never smaller than so many pixels
_MARGIN = 1.5
_SMALLEST_CUT = 48
# a cut is drawn at about 250 pixels; more would only fill the memory
_LARGEST_CUT = 500
_LARGEST_MASK = 2**27
# pixels; what lies farther off is a mistake, and no line can be drawn to it
_FARTHEST = 1e6

Points = npt.NDArray[np.float64]
Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Cell:
    """One instance to draw.

    Attributes:
        image_id: Dataset id of its image.
        file: The image file.
        listed_size: Width and height that the annotation file gives the image.
        box: x, y, width, height in pixels.
        segmentation: As in the file.
        reading: How the image file is read.
    """

    image_id: int
    file: Path
    listed_size: tuple[int, int]
    box: tuple[float, float, float, float]
    segmentation: Any
    reading: ImageReading


def show_category(
    path: Path,
    category: str,
    images: Path,
    out: Path,
    *,
    limit: int = DEFAULT_LIMIT,
    seed: int = 0,
    reading: ImageReading = AS_STORED,
    force: bool = False,
    progress: Progress | None = None,
    note: Callable[[str], object] = lambda line: None,
) -> Path:
    """Draws instances of a category, crowds left out.

    Args:
        path: A directory written by ``lt-data build-coco-lt``, or a COCO or LVIS annotation file.
        category: A category's name or, if no category is called so, its dataset id.
        images: The image folder.
        out: The PNG or SVG file to write.
        limit: Instances at most, 1 to 100; those whose ``"{seed}:{annotation id}"`` have the smallest sha256.
        seed: Another one shows other instances.
        reading: How image files are read.
        force: Replace the picture if it exists.
        progress: Called with the bytes read and the bytes in all.
        note: Called with each line about how the image files were found, and with one where ``category`` is the name
            of one category and the id of another.

    Returns:
        The path of the picture.

    Raises:
        DataError: The path or an image cannot be read, the category is unknown or has no instance, or the limit is
            out of range.
        OutputError: The picture exists, or cannot be written.
    """
    path, out = Path(path), Path(out)
    if not 1 <= limit <= LARGEST_LIMIT:
        raise DataError(f"--limit: got {limit}; allowed are 1 to {LARGEST_LIMIT}")
    check_output_file(out, force=force, suffixes=FORMATS)
    file = read_annotations(annotations_path(path), progress=progress)
    row = find_category(file.categories, category, str(file.path))
    category_id, name = int(file.categories.ids[row]), file.categories.names[row]
    if category_id != (other := category_with_id(file.categories, category)) and other is not None:
        meant = file.categories.names[file.categories.ids.tolist().index(other)]
        note(f"--category {category}: taken as the name of id {category_id}; the category with id {other} is '{meant}'")
    instances = _instances(file, category_id, name)
    chosen = choose_instances(file.annotation_ids, instances, limit, seed)
    where = plain(path.resolve().name)
    title = f"{plain(name)} (id {category_id}): {len(chosen):,} of {len(instances):,} instances in {where}"
    files = file.find_images(Path(images), np.unique(file.image_index()[chosen]).tolist())
    _draw(_cells(file, chosen, files.paths, reading), title, out)
    for line in files.notes:
        note(line)
    return out


def find_category(categories: Categories, wanted: str, where: str, option: str = "--category") -> int:
    """Position of the category called ``wanted`` or, if no category is called so, with this id.

    Args:
        categories: The category list of a file.
        wanted: A name, or an id in digits.
        where: File name for the error message.
        option: What the user wrote it for, for the same.

    Raises:
        DataError: There is none, or several have this name.
    """
    named = [row for row, name in enumerate(categories.names) if name == wanted]
    ids = categories.ids.tolist()
    if len(named) > 1:
        among = ", ".join(str(ids[row]) for row in named)
        raise DataError(f"{where}: {option}: {len(named)} categories are called '{wanted}'; give one's id: {among}")
    if named:
        return named[0]
    by_id = category_with_id(categories, wanted)
    if by_id is not None:
        return int(ids.index(by_id))
    near = close_names(categories.names, wanted)
    advice = f"did you mean {', '.join(near)}?" if near else f"for example {', '.join(categories.names[:5])}"
    raise DataError(f"{where}: {option}: no category has the name or id '{wanted}' ({len(ids):,} categories); {advice}")


def category_with_id(categories: Categories, wanted: str) -> int | None:
    """The id that is written so, if a category has it; ids are compared as text, so no text is taken for a number."""
    return next((category_id for category_id in categories.ids.tolist() if str(category_id) == wanted), None)


def close_names(names: Sequence[str], wanted: str, most: int = 5) -> list[str]:
    """Names spelled almost like ``wanted`` and names that hold it or a word of it, nearest first."""
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.casefold(), name)
    target = wanted.casefold().strip()
    near = difflib.get_close_matches(target, list(folded), n=most, cutoff=0.7)
    words = [word for word in target.replace("_", " ").split() if len(word) > 2]
    near += [name for name in folded if any(word in name for word in words)]
    return [folded[name] for name in dict.fromkeys(near)][:most]


def _instances(file: AnnotationFile, category_id: int, name: str) -> IntArray:
    """Positions of the category's non-crowd annotations, at least one."""
    of_category = file.annotation_category_ids == category_id
    instances = np.flatnonzero(of_category & ~file.crowd)
    if not len(instances):
        crowds = int(of_category.sum())
        raise DataError(
            f"{file.path}: category {category_id} '{name}' has no instance (crowds, which are not drawn: {crowds}); "
            "choose another category"
        )
    return instances


def choose_instances(annotation_ids: IntArray, instances: IntArray, limit: int, seed: int) -> IntArray:
    """The ``limit`` instances with the smallest sha256 of ``"{seed}:{annotation id}"``, in that order.

    Args:
        annotation_ids: Dataset ids of all annotations of a file.
        instances: Positions in it to choose from.
        limit: How many at most.
        seed: Of the order.
    """

    def digest(position: int) -> bytes:
        return hashlib.sha256(f"{seed}:{annotation_ids[position]}".encode()).digest()

    return np.array(heapq.nsmallest(limit, instances.tolist(), key=digest), np.int64)


def _cells(file: AnnotationFile, chosen: IntArray, images: Sequence[Path], reading: ImageReading) -> list[_Cell]:
    """Cells of the chosen annotations, from the files of their images in the order of the annotation file."""
    rows, place = np.unique(file.image_index()[chosen], return_inverse=True)
    cells = []
    for position, row, image in zip(chosen.tolist(), rows[place].tolist(), place.tolist(), strict=True):
        x, y, width, height = file.boxes[position].tolist()
        listed_width, listed_height = file.image_sizes[row].tolist()
        size = (listed_width, listed_height)
        box, segmentation = (x, y, width, height), file.segmentation(position)
        cells.append(_Cell(int(file.image_ids[row]), images[image], size, box, segmentation, reading))
    return cells


def _draw(cells: Sequence[_Cell], title: str, out: Path) -> None:
    columns = min(max(math.ceil(math.sqrt(1.5 * len(cells))), 3), _MOST_COLUMNS)
    rows = math.ceil(len(cells) / columns)
    figure = new_figure(_CELL * columns, (_CELL + 0.45) * rows + 0.7)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    masks = [_draw_cell(axes, cell) for axes, cell in zip(grid.flat, cells, strict=False)]
    figure.suptitle(title, fontsize=11)
    _legend(figure, masks=any(masks))
    save_figure(figure, out)


def _legend(figure: Any, *, masks: bool) -> None:
    from matplotlib.lines import Line2D

    entries = [("box", BOX_COLOUR)] + ([("mask", MASK_COLOUR)] if masks else [])
    handles = [Line2D([], [], color=colour, lw=2) for _, colour in entries]
    names = [name for name, _ in entries]
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=8)


def _draw_cell(axes: Axes, cell: _Cell) -> bool:
    """The cut, the box and the mask's outline; whether there is a mask to draw."""
    from matplotlib.patches import Rectangle

    picture, window, size = _cut(cell)
    x1, y1, x2, y2 = window
    axes.imshow(picture, extent=(x1, x2, y2, y1), interpolation="antialiased")
    outlines = mask_outlines(cell.segmentation)
    for points in outlines or []:
        closed = np.concatenate([points, points[:1]])
        _line(axes, closed, MASK_COLOUR, 1.2)
    x, y, width, height = cell.box
    has_box = _has_area(cell.box)
    if has_box:
        axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor="black", lw=2.2, alpha=0.55))
        axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=BOX_COLOUR, lw=1.2))
    # every cell is square, so that captions stand in line
    middle_x, middle_y, half = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1) / 2
    axes.set_xlim(middle_x - half, middle_x + half)
    axes.set_ylim(middle_y + half, middle_y - half)
    caption = [f"image {cell.image_id}", f"{width:.0f} \u00d7 {height:.0f} px" if has_box else "no box"]
    if outlines is None:
        caption[1] += ", mask not drawable"
    if 0 not in cell.listed_size and size != cell.listed_size:
        caption.append("listed as {} \u00d7 {}, is {} \u00d7 {}".format(*cell.listed_size, *size))
    axes.set_title("\n".join(caption), fontsize=7)
    return bool(outlines)


def _line(axes: Axes, points: Points, colour: str, width: float) -> None:
    """A line that is seen on light and on dark ground."""
    axes.plot(points[:, 0], points[:, 1], color="black", lw=width + 1.0, alpha=0.55, solid_joinstyle="round")
    axes.plot(points[:, 0], points[:, 1], color=colour, lw=width, solid_joinstyle="round")


def _cut(cell: _Cell) -> tuple[Image, Window, tuple[int, int]]:
    """The part of the image around the object, its window in the image, and the image's width and height."""
    from PIL import Image

    try:
        with Image.open(cell.file) as image:
            picture = as_rgb(image, cell.reading, cell.listed_size)
    except DataError as error:
        raise DataError(f"{cell.file}: {line}" for line in error.problems) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        why = why_unreadable(error, _first_bytes(cell.file))
        raise DataError(f"{cell.file}: cannot be read as an image ({why}); replace the file") from None
    size = picture.size
    window = cut_window(cell.box, size)
    picture = picture.crop(window)
    picture.thumbnail((_LARGEST_CUT, _LARGEST_CUT))
    return picture, window, size


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(100)
    except OSError:
        return b""


def cut_window(box: tuple[float, float, float, float], size: tuple[int, int]) -> Window:
    """A square around a box with a margin, moved into the image and as much smaller as the image demands.

    Args:
        box: x, y, width, height in pixels.
        size: Width and height of the image in pixels.

    Returns:
        x1, y1, x2, y2 in whole pixels inside the image; the whole image if no part of the box lies in it.
    """
    x, y, width, height = box
    if not _has_area(box) or x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
        return (0, 0, *size)
    side = max(_MARGIN * max(width, height), _SMALLEST_CUT)
    x1, x2 = _span(x + width / 2, side, size[0])
    y1, y2 = _span(y + height / 2, side, size[1])
    return x1, y1, x2, y2


def _span(middle: float, length: float, limit: int) -> tuple[int, int]:
    """A stretch of whole pixels in 0..limit around the middle."""
    whole = min(math.ceil(length), limit)
    start = min(max(round(middle - whole / 2), 0), limit - whole)
    return start, start + whole


def _has_area(box: tuple[float, float, float, float]) -> bool:
    return all(abs(v) < _FARTHEST for v in box) and box[2] > 0 and box[3] > 0


def mask_outlines(segmentation: Any) -> list[Points] | None:
    """Outlines of a mask.

    Args:
        segmentation: Polygons (lists of x, y, x, y, ...), a compressed or uncompressed RLE, or nothing.

    Returns:
        Open rings of points, shape [P, 2] each; empty if there is no mask, ``None`` if it is not one to draw.
    """
    if is_no_mask(segmentation):
        return []
    if isinstance(segmentation, list):
        rings = [_ring(polygon) for polygon in segmentation]
        return None if any(ring is None for ring in rings) else [ring for ring in rings if ring is not None]
    mask = decode_rle(segmentation)
    return None if mask is None else list(_borders(mask))


def _ring(polygon: Any) -> Points | None:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        return None
    if not all(isinstance(v, int | float) and abs(v) < _FARTHEST for v in polygon):
        return None
    return np.array(polygon, np.float64).reshape(-1, 2)


def decode_rle(segmentation: Any) -> npt.NDArray[np.uint8] | None:
    """The mask of a COCO RLE, shape [h, w], or ``None`` if its runs do not fill exactly ``size``."""
    from pycocotools import mask as rle

    if not isinstance(segmentation, dict):
        return None
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(type(v) is int and 0 < v < 2**20 for v in size)):
        return None
    area = size[0] * size[1]
    if area > _LARGEST_MASK:
        return None
    code: Any = None
    if isinstance(counts, str) and fills(counts, area):
        code = {"size": size, "counts": counts.encode("ascii")}
    elif isinstance(counts, list) and all(type(v) is int and v >= 0 for v in counts) and sum(counts) == area:
        code = rle.frPyObjects({"size": size, "counts": counts}, *size)
    return None if code is None else rle.decode(code)


def _borders(mask: npt.NDArray[np.uint8]) -> Iterator[Points]:
    """The borders of a mask, along the middle of the step from inside to outside, in pixels of the image."""
    from contourpy import contour_generator

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    y1, x1 = int(rows[0]), int(columns[0])
    # the part that holds the object, with a border of background so that every line closes
    part = np.pad(mask[y1 : rows[-1] + 1, x1 : columns[-1] + 1].astype(np.float64), 1)
    for line in contour_generator(z=part, name="serial").lines(0.5):
        # pixel i has its middle at i + 0.5, and the border moved everything by one
        yield np.asarray(line, np.float64) + np.array([x1 - 0.5, y1 - 0.5])
