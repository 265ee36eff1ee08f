"""Options of the heads in which every class is a yes or no of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import Field, model_validator

from lt_train.heads.shared.class_weight_options import ClassWeightOptions
from lt_train.heads.shared.classifier_options import ClassifierOptions, without_rare_classes
from lt_train.options.halving import halves

# fewer have no half to draw
_FEWEST_DRAWN_FROM: Final = 2


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


class EqualizationOptions(ClassifierOptions):
    """Sigmoids; rare classes are not pushed down by the objects of others."""

    name: Literal["equalization"]
    threshold: float = Field(
        0.00177, ge=0, le=1, description="Share of the images below which a class is not pushed down."
    )
    prior: float = Field(0.001, gt=0, lt=1, description="Score that a fresh classifier starts from.")

    def without_effect(self, images: Sequence[int], num_images: int) -> str:
        """Whether no class is rare."""
        return without_rare_classes(self.threshold, images, num_images)


class EqualizationV2Options(ClassifierOptions):
    """Sigmoids; each class weighs positives and negatives by the gradients it has had of either."""

    name: Literal["equalization-v2"]
    gamma: float = Field(12.0, gt=0, description="How steeply the weights follow the ratio of the gradients.")
    mu: float = Field(0.8, ge=0, description="The ratio at which negatives weigh half.")
    alpha: float = Field(4.0, ge=0, description="How much more than 1 a positive can weigh.")
    prior: float = Field(0.001, gt=0, lt=1, description="Score that a fresh classifier starts from.")


class DropLossOptions(ClassifierOptions):
    """Sigmoids; background pushes rare classes down only as often as they occur."""

    name: Literal["droploss"]
    threshold: float = Field(0.00177, ge=0, le=1, description="Share of the images below which a class is rare.")
    prior: float = Field(0.001, gt=0, lt=1, description="Score that a fresh classifier starts from.")

    def without_effect(self, images: Sequence[int], num_images: int) -> str:
        """Whether no class is rare."""
        return without_rare_classes(self.threshold, images, num_images)


class AcslOptions(ClassifierOptions):
    """Sigmoids; a class is pushed down only where another is confused with it."""

    name: Literal["acsl"]
    threshold: float = Field(0.7, ge=0, le=1, description="Score from which a class is confused with the object's.")
    rare: int = Field(10, ge=0, description="Images up to which a class is rare.")
    common: int = Field(100, ge=0, description="Images up to which a class is common.")
    keep_rare: float = Field(0.01, ge=0, le=1, description="Share of the background that pushes rare classes down.")
    keep_common: float = Field(0.1, ge=0, le=1, description="The same for common classes.")
    prior: float = Field(0.001, gt=0, lt=1, description="Score that a fresh classifier starts from.")

    @model_validator(mode="after")
    def _in_order(self) -> AcslOptions:
        if self.rare > self.common:
            raise ValueError(f"rare is {self.rare}, common is {self.common}; allowed is rare <= common")
        return self

    def without_effect(self, images: Sequence[int], num_images: int) -> str:
        """Whether every class is frequent."""
        if not images or min(images) <= self.common:
            return ""
        start = f"head.common={self.common}: every class is in more images, so that background pushes all of them down"
        found = halves(images)
        if found is None:
            return f"{start}; no class is in fewer than another"
        return f"{start}; head.common={found.last} would spare {found.lower} of {found.values} classes"


class FederatedOptions(ClassifierOptions):
    """Sigmoids over the classes of the batch and some drawn ones."""

    name: Literal["federated"]
    classes: int = Field(50, ge=1, description="Classes whose logits are trained in a batch, background included.")
    power: float = Field(0.5, ge=0, description="Of the images of a class, its chance to be drawn.")
    prior: float = Field(0.01, gt=0, lt=1, description="Score that a fresh classifier starts from.")

    def without_effect(self, images: Sequence[int], num_images: int) -> str:
        """Whether all classes are drawn every time."""
        classes = len(images)
        if classes < _FEWEST_DRAWN_FROM or classes >= self.classes:
            return ""
        # background takes one of the places
        half = classes // 2
        return (
            f"head.classes={self.classes}: there are {classes} classes, so that all are trained in every batch and "
            f"these are plain sigmoids; head.classes={half + 1} would draw {half} of them and background"
        )


class EffectiveMarginOptions(ClassifierOptions):
    """Sigmoids with a margin and a weight by how many objects are of the class and how many are not."""

    name: Literal["ecm"]
    background_ratio: float = Field(6.3313, gt=0, description="Background regions for each object.")
    prior: float = Field(0.001, gt=0, lt=1, description="Score that a fresh classifier starts from.")


class GumbelOptions(ClassifierOptions):
    """The Gumbel distribution in place of the sigmoid."""

    name: Literal["gumbel"]
    prior: float = Field(0.001, gt=0, lt=1, description="Score that a fresh classifier starts from.")


class BalancedSigmoidOptions(ClassifierOptions):
    """Sigmoids whose logits are shifted by how frequent a class is."""

    name: Literal["balanced-sigmoid"]
    prior: float = Field(0.001, gt=0, lt=1, description="Score that a fresh classifier starts from.")
