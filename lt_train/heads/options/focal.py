"""Options of :class:`lt_train.heads.focal.FocalHead`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lt_train.heads.options.class_weights import ClassWeightOptions


class FocalOptions(ClassWeightOptions):
    """Sigmoid focal loss of every class and the background."""

    name: Literal["focal"]
    gamma: float = Field(2.0, ge=0, description="How much easy regions are played down.")
    alpha: float = Field(0.25, ge=0, le=1, description="Weight of a positive; 1 - alpha is that of a negative.")
    normalise: Literal["regions", "elements"] = Field(
        "regions", description="Divide the sum by the regions, or by regions times logits as the released code means."
    )
    score: Literal["sigmoid", "softmax"] = Field("sigmoid", description="What makes a score of a logit.")
    weighting: Literal["none", "inverse", "effective-number"] = Field(
        "none", description="Class weights, as in head reweight."
    )
    prior: float = Field(0.01, gt=0, lt=1, description="Score that a fresh classifier starts from.")
