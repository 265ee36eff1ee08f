"""What the objects of the procedural pool look like: shapes, textures, colours and the categories made of them.

A family is one shape in one colour; its three categories differ in texture only, so each is the others' look-alike.
Every texture is frequent in one family and rare in another: what tells a rare category from its look-alike can be
learned from frequent ones, and failing on it is the classifier's bias, not a lack of features.

Shapes: h, w rows and columns of a pixel window; x and y [h, w] are pixels from the object's centre, rotated with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lt_data.errors import DataError

Pixels = npt.NDArray[np.floating[Any]]
ShapeFunction = Callable[[Pixels, Pixels, float], Pixels]
TextureFunction = Callable[[Pixels, Pixels, float], Pixels]

FEWEST, MOST = 20, 60


def disc(x: Pixels, y: Pixels, radius: float) -> Pixels:
    """Signed distance to the outline in pixels, negative inside, shape [h, w]; like all shape functions."""
    return np.hypot(x, y) - radius


def square(x: Pixels, y: Pixels, radius: float) -> Pixels:
    """A square of side 1.7 radii."""
    return np.maximum(np.abs(x), np.abs(y)) - 0.85 * radius


def triangle(x: Pixels, y: Pixels, radius: float) -> Pixels:
    """An equilateral triangle with its corners 1.15 radii from the centre."""
    slanted = 0.866 * np.abs(x) - 0.5 * y
    return np.maximum(slanted, y) - 0.575 * radius


def star(x: Pixels, y: Pixels, radius: float) -> Pixels:
    """A star with five points."""
    fifth = 2 * math.pi / 5
    angle = np.abs(np.mod(np.arctan2(y, x), fifth) - fifth / 2)
    # in the folded plane one straight edge runs from the inner corner on the x axis to the outer one
    inner, outer_x, outer_y = 0.52 * radius, 1.15 * radius * math.cos(fifth / 2), 1.15 * radius * math.sin(fifth / 2)
    length = math.hypot(outer_y, inner - outer_x)
    normal_x, normal_y = outer_y / length, (inner - outer_x) / length
    distance = np.hypot(x, y)
    return distance * (normal_x * np.cos(angle) + normal_y * np.sin(angle)) - normal_x * inner


def ring(x: Pixels, y: Pixels, radius: float) -> Pixels:
    """A ring whose hole has 0.42 of its diameter."""
    to_middle: Pixels = np.abs(np.hypot(x, y) - 0.71 * radius)
    return to_middle - 0.29 * radius


def cross(x: Pixels, y: Pixels, radius: float) -> Pixels:
    """Two bars at right angles."""
    long, thick = radius, 0.36 * radius
    across = np.maximum(np.abs(x) - long, np.abs(y) - thick)
    upright = np.maximum(np.abs(x) - thick, np.abs(y) - long)
    return np.minimum(across, upright)


def pill(x: Pixels, y: Pixels, radius: float) -> Pixels:
    """A bar with round ends."""
    thick = 0.48 * radius
    beyond: Pixels = np.maximum(np.abs(x) - (1.1 * radius - thick), 0.0)
    to_axis: Pixels = np.hypot(beyond, y)
    return to_axis - thick


def crescent(x: Pixels, y: Pixels, radius: float) -> Pixels:
    """A disc with a smaller one taken off its side."""
    to_centre = np.hypot(x, y)
    to_bite = np.hypot(x - 0.62 * radius, y)
    outside_bite = 0.62 * radius - to_bite
    distance: Pixels = np.maximum(to_centre - radius, outside_bite)
    return distance


def diamond(x: Pixels, y: Pixels, radius: float) -> Pixels:
    """A rhombus, longer than it is wide."""
    return (np.abs(x) + 1.7 * np.abs(y) - 1.15 * radius) / math.hypot(1.0, 1.7)


def hexagon(x: Pixels, y: Pixels, radius: float) -> Pixels:
    """A regular hexagon."""
    return np.maximum(np.abs(y), 0.866 * np.abs(x) + 0.5 * np.abs(y)) - 0.87 * radius


def plain(x: Pixels, y: Pixels, period: float) -> Pixels:
    """Share of the light tone per pixel, 0..1, shape [h, w]; like all texture functions. Here nothing."""
    return np.zeros_like(x)


def striped(x: Pixels, y: Pixels, period: float) -> Pixels:
    """Parallel stripes."""
    return _unit(0.5 + np.sin(x * (2 * math.pi / period)) * (period / 5))


def checked(x: Pixels, y: Pixels, period: float) -> Pixels:
    """A chessboard."""
    step = math.pi / (0.55 * period)
    return _unit(0.5 + np.sin(x * step) * np.sin(y * step) * (period / 3))


def dotted(x: Pixels, y: Pixels, period: float) -> Pixels:
    """Round dots on a square lattice."""
    u = np.mod(x, period) - period / 2
    v = np.mod(y, period) - period / 2
    return _unit(0.5 + 0.32 * period - np.hypot(u, v))


def shaded(x: Pixels, y: Pixels, period: float) -> Pixels:
    """A gradient across the object."""
    return _unit(0.5 + x / (2.8 * period))


def _unit(share: Pixels) -> Pixels:
    clipped: Pixels = np.clip(share, 0, 1)
    return clipped


SHAPES: Final[Mapping[str, ShapeFunction]] = {
    "disc": disc,
    "square": square,
    "triangle": triangle,
    "star": star,
    "ring": ring,
    "cross": cross,
    "pill": pill,
    "crescent": crescent,
    "diamond": diamond,
    "hexagon": hexagon,
}
TEXTURES: Final[Mapping[str, TextureFunction]] = {
    "plain": plain,
    "striped": striped,
    "checked": checked,
    "dotted": dotted,
    "shaded": shaded,
}


@dataclass(frozen=True)
class Family:
    """Look-alikes: one shape, one colour, three textures.

    Attributes:
        shape: Key of ``SHAPES``.
        hue: Middle of the hue in 0..1 (0 red, 1/3 green, 2/3 blue).
        saturation: Middle of the saturation in 0..1.
        textures: Keys of ``TEXTURES``: of the frequent, the middle and the rare category.
        colour: Its word in names where two families share a shape; empty for the first of them.
    """

    shape: str
    hue: float
    saturation: float
    textures: tuple[str, str, str]
    colour: str = ""

    @property
    def name(self) -> str:
        """For example ``disc`` or ``blue-disc``."""
        return f"{self.colour}-{self.shape}" if self.colour else self.shape


FAMILIES: Final = (
    Family("disc", 0.00, 0.85, ("plain", "striped", "dotted")),
    Family("square", 0.61, 0.85, ("striped", "dotted", "checked")),
    Family("triangle", 0.36, 0.80, ("dotted", "plain", "striped")),
    Family("star", 0.14, 0.90, ("shaded", "striped", "plain")),
    Family("ring", 0.88, 0.75, ("plain", "shaded", "striped")),
    Family("cross", 0.06, 0.95, ("checked", "plain", "striped")),
    Family("pill", 0.50, 0.85, ("striped", "plain", "dotted")),
    Family("crescent", 0.75, 0.65, ("dotted", "shaded", "plain")),
    Family("diamond", 0.23, 0.85, ("checked", "striped", "plain")),
    Family("hexagon", 0.00, 0.04, ("shaded", "dotted", "checked")),
    # for more than 30 categories: the same shapes in colours far from those above
    Family("disc", 0.55, 0.80, ("striped", "checked", "plain"), "blue"),
    Family("square", 0.09, 0.90, ("dotted", "plain", "shaded"), "orange"),
    Family("triangle", 0.83, 0.75, ("checked", "shaded", "dotted"), "pink"),
    Family("star", 0.66, 0.80, ("dotted", "checked", "striped"), "indigo"),
    Family("ring", 0.33, 0.80, ("checked", "dotted", "plain"), "green"),
    Family("cross", 0.58, 0.80, ("plain", "dotted", "shaded"), "blue"),
    Family("pill", 0.98, 0.85, ("shaded", "checked", "striped"), "red"),
    Family("crescent", 0.17, 0.90, ("striped", "plain", "checked"), "yellow"),
    Family("diamond", 0.72, 0.75, ("plain", "shaded", "dotted"), "violet"),
    Family("hexagon", 0.42, 0.80, ("striped", "checked", "shaded"), "green"),
)


@dataclass(frozen=True)
class ShapeCategory:
    """A category of the pool.

    Attributes:
        category_id: Dataset id, 1..C; the categories of a family follow one another.
        family: Shape and colour, shared with its look-alikes.
        texture: What sets it apart from them.
        rank: 0 for the most frequent category of a long-tailed pool, C - 1 for the rarest.
    """

    category_id: int
    family: Family
    texture: str
    rank: int

    @property
    def name(self) -> str:
        """For example ``striped-disc``; ``striped-blue-disc`` among more than 30."""
        return f"{self.texture}-{self.family.name}"


def shape_categories(count: int) -> tuple[ShapeCategory, ...]:
    """The categories of a pool, ascending by id.

    Every family has a frequent and a rare member, most also one in the middle. Ranks run through the frequent
    members, then the middle ones, then the rare ones in reverse: the look-alike of the most frequent category is the
    rarest.

    Args:
        count: Number of categories, 20 to 60.

    Raises:
        DataError: ``count`` is out of range.
    """
    if not FEWEST <= count <= MOST:
        raise DataError(f"categories: got {count}; allowed are {FEWEST} to {MOST}")
    families = range(-(-count // 3))
    without_middle = 3 * len(families) - count
    middle = [(f, 1) for f in families if f < len(families) - without_middle]
    by_rank = [(f, 0) for f in families] + middle + [(f, 2) for f in reversed(families)]
    rank = {member: r for r, member in enumerate(by_rank)}
    return tuple(
        ShapeCategory(i, FAMILIES[f], FAMILIES[f].textures[m], rank[f, m])
        for i, (f, m) in enumerate(sorted(by_rank), start=1)
    )
