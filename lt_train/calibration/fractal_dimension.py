"""How evenly the boxes of each class lie in the images: the box-counting dimension of their centres, 1 to 2.

Shapes: n boxes, C classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lt_data.arrays import FloatArray, IntArray

# cells of the finest grid on a side
FINEST = 64
# boxes below which there are not two grids to draw a line through
FEWEST = 4


def fractal_dimensions(centres: FloatArray, labels: IntArray, num_classes: int) -> FloatArray:
    """Slope of the logarithm of the occupied cells of a k x k grid on that of k, for each class.

    Grids with more cells than the class has boxes are left out. A class with fewer than 4 boxes has 1, and so has one
    whose slope is below that.

    Args:
        centres: [n, 2] in 0..1; what lies on the upper edge belongs to the last cell.
        labels: [n] in 1..C.
        num_classes: C.

    Returns:
        [C] float64 in 1..2 (and a little more where least squares overshoot).

    Source: FRACAL (CVPR 2025), section 3.3, and its released code.
    """
    rows = labels - 1
    boxes = np.bincount(rows, minlength=num_classes)
    occupied = np.zeros((FINEST, num_classes))
    for k in range(1, FINEST + 1):
        # so fine a grid concerns the boxes of large classes alone
        fine = boxes >= k * k
        kept = fine[rows]
        cells = np.minimum((centres[kept] * k).astype(np.int64), k - 1)
        seen = np.zeros((num_classes, k * k), bool)
        seen[rows[kept], cells[:, 1] * k + cells[:, 0]] = True
        occupied[k - 1] = seen.sum(axis=1)
    return np.where(boxes >= FEWEST, np.maximum(_slopes(occupied), 1.0), 1.0)


def _slopes(occupied: npt.NDArray[np.float64]) -> FloatArray:
    """[C] slopes by least squares through the grids that were used; 0 where it is one grid or none.

    Args:
        occupied: [grids, C] occupied cells, 0 where a grid was not used.
    """
    used = occupied > 0
    x = np.log(np.arange(1, len(occupied) + 1))[:, None] * used
    y = np.log(np.where(used, occupied, 1.0))
    grids = used.sum(axis=0)
    spread = grids * (x * x).sum(axis=0) - x.sum(axis=0) ** 2
    together = grids * (x * y).sum(axis=0) - x.sum(axis=0) * y.sum(axis=0)
    return np.divide(together, spread, out=np.zeros(occupied.shape[1]), where=grids > 1)
