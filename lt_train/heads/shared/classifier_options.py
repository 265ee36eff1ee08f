"""Options of the classifier in front of a head: how features become logits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lt_train.options.section import Section


class ClassifierOptions(Section):
    """The layer that gives a head its logits, see :mod:`lt_train.classifiers`."""

    classifier: Literal["linear", "cosine", "scaled"] = Field(
        "linear",
        description="Logits: w x + b; scale * cosine of w and x, + b; or a linear layer whose rows have a factor each.",
    )
    scale: float = Field(20.0, gt=0, description="Factor of the cosines of classifier=cosine.")
    learn_scale: bool = Field(False, strict=True, description="Whether that factor is trained.")
    fresh_classifier: bool = Field(
        False, strict=True, description="Start the classifier anew, whatever --init-from gives."
    )

    @model_validator(mode="after")
    def _of_cosines(self) -> ClassifierOptions:
        without = {"scale": "20", "learn_scale": "false"}
        fields = type(self).model_fields
        given = [name for name in without if getattr(self, name) != fields[name].default]
        if given and self.classifier != "cosine":
            raise ValueError(
                f"{' and '.join(given)}: there is a factor of cosines with classifier=cosine alone, this one is "
                f"{self.classifier}; set that, or {' '.join(f'{name}={without[name]}' for name in given)}"
            )
        return self
