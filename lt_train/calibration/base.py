"""What every calibration offers.

Shapes: R regions, C foreground classes, L logits, D size of the features that the calibration looks at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from lt_train.heads.base import Head

Features = Literal["none", "fc", "conv"]
Regions = Literal["none", "ground-truth", "proposals"]


class Calibration(nn.Module, ABC):
    """Scores of a trained model from its logits and features. It has buffers, no parameters, and takes no gradient.

    Args:
        head: The model's head.

    Attributes:
        features: Which features :meth:`fit` and :meth:`scores` take.
        regions: Over which regions of the training set :meth:`fit` wants a pass.
    """

    features: Features = "none"
    regions: Regions = "none"

    def __init__(self, head: Head) -> None:
        super().__init__()
        # in a tuple, because the head is a part of the model already and its buffers are saved there
        self._head = (head,)

    @property
    def head(self) -> Head:
        """The model's head."""
        return self._head[0]

    def attach(self, classifier: nn.Linear) -> None:
        """Takes what the method needs of a trained classifier; nothing unless a method says otherwise."""

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Adds a batch of regions; what is added does not depend on the order.

        Args:
            features: [R, D], any float type.
            labels: [R] int64 in 0..C; background is skipped.
        """

    def finish(self) -> list[str]:
        """Notes on what was fitted, one line each.

        Raises:
            DataError: It cannot be used.
        """
        return []

    @abstractmethod
    def scores(self, logits: Tensor, features: Tensor | None) -> Tensor:
        """Scores in 0..1, float32 [R, C+1], column 0 is background.

        Args:
            logits: [R, L], any float type.
            features: [R, D], or ``None`` where ``features`` is ``none``.
        """
