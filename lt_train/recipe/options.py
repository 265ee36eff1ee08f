"""The options of every head, sampler and calibration, as sections of a recipe: one class each, listed in a union.

Names and defaults are those of the code that takes them; a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lt_data.errors import DataError
from lt_data.groups import check_edges

Weighting = Literal["inverse", "effective-number"]
# how scores can be merged where there is no group of background against foreground
GATELESS_MERGES = ("product", "best-group")


class Section(BaseModel):
    """A part of a recipe: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class SoftmaxHead(Section):
    """Softmax over C + 1 logits."""

    name: Literal["softmax"] = "softmax"


class _ClassWeights(Section):
    """How much a loss counts each class."""

    beta: float = Field(0.999, ge=0, le=1, description="Of the effective number; 1 is the inverse count.")
    lower: float | None = Field(0.1, ge=0, description="Smallest weight; the paper's text has 0.01. null: no cap.")
    upper: float | None = Field(5.0, gt=0, description="Largest weight; null: no cap.")
    background: float = Field(1.0, ge=0, description="Weight of the background.")
    background_ratio: float | None = Field(
        None, gt=0, description="Count the background as so many times all instances, in place of its weight."
    )

    @model_validator(mode="after")
    def _consistent(self) -> _ClassWeights:
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ValueError(f"lower is {self.lower:g}, upper is {self.upper:g}; allowed is lower <= upper")
        if self.background_ratio is not None and self.background != 1.0:
            raise ValueError("background and background_ratio exclude each other; leave one out")
        return self


class ReweightHead(_ClassWeights):
    """Softmax with a weight for each class."""

    name: Literal["reweight"]
    weighting: Weighting = Field("inverse", description="1 / count, or 1 / effective number.")


class FocalHead(_ClassWeights):
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


class BagsHead(Section):
    """Balanced group softmax."""

    name: Literal["bags"]
    others_ratio: float = Field(
        8.0, ge=0, allow_inf_nan=True, description="'Others' kept per positive of a group; .inf keeps all."
    )
    edges: tuple[int, ...] | None = Field(None, description="Bounds between the groups; null takes data.groups.")
    gate: bool = Field(True, description="Group 0, background against foreground.")
    in_group: Literal["none", "inverse"] = Field("none", description="Class weights inside each group.")
    in_group_lower: float = Field(0.1, ge=0, description="Smallest weight inside a group.")
    in_group_upper: float = Field(5.0, gt=0, description="Largest weight inside a group.")
    merge: Literal["product", "gated", "softmax", "softmax-foreground", "best-group"] = Field(
        "product", description="How the groups' probabilities become scores."
    )

    @field_validator("edges")
    @classmethod
    def _ascending(cls, edges: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if edges is None else checked_edges(edges)

    @model_validator(mode="after")
    def _merge_fits_gate(self) -> BagsHead:
        if not self.gate and self.merge not in GATELESS_MERGES:
            raise ValueError(
                f"merge is {self.merge}, which needs the gate; allowed with gate=false are "
                f"{', '.join(GATELESS_MERGES)}; set head.merge={GATELESS_MERGES[0]} or head.gate=true"
            )
        return self

    @model_validator(mode="after")
    def _bounds_in_order(self) -> BagsHead:
        if self.in_group_lower > self.in_group_upper:
            raise ValueError(
                f"in_group_lower is {self.in_group_lower:g}, in_group_upper is {self.in_group_upper:g}; allowed is "
                "in_group_lower <= in_group_upper; set head.in_group_upper too"
            )
        return self


class ShuffleSampler(Section):
    """Every image once per epoch."""

    name: Literal["shuffle"] = "shuffle"


class RepeatFactorSampler(Section):
    """Images with rare categories more often (LVIS, appendix B)."""

    name: Literal["repeat-factor"]
    threshold: float = Field(0.001, gt=0, description="Image share below which a category is repeated.")
    rounding: Literal["stochastic", "ceil", "bags"] = Field(
        "stochastic", description="Copies of an image with factor r: r on average, ceil(r), or 1 + ceil(r)."
    )


class ClassAwareSampler(Section):
    """A class, then one of its images: every class as often as any other."""

    name: Literal["class-aware"]


class NoCalibration(Section):
    """Scores as the head gives them."""

    name: Literal["none"] = "none"


class TauNorm(Section):
    """Classifier rows divided by a power of their length."""

    name: Literal["tau-norm"]
    tau: float = Field(1.0, ge=0, description="The power; 0 changes nothing.")
    background: Literal["normalise", "keep", "select", "select-tail"] = Field(
        "normalise", description="What happens to the background's row, or which regions take the new scores."
    )
    tail_below: int = Field(100, ge=1, description="Training instances below which select-tail takes a class.")


class NearestClassMean(Section):
    """Cosine to the mean feature of each class."""

    name: Literal["ncm"]
    features: Literal["fc", "conv"] = Field("fc", description="Second fully connected layer, or pooled feature map.")
    boxes: Literal["ground-truth", "proposals"] = Field("ground-truth", description="Whose features are averaged.")
    temperature: float = Field(1.0, gt=0, description="What the cosines are divided by in the softmax.")


HeadOptions = Annotated[SoftmaxHead | ReweightHead | FocalHead | BagsHead, Field(discriminator="name")]
SamplerOptions = Annotated[ShuffleSampler | RepeatFactorSampler | ClassAwareSampler, Field(discriminator="name")]
CalibrationOptions = Annotated[NoCalibration | TauNorm | NearestClassMean, Field(discriminator="name")]

# sections that are one of several, told by their name; the name alone is short for them
NAMED: Final[Mapping[str, Any]] = {
    "head": HeadOptions,
    "sampler": SamplerOptions,
    "calibration": CalibrationOptions,
}


def sections_of(union: Any) -> dict[str, type[Section]]:
    """The sections of a union by their ``name``."""
    return {get_args(kind.model_fields["name"].annotation)[0]: kind for kind in get_args(get_args(union)[0])}


def plain_defaults(section: type[Section]) -> dict[str, Any]:
    """Defaults of a section as YAML would give them; a key without one, or with a section that has a name, has none."""
    plain: dict[str, Any] = {}
    for key, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            plain[key] = plain_defaults(field.annotation)
        elif not field.is_required() and not isinstance(field.default, Section):
            plain[key] = list(field.default) if isinstance(field.default, tuple) else field.default
    return plain


def checked_edges(edges: tuple[int, ...]) -> tuple[int, ...]:
    """Bounds between groups, in the words of pydantic.

    Raises:
        ValueError: They are not ascending positive numbers.
    """
    try:
        return check_edges(edges)
    except DataError as error:
        raise ValueError(error.problems[0]) from None
