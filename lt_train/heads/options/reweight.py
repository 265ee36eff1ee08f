"""Options of :class:`lt_train.heads.reweight.ReweightHead`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lt_train.heads.options.class_weights import ClassWeightOptions


class ReweightOptions(ClassWeightOptions):
    """Softmax with a weight for each class."""

    name: Literal["reweight"]
    weighting: Literal["inverse", "effective-number"] = Field(
        "inverse", description="1 / count, or 1 / effective number."
    )
