"""Sigmoid focal loss at proposal level: every class and the background is a yes or no of its own.

Shapes: R regions, C foreground classes, L = C + 1 logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_data.counts.class_weights import KINDS
from lt_data.errors import RecipeError
from lt_train.heads.base import Head, micro_batch_sum
from lt_train.heads.label_weights import label_weights

NORMALISE = ("regions", "elements")
SCORE = ("sigmoid", "softmax")
WEIGHTING = ("none", *KINDS)


class FocalHead(Head):
    """Channel 0 is trained to say background, channel c to say class c.

    A class scores the sigmoid of its channel; the background's channel is column 0 and weakens no other score. With
    ``score="softmax"`` all channels share one softmax, as the released code of BAGS tests.

    Args:
        instance_counts: Non-crowd training instances of classes 1..C.
        gamma: How much easy channels are played down; 0 not at all.
        alpha: Weight of a region's own channel, 0..1; the others have 1 - alpha, so with 1 only positives are trained.
        normalise: ``regions`` divides the sum over the channels by the regions; ``elements`` by regions times L.
        score: ``sigmoid`` or ``softmax``.
        weighting: ``none``, or class weights as in :class:`~lt_train.heads.reweight.ReweightHead`.
        beta: See there.
        lower: See there.
        upper: See there.
        background: See there.
        background_ratio: See there.
        prior: Score that a fresh classifier starts from.

    Attributes:
        weights: [C+1] float32, weight of a region by its label.

    Raises:
        RecipeError: An option is out of range.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5 and section 3.3 (prior); BAGS
    (CVPR 2020), models 8 and 9.
    """

    weights: Tensor

    def __init__(
        self,
        instance_counts: Sequence[int],
        *,
        gamma: float = 2.0,
        alpha: float = 0.25,
        normalise: str = "regions",
        score: str = "sigmoid",
        weighting: str = "none",
        beta: float = 0.999,
        lower: float | None = 0.1,
        upper: float | None = 5.0,
        background: float = 1.0,
        background_ratio: float | None = None,
        prior: float = 0.01,
    ) -> None:
        super().__init__(instance_counts)
        _check(gamma=gamma, alpha=alpha, normalise=normalise, score=score, prior=prior)
        self.gamma, self.alpha, self.normalise, self.score = float(gamma), float(alpha), normalise, score
        self.initial_bias = -math.log((1 - prior) / prior)
        weights = label_weights(
            "focal",
            instance_counts,
            weighting=weighting,
            allowed=WEIGHTING,
            beta=beta,
            lower=lower,
            upper=upper,
            background=background,
            background_ratio=background_ratio,
        )
        self.register_buffer("weights", weights)

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        micro_batch: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """``loss_classifier``: the sum over all channels, over the number of regions (or elements); draws nothing."""
        per_region = self._per_channel(logits.float(), labels).sum(dim=1) * self.weights.index_select(0, labels)
        if self.normalise == "elements":
            per_region = per_region / self.num_logits
        return {"loss_classifier": micro_batch_sum(per_region, micro_batch)}

    def _per_channel(self, logits: Tensor, labels: Tensor) -> Tensor:
        """[R, L] focal loss of every channel."""
        own = labels[:, None] == torch.arange(self.num_logits, device=labels.device)
        # with the sign of "no" turned round, one formula serves both: -log q_t = softplus(-z), 1 - q_t = sigmoid(-z)
        signed = torch.where(own, logits, -logits)
        easy = torch.ones_like(signed) if self.gamma == 0 else (self.gamma * F.logsigmoid(-signed)).exp()
        return torch.where(own, self.alpha, 1 - self.alpha) * easy * F.softplus(-signed)

    def scores(self, logits: Tensor) -> Tensor:
        """[R, C+1] -> [R, C+1] float32, see the class."""
        logits = logits.float()
        return logits.sigmoid() if self.score == "sigmoid" else logits.softmax(dim=1)

    def extra_repr(self) -> str:
        """Options, for ``print(model)``."""
        return f"gamma={self.gamma}, alpha={self.alpha}, normalise={self.normalise!r}, score={self.score!r}"


def _check(*, gamma: float, alpha: float, normalise: str, score: str, prior: float) -> None:
    problems = []
    if not 0 <= gamma < math.inf:
        problems.append(f"head focal: gamma is {gamma}; allowed is a number >= 0")
    if not 0 <= alpha <= 1:
        problems.append(f"head focal: alpha is {alpha}; allowed is 0 <= alpha <= 1")
    if not 0 < prior < 1:
        problems.append(f"head focal: prior is {prior}; allowed is 0 < prior < 1")
    for key, value, allowed in (("normalise", normalise, NORMALISE), ("score", score, SCORE)):
        if value not in allowed:
            problems.append(f"head focal: {key} is {value!r}; allowed are {', '.join(allowed)}")
    if problems:
        raise RecipeError(problems)
