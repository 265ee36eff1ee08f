"""Classifiers: region features -> logits. The weights that a head (``lt_train.heads``) turns into losses and scores.

Shapes: R regions, D features per region, L logits (``head.num_logits``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_data.errors import RecipeError

WEIGHT_STD = 0.01
COSINE_EPS = 1e-6


class CosineLinear(nn.Linear):
    """[R, D] -> [R, L]: the cosine between feature and row, times ``scale``, plus a bias.

    Args:
        in_features: D.
        out_features: L.
        scale: First value of the factor.
        learn_scale: Whether it is trained.

    Source: mmdetection's ``NormedLinear`` (20, not trained); DisAlign (CVPR 2021) trains the factor from 20 on.
    """

    scale: Tensor

    def __init__(self, in_features: int, out_features: int, *, scale: float, learn_scale: bool, **where: Any) -> None:
        super().__init__(in_features, out_features, **where)
        factor = torch.full((1,), scale, **where)
        if learn_scale:
            self.scale = nn.Parameter(factor)
        else:
            self.register_buffer("scale", factor)

    def rows(self) -> Tensor:
        """[L, D]: rows of length ``scale``; the feature is of length 1."""
        return self.scale * self._directions()

    def forward(self, features: Tensor) -> Tensor:
        """[R, D] -> [R, L]."""
        lengths = features.norm(dim=1, keepdim=True) + COSINE_EPS
        return F.linear(features / lengths * self.scale, self._directions(), self.bias)

    def _directions(self) -> Tensor:
        return self.weight / (self.weight.norm(dim=1, keepdim=True) + COSINE_EPS)


class ScaledLinear(nn.Linear):
    """[R, D] -> [R, L]: a linear layer whose rows have a factor each, 1 at first; the bias has none.

    Source: Kang et al., "Decoupling Representation and Classifier", ICLR 2020, learnable weight scaling.
    """

    def __init__(self, in_features: int, out_features: int, **where: Any) -> None:
        super().__init__(in_features, out_features, **where)
        self.scale = nn.Parameter(torch.ones(out_features, **where))

    def rows(self) -> Tensor:
        """[L, D]: the scaled rows."""
        return self.weight * self.scale[:, None]

    def forward(self, features: Tensor) -> Tensor:
        """[R, D] -> [R, L]."""
        return F.linear(features, self.rows(), self.bias)


def rows_of(classifier: nn.Linear) -> Tensor:
    """[L, D]: what a feature is multiplied with for each logit, before the bias."""
    return classifier.rows() if isinstance(classifier, CosineLinear | ScaledLinear) else classifier.weight


CLASSIFIERS = ("cosine", "linear", "scaled")


def make_classifier(
    name: str,
    in_features: int,
    num_logits: int,
    *,
    scale: float = 20.0,
    learn_scale: bool = False,
    generator: torch.Generator | None = None,
) -> nn.Linear:
    """The classifier called ``name``, freshly initialised: weight N(0, 0.01), bias 0.

    Of Fast R-CNN, section 3.1; the released BAGS code starts its classifier in the same way.

    Args:
        name: One of ``CLASSIFIERS``.
        in_features: D, features of a region.
        num_logits: L, what the head expects.
        scale: Factor of the cosines.
        learn_scale: Whether that factor is trained.
        generator: Source of the initial weights; ``None`` draws from PyTorch's global generator.

    Raises:
        RecipeError: No classifier has that name.
    """
    if name not in CLASSIFIERS:
        raise RecipeError(f"argument classifier: got {name!r}; allowed are {', '.join(CLASSIFIERS)}")
    layer = _unset(name, in_features, num_logits, scale=scale, learn_scale=learn_scale)
    nn.init.normal_(layer.weight, std=WEIGHT_STD, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _unset(name: str, in_features: int, num_logits: int, *, scale: float, learn_scale: bool) -> nn.Linear:
    """The layer; the values that nn.Linear would draw for it from the global generator are never made."""
    device = torch.get_default_device()
    if name == "linear":
        return nn.Linear(in_features, num_logits, device="meta").to_empty(device=device)
    layer: ScaledLinear | CosineLinear
    if name == "scaled":
        layer = ScaledLinear(in_features, num_logits, device="meta")
    else:
        layer = CosineLinear(in_features, num_logits, scale=scale, learn_scale=learn_scale, device="meta")
    layer = layer.to_empty(device=device)
    nn.init.constant_(layer.scale, scale if name == "cosine" else 1.0)
    return layer
