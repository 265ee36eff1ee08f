"""The options of each calibration as a section, without torch; ``lt_train.calibration`` lists them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lt_train.options.section import Section


class NoCalibration(Section):
    """Scores as the head gives them."""

    name: Literal["none"] = "none"


class TauNormOptions(Section):
    """Classifier rows divided by a power of their length."""

    name: Literal["tau-norm"]
    tau: float = Field(1.0, ge=0, description="The power; 0 changes nothing.")
    background: Literal["normalise", "keep", "select", "select-normalised", "select-tail"] = Field(
        "normalise", description="What happens to the background's row, or which regions take the new scores."
    )
    tail_below: int = Field(100, ge=1, description="Training instances below which select-tail takes a class.")


class NearestClassMeanOptions(Section):
    """Cosine to the mean feature of each class."""

    name: Literal["ncm"]
    features: Literal["fc", "fc-relu", "conv"] = Field(
        "fc",
        description="Second fully connected layer before its ReLU (code) or after it (text), or pooled feature map.",
    )
    boxes: Literal["ground-truth", "proposals"] = Field("ground-truth", description="Whose features are averaged.")
    temperature: float = Field(1.0, gt=0, description="What the cosines are divided by in the softmax.")


class BackgroundOptions(Section):
    """What becomes of the background where the logits of the classes are changed."""

    background: Literal["normalise", "keep-probability"] = Field(
        "normalise",
        description="One softmax over the background and the new classes, or the background keeps its probability.",
    )


class NorCalOptions(BackgroundOptions):
    """Scores divided by a power of the training images of the class."""

    name: Literal["norcal"]
    gamma: float = Field(0.6, ge=0, le=10, description="The power; 0 changes nothing.")
    mode: Literal["exps", "probs", "logits"] = Field(
        "exps", description="What is divided: exponentials of logits, probabilities (the same scores), or logits."
    )


class LogitAdjustmentOptions(BackgroundOptions):
    """Logits without the share of the class among the training instances."""

    name: Literal["logit-adjustment"]
    tau: float = Field(1.0, ge=0, le=10, description="How much of the prior is taken out; 0 changes nothing.")


class FracalOptions(BackgroundOptions):
    """Logits adjusted by the images of a class and by how evenly its boxes lie in them."""

    name: Literal["fracal"]
    power: float = Field(
        2.0, ge=0, le=10, description="Of the fractal dimension (lambda); 0 leaves the dimension out, not the images."
    )


class LogNOptions(BackgroundOptions):
    """Logits of each class normalised by their mean and deviation over training regions."""

    name: Literal["logn"]
