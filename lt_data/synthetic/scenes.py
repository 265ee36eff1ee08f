"""One image of the procedural pool: a muted background, then textured shapes painted one over the other.

An object is placed so that enough of it, and of every object below it, stays visible; so everything that can be seen
is annotated. Lengths are shares of the image side.

Shapes: S image side in pixels, K objects, h, w rows and columns of an object's window.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lt_data.masks.outlines import Points, trace_outlines
from lt_data.synthetic.shapes import SHAPES, TEXTURES, Pixels, ShapeCategory

SMALLEST, LARGEST = 0.125, 0.44  # length of an object, log-uniform
FLOOR = 0.1  # failures shrink an object no further than this length
INSIDE = 0.7  # of a new object lies on the canvas
ON_OTHERS = 0.45  # of a new object at most lies on top of others
VISIBLE = 0.5  # of an object stays visible to the end
ATTEMPTS = 2000


@dataclass(frozen=True)
class Scene:
    """A finished image.

    Attributes:
        image: RGB uint8, shape [S, S, 3].
        outlines: For each object, in painting order, the outlines of its visible parts.
    """

    image: npt.NDArray[np.uint8]
    outlines: tuple[list[Points], ...]


@dataclass(frozen=True)
class _Placed:
    """An object's window on the canvas (clipped to it), what it covers there and how it lies."""

    rows: slice
    columns: slice
    alpha: Pixels
    x: Pixels
    y: Pixels
    radius: float
    full_area: float


def draw_scene(categories: Sequence[ShapeCategory], size: int, generator: np.random.Generator) -> Scene:
    """Paints objects of the given categories, in their order, later ones over earlier ones.

    Args:
        categories: Category of each object, K of them.
        size: Image side in pixels.
        generator: Everything random in the scene.
    """
    # first what does not depend on the objects: they take as many draws as they need
    canvas = _background(size, generator)
    gain, noise = _sensor(size, generator)
    visible = np.zeros((len(categories), size, size), np.float32)
    full_area = np.zeros(len(categories))
    for k, category in enumerate(categories):
        placed = _place(category, visible[:k], full_area[:k], generator)
        alpha = placed.alpha[..., None]
        window = canvas[placed.rows, placed.columns]
        window += alpha * (_paint(category, placed, size, generator) - window)
        visible[:k, placed.rows, placed.columns] *= 1 - placed.alpha
        visible[k, placed.rows, placed.columns] = placed.alpha
        full_area[k] = placed.full_area
    image = np.asarray(np.clip(canvas * gain + noise, 0, 1) * 255 + 0.5, np.uint8)
    return Scene(image, tuple(_outlines(part) for part in visible))


def _place(
    category: ShapeCategory, below: Pixels, below_area: npt.NDArray[np.float64], generator: np.random.Generator
) -> _Placed:
    """Draws places until one leaves enough to see of everything; each failure makes the object a little smaller."""
    size = below.shape[-1]
    share = SMALLEST * (LARGEST / SMALLEST) ** generator.random()
    visible_area = below.sum(axis=(1, 2))
    for _ in range(ATTEMPTS):
        placed = _draw_place(category, share * size, size, generator)
        covered = (below[:, placed.rows, placed.columns] * placed.alpha).sum(axis=(1, 2))
        if (
            placed.alpha.sum() >= INSIDE * placed.full_area
            and covered.sum() <= ON_OTHERS * placed.full_area
            and (visible_area - covered >= VISIBLE * below_area).all()
        ):
            return placed
        share = max(0.96 * share, FLOOR)
    raise RuntimeError(f"no room for an object after {ATTEMPTS} attempts; {len(below)} objects lie on {size} px")


def _draw_place(category: ShapeCategory, length: float, size: int, generator: np.random.Generator) -> _Placed:
    """A random place and rotation for an object of about ``length`` px."""
    radius = length / 2
    margin = 0.35 * length
    centre_x, centre_y = margin + (size - 2 * margin) * generator.random(2)
    turn = 2 * np.pi * generator.random()
    half = int(1.2 * radius) + 2
    left, top = int(centre_x) - half, int(centre_y) - half
    across = np.arange(left, left + 2 * half + 1, dtype=np.float32) + np.float32(0.5 - centre_x)
    down = np.arange(top, top + 2 * half + 1, dtype=np.float32)[:, None] + np.float32(0.5 - centre_y)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = cos * across + sin * down, cos * down - sin * across
    alpha = np.clip(0.5 - SHAPES[category.family.shape](x, y, radius), 0, 1)
    rows, columns = slice(max(top, 0), top + len(y)), slice(max(left, 0), left + len(x))
    inner = (slice(rows.start - top, size - top), slice(columns.start - left, size - left))
    full_area = float(alpha.sum())
    return _Placed(rows, columns, alpha[inner], x[inner], y[inner], radius, full_area)


def _paint(category: ShapeCategory, placed: _Placed, size: int, generator: np.random.Generator) -> Pixels:
    """Colour of every pixel of an object's window, RGB 0..1, shape [h, w, 3]."""
    hue, saturation, value, light, phase_x, phase_y = generator.random(6)
    base = colorsys.hsv_to_rgb(
        (category.family.hue + 0.03 * (hue - 0.5)) % 1.0,
        min(max(category.family.saturation + 0.2 * (saturation - 0.5), 0.0), 1.0),
        0.6 + 0.3 * value,
    )
    dark_tone = np.array(base, np.float32)
    light_tone = dark_tone + np.float32(0.65 + 0.2 * light) * (1 - dark_tone)
    # a pattern finer than this would not survive the first layers of a network
    period = max(0.62 * placed.radius, 0.042 * size)
    shift = np.zeros(2) if category.texture == "shaded" else period * np.array([phase_x, phase_y])
    texture = TEXTURES[category.texture]
    share = texture(placed.x + np.float32(shift[0]), placed.y + np.float32(shift[1]), period)
    return np.asarray(dark_tone + share[..., None] * (light_tone - dark_tone), np.float32)


def _background(size: int, generator: np.random.Generator) -> Pixels:
    """A muted colour with soft blotches, and on every other image faint stripes; RGB 0..1, shape [S, S, 3]."""
    hue, saturation, value, kind, turn, period = generator.random(6)
    base = np.array(colorsys.hsv_to_rgb(hue, 0.25 * saturation, 0.25 + 0.45 * value), np.float32)
    cells = int(generator.integers(3, 9))
    coarse = generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    blotches = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), np.float32) - 128
    # mostly brightness, so that strong colours are the objects' own
    grey = blotches.mean(axis=2, keepdims=True)
    canvas = base + (grey + np.float32(0.3) * blotches) / 255 * np.float32(0.35)
    if kind < 0.5:
        grid = np.arange(size, dtype=np.float32) / size
        wave = np.cos(2 * np.pi * turn) * grid + np.sin(2 * np.pi * turn) * grid[:, None]
        canvas += np.float32(0.06) * np.sin(wave * (20 + 60 * period)).astype(np.float32)[..., None]
    return np.asarray(canvas, np.float32)


def _sensor(size: int, generator: np.random.Generator) -> tuple[np.float32, Pixels]:
    """Exposure as a factor, and noise to add, shape [S, S, 3]."""
    gain, strength = generator.random(2)
    noise = generator.standard_normal((size, size, 3), dtype=np.float32)
    return np.float32(0.8 + 0.4 * gain), np.float32(0.008 + 0.02 * strength) * noise


def _outlines(part: Pixels) -> list[Points]:
    """Outlines of what is left to see of an object, traced within its bounding box."""
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return trace_outlines(part[top : rows[-1] + 1, left : columns[-1] + 1], (left, top))
