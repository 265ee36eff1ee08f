"""Classifiers: region features -> logits. The weights that a head (``lt_train.heads``) turns into losses and scores.

Shapes: R regions, D features per region, L logits (``head.num_logits``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lt_data.errors import RecipeError

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHT_STD = 0.01


def linear(in_features: int, num_logits: int, generator: torch.Generator | None = None) -> nn.Module:
    """[R, D] -> [R, L]; weight N(0, 0.01), bias 0.

    Source: Fast R-CNN, section 3.1; the released BAGS code starts its classifier in the same way.
    """
    import torch
    from torch import nn

    # made without values, because nn.Linear would draw its own from the global generator
    layer = nn.Linear(in_features, num_logits, device="meta").to_empty(device=torch.get_default_device())
    nn.init.normal_(layer.weight, std=WEIGHT_STD, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


CLASSIFIERS: dict[str, Callable[[int, int, torch.Generator | None], nn.Module]] = {
    "linear": linear,
}


def make_classifier(
    name: str, in_features: int, num_logits: int, *, generator: torch.Generator | None = None
) -> nn.Module:
    """The classifier called ``name``, freshly initialised.

    Args:
        name: A key of ``CLASSIFIERS``.
        in_features: D, features of a region.
        num_logits: L, what the head expects.
        generator: Source of the initial weights; ``None`` draws from PyTorch's global generator.

    Raises:
        RecipeError: No classifier has that name.
    """
    if name not in CLASSIFIERS:
        raise RecipeError(f"argument classifier: got {name!r}; allowed are {', '.join(sorted(CLASSIFIERS))}")
    return CLASSIFIERS[name](in_features, num_logits, generator)
