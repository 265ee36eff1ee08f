"""Options of the heads that have one softmax over the background and all classes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lt_train.heads.shared.class_weight_options import ClassWeightOptions
from lt_train.heads.shared.classifier_options import ClassifierOptions


class SoftmaxOptions(ClassifierOptions):
    """Softmax over C + 1 logits."""

    name: Literal["softmax"] = "softmax"


class ReweightOptions(ClassWeightOptions):
    """Softmax with a weight for each class."""

    name: Literal["reweight"]
    weighting: Literal["inverse", "effective-number"] = Field(
        "inverse", description="1 / count, or 1 / effective number."
    )
    normalise: Literal["regions", "weights"] = Field(
        "regions", description="Divide the weighted sum by the regions, or by the sum of their weights."
    )


class BalancedSoftmaxOptions(ClassifierOptions):
    """Softmax whose training has the classes' counts as a prior."""

    name: Literal["balanced-softmax"]
    tau: float = Field(1.0, ge=0, description="Weight of the prior; 0 is plain softmax.")


class SeesawOptions(ClassifierOptions):
    """Softmax in which frequent classes push rare ones down less, and a logit pair for objects."""

    name: Literal["seesaw"]
    p: float = Field(0.8, ge=0, description="How much less classes with fewer regions so far are pushed down.")
    q: float = Field(2.0, ge=0, description="How much more a class is pushed down that is mistaken for the object's.")
    eps: float = Field(0.01, gt=0, le=1, description="Smallest score that the mistake is measured against.")


class EquilibriumOptions(ClassifierOptions):
    """Softmax whose margins follow the mean score that each class has reached."""

    name: Literal["loce"]
    momentum: float = Field(0.9, ge=0, lt=1, description="Of the mean scores, for each object.")
    start: float = Field(0.01, gt=0, lt=1, description="Mean score that a class starts from.")
    background: float = Field(0.01, gt=0, lt=1, description="Mean score of the background, which stays.")
