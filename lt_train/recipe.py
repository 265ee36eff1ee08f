"""The recipe: a complete, typed and frozen description of a run.

A recipe is a YAML file without inheritance. Dotted overrides (``optim.lr=0.01``) are applied to it, then ``method``
fills the keys that neither names, then the whole is validated. Paths are relative to the working directory.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lt_data.errors import DataError, RecipeError
from lt_data.groups import BAGS_EDGES, check_edges
from lt_train.methods import METHODS

Side = Annotated[int, Field(ge=32, le=10_000)]
Part = Literal["all", "head", "head+reg", "classifier", "none"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class SoftmaxHead(_Section):
    """Softmax over C + 1 logits."""

    name: Literal["softmax"] = "softmax"


class BagsHead(_Section):
    """Balanced group softmax."""

    name: Literal["bags"]
    others_ratio: float = Field(
        8.0, ge=0, allow_inf_nan=True, description="'Others' kept per positive of a group; .inf keeps all."
    )
    edges: tuple[int, ...] | None = Field(None, description="Bounds between the groups; null takes data.groups.")

    @field_validator("edges")
    @classmethod
    def _ascending(cls, edges: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if edges is None else _checked_edges(edges)


class ShuffleSampler(_Section):
    """Every image once per epoch."""

    name: Literal["shuffle"] = "shuffle"


class RepeatFactorSampler(_Section):
    """Images with rare categories more often (LVIS, appendix B)."""

    name: Literal["repeat-factor"]
    threshold: float = Field(0.001, gt=0, description="Image share below which a category is repeated.")
    rounding: Literal["stochastic", "ceil", "bags"] = Field(
        "stochastic", description="Copies of an image with factor r: r on average, ceil(r), or 1 + ceil(r)."
    )


class Files(_Section):
    """An annotation file and the folder of its images."""

    annotations: Path = Field(description="COCO or LVIS file, or a dataset directory.")
    images: Path = Field(description="Folder that the file names are relative to.")


class DataSection(_Section):
    """What is trained on and evaluated on."""

    train: Files
    val: Files | None = Field(None, description="Validation data; without it there is no evaluation and no best.")
    groups: tuple[int, ...] = Field(BAGS_EDGES, description="Bounds between the instance-count groups.")
    keep_empty: bool = Field(False, description="Train on images without annotations too.")
    flip: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    workers: int = Field(2, ge=0, description="Processes that load images.")

    @field_validator("groups")
    @classmethod
    def _ascending(cls, edges: tuple[int, ...]) -> tuple[int, ...]:
        return _checked_edges(edges)


class ModelSection(_Section):
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

    @field_validator("min_size", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value


class OptimSection(_Section):
    """SGD; the learning rate scales linearly with the images per step."""

    lr: float = Field(0.01, gt=0, description="Learning rate for base_batch images per step.")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    batch: int = Field(16, ge=1, description="Images per forward pass.")
    accumulate: int = Field(1, ge=1, description="Forward passes per optimiser step.")
    base_batch: int = Field(16, ge=1, description="Images per step that lr is meant for.")
    clip: float | None = Field(None, gt=0, description="Largest gradient norm.")
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


class ScheduleSection(_Section):
    """How long, and how the learning rate changes."""

    epochs: int = Field(12, ge=1)
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


class EvalSection(_Section):
    """When the validation data is evaluated; always at the end."""

    every: int | None = Field(None, ge=1, description="Epochs (or steps) between evaluations; null: only at the end.")
    batch: int = Field(1, ge=1, description="Images per forward pass; padding makes scores depend on it.")


class Recipe(_Section):
    """A complete run description."""

    method: str = Field("softmax", description="Preset that fills head, sampler and train.")
    head: Annotated[SoftmaxHead | BagsHead, Field(discriminator="name")] = SoftmaxHead()
    sampler: Annotated[ShuffleSampler | RepeatFactorSampler, Field(discriminator="name")] = ShuffleSampler()
    train: Part = Field("all", description="Parameters that are trained.")
    data: DataSection
    model: ModelSection = ModelSection()
    optim: OptimSection = OptimSection()
    schedule: ScheduleSection = ScheduleSection()
    eval: EvalSection = EvalSection()
    log_every: int = Field(20, ge=1, description="Steps between log lines.")
    seed: int = Field(0, ge=0, strict=True)
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")

    @model_validator(mode="after")
    def _known_method(self) -> Recipe:
        if self.method not in METHODS:
            raise ValueError(f"method: got '{self.method}'; allowed are {', '.join(METHODS)}")
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


def _checked_edges(edges: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return check_edges(edges)
    except DataError as error:
        raise ValueError(error.problems[0]) from None


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads ``1e-4`` as text; here it is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    entries = resources.files("lt_train.recipes").iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))


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
        merged = _without_preset(merged)
    for key, value, override in parsed:
        merged = _with_value(merged, key.split("."), value, override)
    for key in ("head", "sampler"):
        if isinstance(merged.get(key), str):
            merged[key] = {"name": merged[key]}
    method = METHODS.get(str(merged.get("method", "softmax")))
    filled = _fill(merged, method.fills) if method else merged
    try:
        return Recipe.model_validate(filled)
    except ValidationError as error:
        raise RecipeError([f"{where}: {line}" for line in _error_lines(error)]) from None


def _without_preset(content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without the keys that its own method filled: a resolved recipe can be given another method."""
    method = METHODS.get(str(content.get("method", "softmax")))
    kept = dict(content)
    for key, value in method.fills.items() if method else ():
        have = kept.get(key)
        if have == value or (isinstance(have, dict) and isinstance(value, dict) and have.get("name") == value["name"]):
            del kept[key]
    return kept


def read_recipe_file(source: str | Path) -> dict[str, Any]:
    """The mapping in a recipe file, before overrides and presets.

    Raises:
        RecipeError: There is no such recipe, or it is not a YAML mapping.
    """
    name = str(source)
    if name in recipe_names():
        text = resources.files("lt_train.recipes").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(
                f"recipe '{name}': no such shipped recipe and not a readable file ({error}); "
                f"shipped are {', '.join(recipe_names())}"
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
    """``content`` with the keys of ``defaults`` that it does not have."""
    filled = dict(content)
    for key, value in defaults.items():
        if isinstance(value, Mapping) and isinstance(filled.get(key), Mapping):
            filled[key] = _fill(filled[key], value)
        elif filled.get(key) is None:
            filled[key] = value
    return filled


def _error_lines(error: ValidationError) -> Iterator[str]:
    """One line for each pydantic problem: key, what we got, what is allowed."""
    for problem in error.errors():
        # the tag of a union member is not a key that the user wrote
        parts = [str(p) for p in problem["loc"] if str(p) not in _UNION_TAGS]
        key = ".".join(parts)
        if problem["type"] == "extra_forbidden":
            yield f"unknown key '{key}'{_did_you_mean(parts)}"
        elif problem["type"] == "missing":
            yield f"key '{key}' is missing; set it in the recipe or with {key}=VALUE"
        elif problem["type"] == "value_error":
            yield ": ".join(filter(None, [key, problem["msg"].removeprefix("Value error, ")]))
        else:
            yield f"{key}: got {problem['input']!r}; {problem['msg'][:1].lower()}{problem['msg'][1:]}"


_UNION_TAGS = {"softmax", "bags", "shuffle", "repeat-factor"}


def _did_you_mean(parts: list[str]) -> str:
    close = difflib.get_close_matches(".".join(parts), list(_all_keys(Recipe)), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _all_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        for kind in _sections_in(field.annotation):
            yield from _all_keys(kind, f"{prefix}{name}.")


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in getattr(annotation, "__args__", ()) for kind in _sections_in(part)]
