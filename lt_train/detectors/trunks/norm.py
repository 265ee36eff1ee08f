"""Batch normalisation on stored statistics, and switching it on for a whole model.

Small detection batches give poor statistics, so a pretrained trunk keeps those it came with.
Shapes: N images, D channels, H, W.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-5


class StoredStatsBatchNorm2d(nn.Module):
    """Normalises with stored mean and variance, in training too; weight and bias can be trained.

    Keys and shapes of its state are those of torchvision's ``FrozenBatchNorm2d``; ``num_batches_tracked`` of an
    ordinary batch norm is accepted and dropped.

    Source: ``norm_eval=True`` of the released BAGS configurations.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        """[N, D, H, W] -> the same shape."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    def extra_repr(self) -> str:
        """Channels, for ``print(model)``."""
        return f"{len(self.weight)}, eps={self.eps}"


def use_stored_statistics(model: nn.Module) -> None:
    """Puts every ordinary batch norm of ``model`` into evaluation mode: stored statistics, no update of them."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@contextmanager
def stored_statistics(model: nn.Module) -> Iterator[None]:
    """Around a forward pass in training: :func:`use_stored_statistics`, and back to how the model trains."""
    use_stored_statistics(model)
    try:
        yield
    finally:
        model.train()


def fold_zero_eps(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state whose batch norms were used with eps 0, see :func:`fold_eps`.

    Source: torchvision runs its COCO_V1 detectors with a ResNet-50 with eps 0 (``overwrite_eps``).
    """
    return fold_eps(state, 0.0)


def fold_eps(state: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
    """A state whose batch norms were used with another eps, rewritten so that 1e-5 gives the same outputs.

    Folding it into the weight keeps a checkpoint complete: eps is not part of a state dict.

    Args:
        state: State dict with ``*.running_var`` and ``*.weight`` entries; not changed.
        eps: That they were used with.
    """
    folded = dict(state)
    for key, variance in state.items():
        layer, _, last = key.rpartition(".")
        weight = state.get(f"{layer}.weight")
        # others are refused when they are loaded
        if last == "running_var" and weight is not None and weight.shape == variance.shape:
            factor = torch.where(variance + eps > 0, (variance + EPS) / (variance + eps), 1.0).sqrt()
            folded[f"{layer}.weight"] = weight * factor
    return folded
