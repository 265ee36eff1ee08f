"""The options of each sampler as a section, without torch; :mod:`lt_train.data.plan` is what they lead to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lt_data.dataset.options import DEFAULT_THRESHOLD
from lt_train.options.section import Section


class ShuffleSampler(Section):
    """Every image once per epoch."""

    name: Literal["shuffle"] = "shuffle"


class RepeatFactorSampler(Section):
    """Images with rare categories more often (LVIS, appendix B)."""

    name: Literal["repeat-factor"]
    threshold: float = Field(DEFAULT_THRESHOLD, gt=0, description="Image share below which a category is repeated.")
    rounding: Literal["stochastic", "ceil", "bags"] = Field(
        "stochastic", description="Copies of an image with factor r: r on average, ceil(r), or 1 + ceil(r)."
    )


class ClassAwareSampler(Section):
    """A class, then one of its images: every class as often as any other."""

    name: Literal["class-aware"]


SamplerOptions = Annotated[ShuffleSampler | RepeatFactorSampler | ClassAwareSampler, Field(discriminator="name")]
