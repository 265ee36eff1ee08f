"""Weights of labels by training count, for the heads that count classes differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lt_data.counts.class_weights import class_weights
from lt_data.errors import DataError, RecipeError


def label_weights(
    head: str, instance_counts: Sequence[int], *, weighting: str, allowed: Sequence[str], **options: Any
) -> Tensor:
    """Weight of labels 0..C, float32 [C+1].

    Args:
        head: Name of the head, for messages.
        instance_counts: Training instances of classes 1..C; without any instance all classes weigh 1.
        weighting: ``none``, ``inverse`` or ``effective-number``.
        allowed: Those of them that the head has.
        **options: ``beta``, ``lower``, ``upper``, ``background``, ``background_ratio`` of
            :func:`lt_data.counts.class_weights.class_weights`.

    Raises:
        RecipeError: An option is out of range.
    """
    if weighting not in allowed:
        raise RecipeError(f"head {head}: weighting: got {weighting!r}; allowed are {', '.join(allowed)}")
    # options are checked where they change nothing too
    counted = list(instance_counts) if any(instance_counts) else [1] * len(instance_counts)
    kind = "inverse" if weighting == "none" else weighting
    try:
        weights = torch.from_numpy(class_weights(counted, kind=kind, **options)).float()
    except DataError as error:
        raise RecipeError(f"head {head}: {_in_words_of_recipes(line)}" for line in error.problems) from None
    if weighting == "none":
        return torch.ones_like(weights)
    if not any(instance_counts):
        weights[1:] = 1
        weights[0] = options["background"]
    return weights


def _in_words_of_recipes(line: str) -> str:
    """An option of the command line as the key of a recipe."""
    names, sign, rest = line.partition(": ")
    keys = names.replace("--kind", "weighting").replace("--", "").replace("-", "_")
    return f"{keys}{sign}{rest}"
