"""The recipe: a complete, typed and frozen description of a run.

A recipe is a YAML file without inheritance. Dotted overrides (``optim.lr=0.01``) are applied to it, then ``method``
fills the keys that neither names, then the whole is validated. Paths are relative to the working directory.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from lt_data.errors import RecipeError
from lt_data.groups import BAGS_EDGES
from lt_train.methods import METHODS
from lt_train.options import (
    CalibrationOptions,
    HeadOptions,
    NoCalibration,
    SamplerOptions,
    Section,
    ShuffleSampler,
    SoftmaxHead,
    checked_edges,
    sections_of,
)
from lt_train.recipe_errors import error_lines

Side = Annotated[int, Field(ge=32, le=10_000)]
Part = Literal["all", "head", "head+reg", "classifier", "none"]
TrackerName = Literal["tensorboard", "wandb"]


class Files(Section):
    """An annotation file and the folder of its images."""

    annotations: Path = Field(description="COCO or LVIS file, or a dataset directory.")
    images: Path = Field(description="Folder that the file names are relative to.")


class DataSection(Section):
    """What is trained on and evaluated on."""

    train: Files
    val: Files | None = Field(None, description="Validation data; without it there is no evaluation and no best.")
    groups: tuple[int, ...] = Field(BAGS_EDGES, description="Bounds between the instance-count groups.")
    classes_below: int | None = Field(
        None, ge=1, description="Train only on classes with fewer instances; objects of the others become background."
    )
    keep_empty: bool = Field(False, description="Train on images without annotations too.")
    flip: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    workers: int = Field(2, ge=0, description="Processes that load images.")

    @field_validator("groups")
    @classmethod
    def _ascending(cls, edges: tuple[int, ...]) -> tuple[int, ...]:
        return checked_edges(edges)


class ModelSection(Section):
    """Detector and its test settings."""

    name: Literal["mask_rcnn_r50_fpn", "faster_rcnn_r50_fpn", "mask_rcnn_small", "faster_rcnn_small"] = Field(
        "mask_rcnn_r50_fpn", description="Detector."
    )
    weights: str = Field("none", description="none, imagenet, coco, or a file.")
    num_detections: int = Field(300, ge=1, description="Detections kept per image.")
    score_threshold: float = Field(0.001, ge=0, lt=1, description="Detections below are dropped.")
    pre_nms_topk: int = Field(10_000, ge=1, description="(region, class) pairs per image that enter NMS.")
    min_size: tuple[Side, ...] = Field((800,), min_length=1, description="Short side in pixels; several: drawn.")
    max_size: int = Field(1333, ge=32, description="Longest side in pixels.")
    mask_target: Literal["exact", "polygon"] = Field(
        "exact", description="Targets of the mask loss: shares as torchvision's, or 0 and 1 drawn from polygons."
    )

    @field_validator("min_size", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value


class OptimSection(Section):
    """SGD; the learning rate scales linearly with the images per step."""

    lr: float = Field(0.01, gt=0, description="Learning rate for base_batch images per step.")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    batch: int = Field(16, ge=1, description="Images per forward pass.")
    accumulate: int = Field(1, ge=1, description="Forward passes per optimiser step.")
    base_batch: int = Field(16, ge=1, description="Images per step that lr is meant for.")
    clip: float | None = Field(None, gt=0, description="Largest gradient norm.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of an average of the weights over the steps, which is then what is kept."
    )
    micro_batch: int | None = Field(
        None, ge=1, description="Images among which the head samples and normalises; null: a whole forward pass."
    )

    @property
    def images_per_step(self) -> int:
        """Images that one optimiser step sees."""
        return self.batch * self.accumulate

    @property
    def effective_lr(self) -> float:
        """Linear scaling rule: lr * images per step / base_batch."""
        return self.lr * self.images_per_step / self.base_batch


class ComputeSection(Section):
    """How the arithmetic is done; the mathematics stays."""

    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Of layers, by autocast; weights, losses, scores and boxes stay fp32."
    )
    channels_last: bool = Field(False, description="Images and feature maps in memory as NHWC.")
    compile: bool = Field(False, description="torch.compile the backbone and the heads' layers.")


class ScheduleSection(Section):
    """How long, and how the learning rate changes."""

    epochs: int = Field(12, ge=1)
    epoch: Literal["dataset", "sampler"] = Field(
        "dataset", description="Images in an epoch: those of the data, for every sampler; or one pass of the sampler."
    )
    iterations: int | None = Field(
        None, ge=1, description="Optimiser steps instead of epochs; decay counts steps then."
    )
    decay: tuple[int, ...] = Field(
        (8, 11), description="Epochs (or steps) after which lr is multiplied by decay_factor."
    )
    decay_factor: float = Field(0.1, gt=0, le=1)
    warmup: int = Field(500, ge=0, description="Steps of linear warm-up.")
    warmup_start: float = Field(1 / 3, gt=0, le=1, description="Share of lr at the first step.")

    @model_validator(mode="after")
    def _decay_in_steps(self) -> ScheduleSection:
        early = [step for step in self.decay if step < self.warmup]
        if self.iterations is not None and early:
            raise ValueError(
                f"decay counts steps when iterations is set; got {list(self.decay)} with a warm-up of {self.warmup} "
                "steps; set schedule.decay too, for example schedule.decay=[4000]"
            )
        return self


class EvalSection(Section):
    """When the validation data is evaluated; always at the end."""

    every: int | None = Field(None, ge=1, description="Epochs (or steps) between evaluations; null: only at the end.")
    batch: int = Field(1, ge=1, description="Images per forward pass; padding makes scores depend on it.")


class Recipe(Section):
    """A complete run description."""

    method: str = Field("softmax", description="Preset that fills head, sampler, calibration and train.")
    head: HeadOptions = SoftmaxHead()
    sampler: SamplerOptions = ShuffleSampler()
    calibration: CalibrationOptions = NoCalibration()
    train: Part = Field("all", description="Parameters that are trained.")
    data: DataSection
    model: ModelSection = ModelSection()
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
            raise ValueError(f"method: got '{self.method}'; allowed are {', '.join(METHODS)}")
        return self

    @model_validator(mode="after")
    def _calibration_trains_nothing(self) -> Recipe:
        if self.calibration.name != "none" and self.train != "none":
            raise ValueError(
                f"calibration: '{self.calibration.name}' is fitted to a trained run, so train is none with it; "
                f"got train={self.train}"
            )
        return self

    @property
    def head_options(self) -> dict[str, Any]:
        """Options of the head without its name; groups of ``data.groups`` where the head has none of its own."""
        options = self.head.model_dump(exclude={"name"})
        if "edges" in options:
            options["edges"] = options["edges"] or self.data.groups
        return options

    def to_plain(self) -> dict[str, Any]:
        """Numbers, text, lists and dicts only."""
        return self.model_dump(mode="json")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads ``1e-4`` as text; here it is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    return sorted(_shipped())


def _shipped() -> dict[str, Traversable]:
    """Shipped recipe files by bare name; a folder holds those of one data set."""
    root = resources.files("lt_train.recipes")
    folders = [root, *(entry for entry in root.iterdir() if entry.is_dir())]
    files = [entry for folder in folders for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return {entry.name.removesuffix(".yaml"): entry for entry in files}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads, overrides, fills and validates a recipe.

    Args:
        source: Bare name of a shipped recipe, or a path to a YAML file.
        overrides: ``dotted.key=value`` texts; values are YAML.

    Raises:
        RecipeError: The recipe cannot be found or parsed, or a key or value is not allowed: one line each.
    """
    return make_recipe(read_recipe_file(source), overrides, where=str(source))


def make_recipe(content: Mapping[str, Any], overrides: Sequence[str] = (), *, where: str = "recipe") -> Recipe:
    """Overrides, fills and validates the content of a recipe file.

    Raises:
        RecipeError: A key or value is not allowed: one line each.
    """
    parsed = [(*_parse_override(override), override) for override in overrides]
    merged = dict(content)
    if any(key == "method" for key, *_ in parsed):
        merged = without_preset(merged)
    for key, value, override in parsed:
        merged = _with_value(merged, key.split("."), value, override)
    for key in ("head", "sampler", "calibration"):
        if isinstance(merged.get(key), str):
            merged[key] = {"name": merged[key]}
    method = METHODS.get(str(merged.get("method", "softmax")))
    filled = _fill(merged, method.fills) if method else merged
    try:
        return Recipe.model_validate(filled)
    except ValidationError as error:
        raise RecipeError([f"{where}: {line}" for line in error_lines(error, Recipe, _TAGS)]) from None


def override_keys(overrides: Sequence[str]) -> tuple[str, ...]:
    """The dotted keys that override texts name.

    Raises:
        RecipeError: A text is no override.
    """
    return tuple(_parse_override(override)[0] for override in overrides)


def without_preset(content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without the keys that its own method filled: a resolved recipe can be given another method."""
    method = METHODS.get(str(content.get("method", "softmax")))
    return _without(content, method.fills) if method else dict(content)


def _without(content: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` without the values of ``preset``; a section with a name goes as a whole."""
    kept = dict(content)
    for key, value in preset.items():
        have = kept.get(key)
        if have == value or (isinstance(value, Mapping) and isinstance(have, Mapping) and _same_name(have, value)):
            del kept[key]
        elif isinstance(value, Mapping) and isinstance(have, Mapping) and "name" not in value:
            kept[key] = _without(have, value)
    return kept


def _same_name(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return "name" in one and one["name"] == other.get("name")


def read_recipe_file(source: str | Path) -> dict[str, Any]:
    """The mapping in a recipe file, before overrides and presets.

    Raises:
        RecipeError: There is no such recipe, or it is not a YAML mapping.
    """
    name, shipped = str(source), _shipped()
    if name in shipped:
        text = shipped[name].read_text(encoding="utf-8")
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            close = difflib.get_close_matches(name, shipped, n=3, cutoff=0.3)
            raise RecipeError(
                f"recipe '{name}': no such shipped recipe and not a readable file ({error}); "
                f"{len(shipped)} are shipped, for example {', '.join(close or sorted(shipped)[:3])}; "
                "lt-train recipes lists them"
            ) from None
    return _parse_mapping(text, name)


def _parse_mapping(text: str, name: str) -> dict[str, Any]:
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{name}: a recipe is a mapping of keys to values; got {type(content).__name__}")
    return content


def _parse_override(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise RecipeError(f"override '{text}': write it as key=value, for example optim.lr=0.01")
    try:
        return key, yaml.load(value, Loader=_Loader)
    except yaml.YAMLError:
        raise RecipeError(f"override '{text}': the value is not YAML; put it in quotes") from None


def _with_value(content: Mapping[str, Any], keys: list[str], value: Any, text: str) -> dict[str, Any]:
    """A copy of ``content`` with the value at the dotted key."""
    inner = content.get(keys[0])
    if len(keys) == 1:
        return {**content, keys[0]: value}
    if inner is not None and not isinstance(inner, dict):
        raise RecipeError(f"override '{text}': '{keys[0]}' is not a section, it is {inner!r}")
    return {**content, keys[0]: _with_value(inner or {}, keys[1:], value, text)}


def _fill(content: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` with the keys of ``defaults`` that it does not have; options of another head are not filled in."""
    filled = dict(content)
    for key, value in defaults.items():
        have = filled.get(key)
        if isinstance(value, Mapping) and isinstance(have, Mapping):
            if have.get("name", value.get("name")) == value.get("name"):
                filled[key] = _fill(have, value)
        elif have is None:
            filled[key] = value
    return filled


# names that stand in the location of a problem but are no keys
_TAGS = {name for union in (HeadOptions, SamplerOptions, CalibrationOptions) for name in sections_of(union)}
