"""Options of the heads that part the classes into groups."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from lt_train.heads.shared.classifier_options import ClassifierOptions
from lt_train.options.section import Edges

Merge = Literal["product", "gated", "softmax", "softmax-foreground", "best-group"]
MERGES: tuple[Merge, ...] = get_args(Merge)
Label = Annotated[int, Field(ge=1, strict=True)]
# how scores can be merged where there is no group of background against foreground
GATELESS_MERGES: tuple[Merge, ...] = ("product", "best-group")


class BagsOptions(ClassifierOptions):
    """Balanced group softmax."""

    name: Literal["bags"]
    others_ratio: float = Field(
        8.0, ge=0, allow_inf_nan=True, description="'Others' kept per positive of a group; .inf keeps all."
    )
    edges: Edges | None = Field(None, description="Bounds between the groups; null takes the groups of the data.")
    gate: bool = Field(True, strict=True, description="Group 0, background against foreground.")
    in_group: Literal["none", "inverse"] = Field("none", description="Class weights inside each group.")
    in_group_lower: float = Field(0.1, ge=0, description="Smallest weight inside a group.")
    in_group_upper: float = Field(5.0, gt=0, description="Largest weight inside a group.")
    merge: Merge = Field("product", description="How the groups' probabilities become scores.")
    groups: tuple[tuple[Label, ...], ...] | None = Field(
        None, description="Lists of labels 1..C that part all classes, instead of bounds."
    )

    @model_validator(mode="after")
    def _edges_or_groups(self) -> BagsOptions:
        if self.edges is not None and self.groups is not None:
            raise ValueError("edges and groups exclude each other: each says who is in which group; leave one out")
        return self

    @model_validator(mode="after")
    def _merge_fits_gate(self) -> BagsOptions:
        if not self.gate and self.merge not in GATELESS_MERGES:
            raise ValueError(
                f"merge is {self.merge}, which needs the gate; allowed with gate=false are "
                f"{', '.join(GATELESS_MERGES)}; set head.merge={GATELESS_MERGES[0]} or head.gate=true"
            )
        return self

    @model_validator(mode="after")
    def _bounds_in_order(self) -> BagsOptions:
        if self.in_group_lower > self.in_group_upper:
            raise ValueError(
                f"in_group_lower is {self.in_group_lower:g}, in_group_upper is {self.in_group_upper:g}; allowed is "
                "in_group_lower <= in_group_upper; set head.in_group_upper too"
            )
        return self
