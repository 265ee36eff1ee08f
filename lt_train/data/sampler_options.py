"""The options of each sampler as a section, without torch; :mod:`lt_train.data.plan` is what they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lt_data.dataset.options import DEFAULT_THRESHOLD
from lt_train.options.section import Section


class ShuffleSampler(Section):
    """Every image once per epoch."""

    name: Literal["shuffle"] = "shuffle"


class RepeatFactorSampler(Section):
    """Images with rare categories more often (LVIS, appendix B)."""

    name: Literal["repeat-factor"]
    threshold: float | None = Field(
        None,
        gt=0,
        description="Image share below which a category is repeated; null: the factors of the dataset directory, "
        f"else {DEFAULT_THRESHOLD}.",
    )
    factors: Path | None = Field(None, description="CSV with image_id,repeat_factor, instead of a threshold.")
    rounding: Literal["stochastic", "ceil", "bags"] = Field(
        "stochastic", description="Copies of an image with factor r: r on average, ceil(r), or 1 + ceil(r)."
    )

    @model_validator(mode="after")
    def _threshold_or_factors(self) -> RepeatFactorSampler:
        if self.threshold is not None and self.factors is not None:
            raise ValueError("threshold and factors exclude each other: each says how often an image comes; set one")
        return self


class ClassAwareSampler(Section):
    """A class, then one of its images: every class as often as any other."""

    name: Literal["class-aware"]


SamplerOptions = Annotated[ShuffleSampler | RepeatFactorSampler | ClassAwareSampler, Field(discriminator="name")]
