"""The sections of a recipe that say what the detector is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lt_data.errors import RecipeError
from lt_train.detectors.table import DCN, check_dcn, named_detector
from lt_train.options.section import Section
from lt_train.recipe.other_names import OTHER_VALUES

Side = Annotated[int, Field(ge=32, le=10_000)]

if TYPE_CHECKING:
    Dcn = str
else:
    Dcn = Literal[*DCN]


class ModelSection(Section):
    """Detector and its test settings."""

    name: str = Field("mask_rcnn_r50_fpn", description="Detector and trunk.")
    weights: str = Field("none", description="none, imagenet, coco, or a file.")
    num_detections: int = Field(300, ge=1, description="Detections kept per image.")
    score_threshold: float = Field(0.001, ge=0, lt=1, description="Detections below are dropped.")
    pre_nms_topk: int = Field(10_000, ge=1, description="(region, class) pairs per image that enter NMS.")
    min_size: tuple[Side, ...] = Field((800,), min_length=1, description="Short side in pixels; several: drawn.")
    max_size: int = Field(1333, ge=32, description="Longest side in pixels.")
    min_size_range: tuple[Side, Side] | None = Field(
        None, description="Smallest and largest short side in training: any whole number between them is drawn."
    )
    test_min_size: Side | None = Field(None, description="Short side at test; null: the last of min_size.")
    test_max_size: int | None = Field(None, ge=32, description="Longest side at test; null: max_size.")
    dcn: Dcn = Field("none", description="Deformable convolutions in the trunk's last three stages, or none.")
    mask_target: Literal["exact", "polygon"] = Field(
        "exact", description="Targets of the mask loss: shares as torchvision's, or 0 and 1 drawn from polygons."
    )
    stage_scores: Literal["logits", "probabilities"] = Field(
        "logits", description="What a cascade averages over its stages: as mmdetection and BAGS do, or as detectron2."
    )
    semantic: Literal["stuff", "none"] = Field(
        "none", description="Whether htc has a branch that learns stuff from the maps in data.train.stuff."
    )

    @field_validator("name")
    @classmethod
    def _known_detector(cls, value: str) -> str:
        try:
            named_detector(value, OTHER_VALUES)
        except RecipeError as error:
            # the key is said by whoever says what is wrong with a section
            raise ValueError(error.problems[0].removeprefix("model.name: ")) from None
        return value

    @field_validator("min_size", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @field_validator("min_size_range")
    @classmethod
    def _ascending(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"got {list(value)}; the smaller side comes first, for example [{value[1]}, {value[0]}]")
        return value

    @model_validator(mode="after")
    def _one_way_to_draw_sizes(self) -> ModelSection:
        if self.min_size_range is not None and len(self.min_size) > 1:
            raise ValueError(
                f"min_size_range={list(self.min_size_range)} and min_size={list(self.min_size)} both say what training "
                f"draws; allowed is one of them: set model.min_size_range=null, or model.min_size={self.min_size[-1]} "
                "(the size at test)"
            )
        return self

    @model_validator(mode="after")
    def _blocks_to_deform(self) -> ModelSection:
        try:
            check_dcn(self.name, self.dcn)
        except RecipeError as error:
            raise ValueError(error.problems[0].removeprefix("model.")) from None
        return self

    @property
    def stages(self) -> int:
        """How many RoI heads see a region one after the other: 1 but in a cascade."""
        return named_detector(self.name).family.stages

    @property
    def short_sides(self) -> Sequence[int]:
        """Short sides in pixels, one of which is drawn for each image in training."""
        if self.min_size_range is None:
            return self.min_size
        smallest, largest = self.min_size_range
        return range(smallest, largest + 1)

    @property
    def test_short_side(self) -> int:
        """Short side in pixels at test."""
        return self.min_size[-1] if self.test_min_size is None else self.test_min_size


class SecondHeadSection(Section):
    """A second classifier beside the detector's own (SimCal)."""

    kind: Literal["none", "2fc-rand", "3fc-rand", "3fc-ft"] = Field(
        "none",
        description="Its layers, the last of which gives the logits: 2 or 3, with random weights, or 3 with those of "
        "the detector's own head.",
    )
    below: int = Field(100, ge=1, description="Classes with fewer training instances take its scores.")
    scores: Literal["dual", "calibrated", "original"] = Field(
        "dual", description="Both heads, each for its classes; or one of them alone, to compare."
    )
