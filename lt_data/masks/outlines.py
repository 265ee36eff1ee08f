"""Outlines of a mask as COCO polygons: traced between pixels, simplified, holes joined to their outline.

Shapes: h, w rows and columns, P points. Points are (x, y) pixels; x = 0 is the left edge of the first column.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt
from contourpy import FillType, contour_generator

Points = npt.NDArray[np.float64]

TOLERANCE = 0.2
SMALLEST = 4.0


def trace_outlines(coverage: npt.NDArray[np.float32], origin: tuple[int, int]) -> list[Points]:
    """Closed outlines of the part of a window that is covered by more than half.

    A hole is joined to its outline by a cut of no width, since a COCO polygon has no holes of its own. Specks and
    holes below 4 px^2 are left out.

    Args:
        coverage: Share of each pixel that the object covers, 0..1, shape [h, w].
        origin: Column and row of the window's first pixel in the image.

    Returns:
        One [P, 2] array a part, rounded to 0.01 px, P >= 3, first point not repeated.
    """
    padded = np.pad(coverage, 1)
    contours = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    filled, offsets = cast("tuple[list[Points], list[npt.NDArray[np.uint32]]]", contours)
    # the padding takes one pixel off, pixel centres lie half a pixel in
    shift = np.array(origin, np.float64) - 0.5
    outlines = []
    for points, starts in zip(filled, offsets, strict=True):
        closed = [points[a:b] + shift for a, b in pairwise(starts.tolist())]
        rings = [simplify(ring[:-1]) for ring in closed if abs(signed_area(ring[:-1])) >= SMALLEST]
        if rings and abs(signed_area(closed[0][:-1])) >= SMALLEST:
            outline = rings[0]
            for hole in rings[1:]:
                outline = _cut_to(outline, hole)
            outlines.append(np.round(outline, 2))
    return outlines


def signed_area(points: Points) -> float:
    """Area that a closed outline encloses in px^2 (shoelace formula); the sign gives the direction it runs in."""
    x, y = points[:, 0], points[:, 1]
    last_edge = x[-1] * y[0] - y[-1] * x[0]
    return 0.5 * float(x[:-1] @ y[1:] - y[:-1] @ x[1:] + last_edge)


def simplify(points: Points, tolerance: float = TOLERANCE) -> Points:
    """Leaves out points of a closed outline that lie within ``tolerance`` px of the line between kept ones.

    Source: Douglas and Peucker (Cartographica 10, 1973).
    """
    ring = np.append(points, points[:1], axis=0)
    plane = ring[:, 0] + 1j * ring[:, 1]
    far = int(np.abs(plane - plane[0]).argmax())
    keep = np.zeros(len(ring), bool)
    keep[[0, far, -1]] = True
    stack = [(0, far), (far, len(ring) - 1)]
    while stack:
        start, end = stack.pop()
        if end - start < 2:
            continue
        along = plane[end] - plane[start]
        distance = np.abs(((plane[start + 1 : end] - plane[start]) * along.conjugate()).imag)
        worst = int(distance.argmax())
        if distance[worst] > tolerance * abs(along):
            middle = start + 1 + worst
            keep[middle] = True
            stack += [(start, middle), (middle, end)]
    kept = ring[:-1][keep[:-1]]
    return kept if len(kept) >= 3 else points


def _cut_to(outline: Points, hole: Points) -> Points:
    """One closed line around the outline and the hole, there and back along the shortest cut between them."""
    distance = ((outline[:, None] - hole[None]) ** 2).sum(axis=2)
    i, j = np.unravel_index(int(np.argmin(distance)), distance.shape)
    return np.concatenate([outline[: i + 1], hole[j:], hole[: j + 1], outline[i:]])
