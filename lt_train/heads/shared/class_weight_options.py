"""Options of class weights, for the heads that count classes differently.

Their meaning is that of :func:`lt_data.counts.class_weights.class_weights`.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from lt_train.heads.shared.classifier_options import ClassifierOptions


class ClassWeightOptions(ClassifierOptions):
    """How much a loss counts each class."""

    beta: float = Field(0.999, ge=0, le=1, description="Of the effective number; 1 is the inverse count.")
    power: float = Field(1.0, ge=0, description="Of the inverse count: 1 / n^power.")
    lower: float | None = Field(0.1, ge=0, description="Smallest weight; the paper's text has 0.01. null: no cap.")
    upper: float | None = Field(5.0, gt=0, description="Largest weight; null: no cap.")
    background: float = Field(1.0, ge=0, description="Weight of the background.")
    background_ratio: float | None = Field(
        None, gt=0, description="Count the background as so many times all instances, in place of its weight."
    )

    @model_validator(mode="after")
    def _consistent(self) -> ClassWeightOptions:
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ValueError(f"lower is {self.lower:g}, upper is {self.upper:g}; allowed is lower <= upper")
        if self.background_ratio is not None and self.background != 1.0:
            raise ValueError("background and background_ratio exclude each other; leave one out")
        return self
