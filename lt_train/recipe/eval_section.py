"""The section of a recipe that says when validation data is evaluated, and what is made of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lt_data.errors import shown
from lt_train.options.section import Section

SelectName = Literal["AP", "rarest", "groups"]


class EvalSection(Section):
    """When the validation data is evaluated, always at the end; which checkpoint is best, and when a run is over."""

    every: int | None = Field(None, ge=1, description="Epochs (or steps) between evaluations; null: only at the end.")
    batch: int = Field(1, ge=1, description="Images per forward pass; padding makes scores depend on it.")
    loss: bool = Field(False, description="Compute the losses of the validation data too, in each evaluation.")
    select: SelectName = Field(
        "AP", description="Figure of the best checkpoint: AP, AP of the rarest group, or mean of the APs of the groups."
    )
    patience: int | None = Field(
        None, ge=1, description="Evaluations without a better figure after which the run ends; null: it never does."
    )

    @model_validator(mode="after")
    def _patience_counts_evaluations(self) -> EvalSection:
        if self.patience is not None and self.every is None:
            raise ValueError(
                f"patience: got {self.patience}, and without eval.every there is one evaluation, at the end; set "
                "eval.every=1 (epochs, or steps where the schedule counts them), or leave eval.patience out"
            )
        return self

    def refuse_without_data(self) -> None:
        """Refuses what needs validation data, where there is none.

        Raises:
            ValueError: It is asked for.
        """
        asked = {key: value for key, value in (("loss", self.loss), ("patience", self.patience)) if value}
        if asked:
            named = " and ".join(f"eval.{key}={shown(value)}" for key, value in asked.items())
            raise ValueError(f"eval: got {named}, and there is no validation data; set data.val, or leave them out")
