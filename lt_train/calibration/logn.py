"""LogN: the logits of each class normalised by their mean and deviation over the regions of the training images.

Shapes: R regions, C foreground classes, C + 1 logits.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lt_data.errors import DataError
from lt_train.calibration.beside_background import BesideBackground, require_softmax
from lt_train.calibration.options import LogNOptions
from lt_train.heads.shared.base import Head

# a variance below this share of the mean square is rounding: the logit is a constant
ROUNDING = 1e-10


class LogN(BesideBackground):
    """Scores of ``(z_c - mu_c + min over k of mu_k) / sigma_c``; the background's logit stays (mu 0, sigma 1).

    Args:
        head: A head with one softmax over the background and all classes.
        options: What becomes of the background's probability.
        classifier: Not used.
        feature_sizes: Not used.

    Attributes:
        sums: [2, C] float64, sum of the logits of each class and of their squares.
        seen: [] int64, how many regions they are of.

    Raises:
        RecipeError: The head has other scores.

    Source: Zhao et al., "Logit Normalization for Long-tail Object Detection", IJCV 2024, and its code, which keeps
    moving averages of momentum 1e-4 over an epoch; here every region of the pass counts alike, in any order.
    """

    options: LogNOptions
    features = "logits"
    regions = "sampled"
    sums: Tensor
    seen: Tensor

    def __init__(
        self, head: Head, options: LogNOptions, *, classifier: nn.Linear, feature_sizes: Mapping[str, int]
    ) -> None:
        super().__init__(head)
        require_softmax("logn", head)
        self.options = options
        self.register_buffer("sums", torch.zeros(2, head.num_classes, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def attach(self, classifier: nn.Linear) -> None:
        """Forgets what was fitted."""
        self.sums.zero_()
        self.seen.zero_()

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """See :meth:`Calibration.fit`; ``features`` are [R, C+1] logits of objects and background."""
        logits = features[:, 1:].double()
        self.sums += torch.stack([logits.sum(dim=0), logits.square().sum(dim=0)])
        self.seen += len(logits)

    def counted(self) -> list[Tensor]:
        """See :meth:`Calibration.counted`."""
        return [self.sums, self.seen]

    def finish(self) -> list[str]:
        """See :meth:`Calibration.finish`."""
        if int(self.seen) < 2:
            raise DataError(f"calibration logn: {int(self.seen)} regions were seen; give a training set with objects")
        mean, _ = self.statistics()
        notes = [f"logits of {int(self.seen):,} regions; their means are {float(mean.min()):.3g} to {mean.max():.3g}"]
        constant = int(self._constant().sum())
        return notes + [f"{constant} classes have the same logit everywhere: it is not divided"] * (constant > 0)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each class, [C] float64; a constant logit has the deviation 1."""
        mean = self.sums[0] / self.seen.clamp(min=1)
        # n - 1, as in the running variance of a batch norm
        deviation = (self._excess().clamp(min=0) / (self.seen - 1).clamp(min=1)).sqrt()
        return mean, deviation.masked_fill(self._constant(), 1.0)

    def _excess(self) -> Tensor:
        """[C] float64: sum of the squares of the differences to the mean."""
        return self.sums[1] - self.sums[0].square() / self.seen.clamp(min=1)

    def _constant(self) -> Tensor:
        """[C] bool: which logits do not vary."""
        return self._excess() <= ROUNDING * self.sums[1]

    def changed(self, logits: Tensor) -> Tensor:
        """See :meth:`BesideBackground.changed`."""
        mean, deviation = (part.float() for part in self.statistics())
        return (logits - mean + mean.min()) / deviation
