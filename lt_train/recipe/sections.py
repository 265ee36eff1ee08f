"""The recipe: a complete, typed and frozen description of a run.

A recipe is a YAML file without inheritance. Dotted overrides (``optim.lr=0.01``) are applied to it, then ``method``
fills the keys that neither names, then the whole is validated. What paths are relative to: ``lt_train.recipe.paths``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PrivateAttr,
    WrapValidator,
    field_validator,
    model_validator,
)

from lt_data.errors import DataError, RecipeError, shown
from lt_data.files.pixels import ImageReading, parse_range
from lt_data.groups import are_edges
from lt_train.augment.options import AugmentSection
from lt_train.calibration import CalibrationOptions
from lt_train.calibration.options import NoCalibration
from lt_train.data.sampler_options import SamplerOptions, ShuffleSampler
from lt_train.detectors.table import family_options, named_detector
from lt_train.heads import HeadOptions
from lt_train.heads.softmax.options import SoftmaxOptions
from lt_train.options.errors import closest
from lt_train.options.section import Edges, Section
from lt_train.recipe.eval_section import EvalSection
from lt_train.recipe.method import Variant
from lt_train.recipe.methods import METHODS
from lt_train.recipe.model_section import ModelSection, SecondHeadSection
from lt_train.recipe.other_names import OTHER_METHODS
from lt_train.recipe.step_sections import OptimSection, ScheduleSection

Part = Literal["all", "head", "head+reg", "classifier", "scale", "calibrated", "none"]
TrackerName = Literal["tensorboard", "wandb"]
# each is a process with a copy of its own of what it writes to
MOST_WORKERS = 256


def _bounds_or_file(value: Any, bounds: Callable[[Any], Any]) -> Any:
    """A text is bounds as on the command line, or a file; all else is judged as bounds, so that one line says why."""
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str):
        return bounds(value)
    return bounds(value) if are_edges(value) else Path(value)


if TYPE_CHECKING:
    Groups = tuple[int, ...] | Path | None
else:
    Groups = Annotated[Edges, WrapValidator(_bounds_or_file), PlainSerializer(lambda value: value)]


def _range(value: Any) -> Any:
    """``auto`` or two numbers, in the words of pydantic.

    Raises:
        ValueError: Anything else.
    """
    try:
        return parse_range(value) or "auto"
    except DataError as error:
        raise ValueError(error.problems[0]) from None


ImageRange = Annotated[Literal["auto"] | tuple[float, float], BeforeValidator(_range)]


class Files(Section):
    """An annotation file and the folder of its images."""

    annotations: Path = Field(description="COCO or LVIS file, or a dataset directory.")
    images: Path = Field(description="Folder that the file names are relative to.")


class TrainFiles(Files):
    """What is trained on."""

    stuff: Path | None = Field(
        None, description="Folder of COCO-Stuff's PNG maps, by the images' names; for model.semantic=stuff."
    )


class DataSection(Section):
    """What is trained on and evaluated on."""

    train: TrainFiles
    val: Files | None = Field(None, description="Validation data; without it there is no evaluation and no best.")
    groups: Groups = Field(
        None,
        description="Bounds between the instance-count groups, a preset of them, or a groups file; null: those of the "
        "dataset directory, else 10, 100, 1000.",
    )
    classes_below: int | None = Field(
        None, ge=1, description="Train only on classes with fewer instances; objects of the others become background."
    )
    hold_out: float = Field(
        0.0, ge=0, le=0.5, description="Share of the training images kept out of training, for searches of calibrate."
    )
    keep_empty: bool = Field(False, description="Train on images without annotations too.")
    image_range: ImageRange = Field(
        "auto", description="auto or LOW,HIGH: values that become 0 and 255 in images of more than 8 bits a pixel."
    )
    exif: Literal["ignore", "apply"] = Field(
        "ignore", description="Pixels as they are stored, or turned and mirrored as EXIF says."
    )
    flip: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    augment: AugmentSection = AugmentSection()
    aspect_ratio_grouping: bool = Field(
        False, description="Upright images in batches of their own, for less padding; as detectron2 and mmdetection do."
    )
    on_bad_image: Literal["stop", "skip"] = Field(
        "stop", description="What an image that cannot be read does; one that is left out is replaced by nothing."
    )
    most_bad_images: int = Field(
        100, ge=1, description="More images than this that are left out stop a run, in each of its processes."
    )
    workers: int = Field(2, ge=0, le=MOST_WORKERS, description="Processes that load images.")

    @property
    def reading(self) -> ImageReading:
        """How image files are read."""
        return ImageReading(None if self.image_range == "auto" else self.image_range, self.exif)


class ComputeSection(Section):
    """How the arithmetic is done; the mathematics stays."""

    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Of layers, by autocast; weights, losses, scores and boxes stay fp32."
    )
    channels_last: bool = Field(False, description="Images and feature maps in memory as NHWC.")
    compile: bool = Field(False, description="torch.compile the backbone and the heads' layers.")


class WrittenPath(NamedTuple):
    """A relative path as somebody wrote it.

    Attributes:
        text: The path.
        base: What it is relative to, for people.
    """

    text: str
    base: str


class Recipe(Section):
    """A complete run description."""

    method: str = Field("softmax", description="Preset that fills head, sampler, calibration and train.")
    variant: Variant = Field(
        "equal", description="Whose settings the method fills: one budget for all, the paper's code, or its text."
    )
    head: HeadOptions = SoftmaxOptions()
    sampler: SamplerOptions = ShuffleSampler()
    calibration: CalibrationOptions = NoCalibration()
    train: Part = Field("all", description="Parameters that are trained.")
    data: DataSection
    model: ModelSection = ModelSection()
    second_head: SecondHeadSection = SecondHeadSection()
    optim: OptimSection = OptimSection()
    compute: ComputeSection = ComputeSection()
    schedule: ScheduleSection = ScheduleSection()
    eval: EvalSection = EvalSection()
    log_every: int = Field(20, ge=1, description="Steps between log lines.")
    trackers: tuple[TrackerName, ...] = Field(
        ("tensorboard",), description="Where numbers go besides metrics.jsonl; may be empty."
    )
    seed: int = Field(0, ge=0, strict=True)
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    _written: dict[str, WrittenPath] = PrivateAttr(default_factory=dict)

    @field_validator("trackers", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("trackers")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"got {list(names)}; each may be named once, leave the others out")
        return names

    @model_validator(mode="after")
    def _known_method(self) -> Recipe:
        if self.method not in METHODS:
            close = closest(self.method, METHODS, OTHER_METHODS)
            hint = f"; did you mean '{close}'?" if close else ""
            raise ValueError(f"method: got {shown(self.method)}; allowed are {', '.join(METHODS)}{hint}")
        return self

    @model_validator(mode="after")
    def _calibration_trains_nothing(self) -> Recipe:
        if self.calibration.name != "none" and self.train != "none":
            raise ValueError(
                f"calibration: '{self.calibration.name}' is fitted to a trained run, so train is none with it; "
                f"got train={self.train}"
            )
        return self

    @model_validator(mode="after")
    def _scales_to_train(self) -> Recipe:
        scaled = self.head.classifier == "scaled" or (self.head.classifier == "cosine" and self.head.learn_scale)
        if self.train == "scale" and not scaled:
            raise ValueError(
                f"train: got scale, and head.classifier={self.head.classifier} has no factor to train; set "
                "head.classifier=scaled, or train=classifier"
            )
        return self

    @model_validator(mode="after")
    def _evaluates_something(self) -> Recipe:
        if self.data.val is None:
            self.eval.refuse_without_data()
        if self.eval.loss and self.data.train.stuff is not None and self.train == "all":
            raise ValueError(
                "eval.loss: got True with data.train.stuff, and validation data has no stuff maps to compute that loss "
                "on; leave eval.loss out"
            )
        return self

    @model_validator(mode="after")
    def _second_head_alone(self) -> Recipe:
        kind, there = self.second_head.kind, self.second_head.kind != "none"
        if there and self.train != "calibrated":
            raise ValueError(
                f"second_head.kind: got {kind} with train={self.train}; a second head is trained beside a detector "
                "that stays as it is, so set train=calibrated (method=simcal), or second_head.kind=none"
            )
        if self.train == "calibrated" and not there:
            raise ValueError(
                "train: got calibrated, and there is no second head to train; set second_head.kind=3fc-ft "
                "(method=simcal), or train=classifier"
            )
        if self.sampler.name == "bi-level" and not there:
            raise ValueError(
                "sampler: 'bi-level' draws the class that a second head is trained on in an image, and there is none; "
                "set method=simcal, or sampler=class-aware"
            )
        return self

    @model_validator(mode="after")
    def _parts_of_the_detector(self) -> Recipe:
        try:
            family_options(self.model.name, {"stage_scores": self.model.stage_scores, "semantic": self.model.semantic})
        except RecipeError as error:
            raise ValueError(error.problems[0]) from None
        return self

    @model_validator(mode="after")
    def _stuff_maps(self) -> Recipe:
        stuff, semantic = self.data.train.stuff, self.model.semantic == "stuff"
        if stuff is not None and not semantic:
            raise ValueError(
                f"data.train.stuff: got {stuff}, and model.semantic=none looks at no stuff map; set "
                "model.semantic=stuff and a model.name of htc, or leave it out"
            )
        if semantic and self.train == "all" and stuff is None:
            raise ValueError(
                "model.semantic: got stuff, and there are no stuff maps to train it on; set data.train.stuff to the "
                "folder of COCO-Stuff's stuffthingmaps, or model.semantic=none"
            )
        if stuff is not None and self.data.augment.is_on:
            raise ValueError(
                "data.augment: stuff maps are not changed with their images; set its options off, or "
                "model.semantic=none and data.train.stuff=null"
            )
        if stuff is not None and self.data.exif == "apply":
            raise ValueError(
                "data.exif: got apply, and stuff maps are of the pixels as they are stored; set data.exif=ignore, or "
                "model.semantic=none"
            )
        return self

    @property
    def head_options(self) -> dict[str, Any]:
        """Options of the head without its name; a head that makes groups takes those of the data unless it has some."""
        return self.head.model_dump(exclude={"name"})

    def __eq__(self, other: object) -> bool:
        """Whether both describe the same run, whatever was written in the place of their paths."""
        return isinstance(other, Recipe) and self.__dict__ == other.__dict__

    @property
    def written(self) -> Mapping[str, WrittenPath]:
        """Relative paths that this recipe has joined to what they are relative to, by key."""
        return self._written

    def with_written(self, written: Mapping[str, WrittenPath]) -> Recipe:
        """The same recipe, which knows what was written in the place of some of its paths."""
        known = self.model_copy()
        known._written = dict(written)
        return known

    def to_plain(self) -> dict[str, Any]:
        """Numbers, text, lists and dicts only."""
        return self.model_dump(mode="json")


def has_masks(recipe: Recipe) -> bool:
    """Whether the recipe's model predicts masks."""
    return named_detector(recipe.model.name).masks


def has_sections(content: Mapping[str, Any]) -> bool:
    """Whether a recipe of any version has its sections; which keys and values they may have is not looked at.

    Args:
        content: What stands where a resolved recipe is expected.
    """
    sections = {
        name: field.is_required()
        for name, field in Recipe.model_fields.items()
        if field.is_required() or isinstance(field.default, Section)
    }
    return all(
        isinstance(content[name], Mapping) if name in content else not required for name, required in sections.items()
    )
