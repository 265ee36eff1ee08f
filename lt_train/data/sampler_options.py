"""The options of each sampler as a section, without torch; :mod:`lt_train.data.plan` is what they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lt_data.dataset.options import DEFAULT_EXPONENT, DEFAULT_THRESHOLD
from lt_train.options.halving import halves
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
    instance_aware: bool = Field(
        False,
        description="Compare the threshold with the geometric mean of the shares of images and of instances.",
    )
    exponent: float = Field(
        DEFAULT_EXPONENT, gt=0, le=1, description="Of threshold / share; 0.5 is the published square root."
    )
    rounding: Literal["stochastic", "ceil", "bags"] = Field(
        "stochastic", description="Copies of an image with factor r: r on average, ceil(r), or 1 + ceil(r)."
    )

    @model_validator(mode="after")
    def _threshold_or_factors(self) -> RepeatFactorSampler:
        if self.factors is not None and self.asked:
            raise ValueError(
                f"factors and {' and '.join(self.asked)} exclude each other: a file of factors is used as it is; leave "
                "out either (method=rfs has none of these, irfs has), or write the file with lt-data repeat-factors"
            )
        if self.threshold is not None and self.factors is not None:
            raise ValueError("threshold and factors exclude each other: each says how often an image comes; set one")
        return self

    def without_effect(self, shares: Sequence[float]) -> str:
        """What to say of factors that are all 1, and which threshold would change that.

        Args:
            shares: What the threshold is compared with, of each class with images.
        """
        start = "sampler: no image is repeated, which is plain shuffling"
        if self.factors is not None:
            return f"{start}: all factors in the file are 1"
        found = halves(shares)
        if found is None:
            return f"{start}: no class is in fewer of the images than another"
        return f"{start}: below sampler.threshold={found.threshold} lie {found.lower} of {found.values} classes"

    @property
    def asked(self) -> tuple[str, ...]:
        """What factors are to be computed otherwise than by default, as ``key=value``."""
        instances = ("instance_aware=true",) if self.instance_aware else ()
        power = (f"exponent={self.exponent:g}",) if self.exponent != DEFAULT_EXPONENT else ()
        return (*instances, *power)


class ClassAwareSampler(Section):
    """A class, then one of its images: every class as often as any other."""

    name: Literal["class-aware"]


class BiLevelSampler(Section):
    """A class, then one of its images, of which that class alone is trained on."""

    name: Literal["bi-level"]
    steps: int = Field(1000, ge=1, le=10_000_000, description="Steps of one pass, with schedule.epoch=sampler.")


SamplerOptions = Annotated[
    ShuffleSampler | RepeatFactorSampler | ClassAwareSampler | BiLevelSampler, Field(discriminator="name")
]
