"""Polygons cut at the edges of an image (Sutherland and Hodgman, 1974), which keeps every point that is inside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

_Point = tuple[float, float]
_FEWEST_POINTS: Final = 3


def clipped_polygons(polygons: Iterable[Sequence[float]], size: Sequence[int]) -> list[list[float]]:
    """What of polygons lies in an image; parts without an area there are left out.

    A polygon that enters the image twice stays one, joined along the edge, where it covers nothing.

    Args:
        polygons: Each as x1, y1, x2, y2, ... in pixels.
        size: Width and height of the image.
    """
    kept = []
    for polygon in polygons:
        points = list(zip(polygon[0::2], polygon[1::2], strict=True))
        for axis in (0, 1):
            points = _cut(points, axis, 0, upper=False)
            points = _cut(points, axis, size[axis], upper=True)
        if len(points) >= _FEWEST_POINTS and _covers_any(points, size):
            kept.append([number for point in points for number in point])
    return kept


def _cut(points: list[_Point], axis: int, limit: float, *, upper: bool) -> list[_Point]:
    """A polygon on one side of a line: with coordinates up to the limit, or from it on."""

    def is_inside(point: _Point) -> bool:
        return point[axis] <= limit if upper else point[axis] >= limit

    found: list[_Point] = []
    for before, point in zip(points[-1:] + points[:-1], points, strict=True):
        if is_inside(before) != is_inside(point):
            found.append(_on_line(before, point, axis, limit))
        if is_inside(point):
            found.append(point)
    return found


def _on_line(first: _Point, second: _Point, axis: int, limit: float) -> _Point:
    """Where an edge meets the line."""
    share = (limit - first[axis]) / (second[axis] - first[axis])
    other = round(first[1 - axis] + share * (second[1 - axis] - first[1 - axis]), 4)
    return (limit, other) if axis == 0 else (other, limit)


def _covers_any(points: list[_Point], size: Sequence[int]) -> bool:
    """Whether a clipped polygon has an area; where it crosses itself its halves may cancel."""
    if _doubled_area(points):
        return True
    points = _without_returns(points)
    if len(points) < _FEWEST_POINTS:
        return False
    # what goes along the edge alone goes round nothing
    edges = zip(points, points[1:] + points[:1], strict=True)
    return not _in_a_line(points) and not all(_along_the_edge(a, b, size) for a, b in edges)


def _without_returns(points: list[_Point]) -> list[_Point]:
    """A polygon less what goes to a point and the same way back, as a bent line does."""
    kept: list[_Point] = []
    for point in points:
        if len(kept) > 1 and kept[-2] == point:
            kept.pop()
        elif not kept or kept[-1] != point:
            kept.append(point)
    # the same across its beginning
    while len(kept) > 1 and kept[0] in kept[-2:]:
        kept.pop()
    while len(kept) > 1 and kept[-1] == kept[1]:
        kept = kept[1:-1]
    return kept


def _along_the_edge(first: _Point, second: _Point, size: Sequence[int]) -> bool:
    return any(first[axis] == second[axis] and first[axis] in (0, size[axis]) for axis in (0, 1))


def _in_a_line(points: list[_Point]) -> bool:
    x, y = points[0]
    other = next((point for point in points if point != points[0]), points[0])
    return all((px - x) * (other[1] - y) == (py - y) * (other[0] - x) for px, py in points)


def _doubled_area(points: list[_Point]) -> float:
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, points[1:] + points[:1], strict=True)))


def polygon_text(polygons: list[list[float]]) -> bytes:
    """Polygons for the file."""
    return msgspec.json.encode(polygons)
