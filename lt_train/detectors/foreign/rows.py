"""Rows of the layers that depend on the classes, brought into torchvision's order: the background is row 0.

Shapes: C foreground classes; the classifier has C + 1 rows, box regressor 4 (C + 1), mask logits C + 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lt_data.errors import DataError
from lt_train.detectors.foreign.names import CLASSIFIER, LAYER, MASK_LOGITS, REGRESSOR

# rows of a class, and of the background, which is not a class of boxes and masks where it comes last
ROWS = {CLASSIFIER: 1, REGRESSOR: 4, MASK_LOGITS: 1}


def check_rows(state: Mapping[str, Tensor], *, background: bool, where: str, agnostic: bool = False) -> None:
    """Checks that the layers that depend on the classes have rows for the same classes.

    Args:
        state: Weights under our names.
        background: Whether box regressor and mask logits have rows of the background.
        where: The file, for messages.
        agnostic: Whether the box regressor has rows of one box for all classes.

    Raises:
        DataError: They do not.
    """
    found = {key: _rows(state[key]) for layer in ROWS for key in _weights(layer) if key in state}
    classes = found[f"{CLASSIFIER}.weight"] - 1
    needed = {
        key: width * (1 if agnostic and layer == REGRESSOR else classes + (background or layer == CLASSIFIER))
        for layer, width in ROWS.items()
        for key in _weights(layer)
    }
    boxes = "one box for all" if agnostic else "boxes"
    problems = [
        f"weights {where}: {key} (its name here) has {rows} rows, {needed[key]} are needed beside a classifier of "
        f"{classes} classes and background; allowed are {boxes} and masks of each class, with a "
        "softmax"
        for key, rows in found.items()
        if rows != needed[key] or classes < 1
    ]
    if problems:
        raise DataError(problems)


def background_first(state: Mapping[str, Tensor], *, agnostic: bool = False) -> dict[str, Tensor]:
    """Moves the background from last to first; box regressor and mask logits get rows of zeros for it.

    Those rows are in no loss and in no detection, as long as a region of the background has no box and no mask.

    Args:
        state: Weights under our names, checked by :func:`check_rows` without rows of the background.
        agnostic: Whether the box regressor has rows of one box for all classes, and stays as it is.
    """
    moved = dict(state)
    for layer, width in ROWS.items():
        if agnostic and layer == REGRESSOR:
            continue
        for key in _weights(layer):
            if key in state:
                rows = state[key]
                parts = [rows[-1:], rows[:-1]] if layer == CLASSIFIER else [torch.zeros_like(rows[:width]), rows]
                moved[key] = torch.cat(parts)
    return moved


def _weights(layer: str) -> list[str]:
    return [f"{layer}.{part}" for part in LAYER]


def _rows(weight: Tensor) -> int:
    return len(weight) if weight.ndim else 0
