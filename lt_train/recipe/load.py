"""Reading recipes: shipped ones by name, YAML files, and dotted overrides."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from lt_data.errors import RecipeError, shown
from lt_train.options.errors import close_names, error_lines
from lt_train.options.section import plain_defaults, sections_of
from lt_train.recipe.fill import Defaults, Preset, beaten_keys, change_preset, fill
from lt_train.recipe.methods import METHODS, fills
from lt_train.recipe.options import NAMED
from lt_train.recipe.other_names import OTHER_NAMES
from lt_train.recipe.paths import Located, check_root, locate, paths_in, still_written
from lt_train.recipe.sections import Recipe
from lt_train.recipe.text import DEEPEST, MOST_CHARACTERS, parse_yaml

# what a file may hold instead of a mapping, for people
_KINDS = {type(None): "nothing", str: "text", list: "a list", bool: "true or false", int: "a number", float: "a number"}


# what a calibration of a run has of its own, or nothing of
NOT_CALIBRATED = ("calibration", "train", "sampler", "second_head")


class Override(NamedTuple):
    """A ``dotted.key=value`` text, taken apart."""

    key: str
    value: Any
    text: str


def recipe_names(text: str = "") -> list[str]:
    """Recipes that come with the package, those with ``text`` in their name.

    Raises:
        RecipeError: There is none.
    """
    shipped = sorted(_shipped())
    names = [name for name in shipped if text in name]
    if not names:
        _answer_former_name(text, shipped)
        close = close_names(text, shipped)
        raise RecipeError(
            f"recipes: none of {len(shipped)} has '{text}' in its name; "
            + (f"close are {', '.join(close)}; " if close else "")
            + "lt-train recipes lists all"
        )
    return names


def _shipped() -> dict[str, Traversable]:
    """Shipped recipe files by bare name."""
    files = [entry for entry in resources.files("lt_train.recipes").iterdir() if entry.name.endswith(".yaml")]
    return {entry.name.removesuffix(".yaml"): entry for entry in files}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads, overrides, fills and validates a recipe.

    Args:
        source: Bare name of a shipped recipe, or a path to a YAML file.
        overrides: ``dotted.key=value`` texts; values are YAML.

    Raises:
        RecipeError: The recipe cannot be found or parsed, or a key or value is not allowed: one line each.
    """
    return load_noted(source, overrides)[0]


def load_noted(
    source: str | Path, overrides: Sequence[str] = (), *, root: Path | None = None
) -> tuple[Recipe, tuple[str, ...]]:
    """A recipe as by ``load_recipe``, and a line for whatever of the file was dropped for another method.

    Args:
        source: Bare name of a shipped recipe, or a path to a YAML file.
        overrides: ``dotted.key=value`` texts; paths among them are relative to the working directory.
        root: What relative paths of the recipe are relative to; unless given, the folder of a file of one's own, and
            the working directory for a shipped recipe.

    Raises:
        RecipeError: As ``load_recipe``.
    """
    located = read_located(source, root)
    recipe, notes = make_noted(located.content, overrides, where=str(source))
    return with_origin_of_paths(recipe, located), (*notes_on_paths(recipe, located), *notes)


def with_origin_of_paths(recipe: Recipe, located: Located) -> Recipe:
    """A recipe made of a located file, which knows what that file has in the place of its paths."""
    return recipe.with_written(still_written(located.written, located.content, recipe))


def notes_on_paths(recipe: Recipe, located: Located) -> list[str]:
    """Lines about the paths of a located file that no override has set."""
    was, now = dict(paths_in(located.content)), dict(paths_in(recipe.to_plain()))
    return [line for key, line in located.notes.items() if now.get(key) == was[key]]


def read_located(source: str | Path, root: Path | None = None) -> Located:
    """The mapping in a recipe file, with paths that can be opened from the working directory.

    Args:
        source: Bare name of a shipped recipe, or a path to a YAML file.
        root: What its relative paths are relative to, see :func:`load_noted`.

    Raises:
        RecipeError: As :func:`read_recipe_file`, or ``root`` is no folder.
    """
    content = read_recipe_file(source)
    if root is not None:
        return locate(content, check_root(root), f"--root {root}", strict=True)
    if str(source) in _shipped():
        return Located(content, {}, {})
    return locate(content, Path(source).parent, f"the recipe file {source}")


def make_recipe(content: Mapping[str, Any], overrides: Sequence[str] = (), *, where: str = "recipe") -> Recipe:
    """Overrides, fills and validates the content of a recipe file.

    A key that is not there is filled by the method, else it has its default.

    Raises:
        RecipeError: A key or value is not allowed: one line each.
    """
    return make_noted(content, overrides, where=where)[0]


def make_noted(
    content: Mapping[str, Any], overrides: Sequence[str] = (), *, where: str = "recipe"
) -> tuple[Recipe, tuple[str, ...]]:
    """A recipe as by ``make_recipe``, and a line for whatever of the content was dropped for another method.

    Raises:
        RecipeError: As ``make_recipe``.
    """
    parsed = parse_overrides(overrides)
    kept, notes = chosen_content(content, parsed)
    merged = _with_overrides(kept, parsed)
    recipe = resolved_recipe(fill(merged, preset_of(merged).values), where=where)
    _check_unit_of_decay(recipe, content, parsed, where)
    return recipe, notes


def _check_unit_of_decay(recipe: Recipe, content: Mapping[str, Any], overrides: Sequence[Override], where: str) -> None:
    """Refuses a decay that was meant in epochs where the length became one in steps.

    Raises:
        RecipeError: The iterations are given without a decay beside them.
    """
    typed = _with_overrides({}, [o for o in overrides if o.key.partition(".")[0] == "schedule"]).get("schedule") or {}
    file = content.get("schedule")
    in_file = {key for key, value in file.items() if value is not None} if isinstance(file, Mapping) else set()
    beside = {*typed} if "iterations" in typed and "iterations" not in in_file else {*typed, *in_file}
    if recipe.schedule.iterations is not None and recipe.schedule.decay and "decay" not in beside:
        raise RecipeError(
            f"{where}: schedule: decay counts steps when iterations is set; got {shown(list(recipe.schedule.decay))}, "
            f"which are epochs; set schedule.decay too, for example schedule.decay=[{recipe.schedule.example_decay}]"
        )


def resolved_recipe(content: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """The recipe of a run: nothing is filled by its method, and a key that an older version lacked has its default.

    Raises:
        RecipeError: A key or value is not allowed: one line each.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError([f"{where}: {line}" for line in error_lines(error, Recipe, content, OTHER_NAMES)]) from None


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Override texts taken apart, in the order in which they are applied.

    A head, sampler or calibration as a whole comes before its options, wherever it was typed.

    Raises:
        RecipeError: A text is no override.
    """
    parsed = [_parse_override(text) for text in overrides]
    return sorted(parsed, key=lambda override: override.key not in NAMED)


def chosen_content(content: Mapping[str, Any], overrides: Sequence[Override]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What stays of a recipe file beside its overrides, with short forms written out; and notes on what does not.

    Only a ``method`` or ``variant`` among the overrides changes anything (and a detector that the same ones are filled
    otherwise for), see :func:`lt_train.recipe.fill.change_preset`.
    """
    written = {key: _written_out(key, value) for key, value in content.items()}
    naming = [o for o in overrides if o.key in ("method", "variant", "model", "model.name")]
    if not naming:
        return written, ()
    named: dict[str, Any] = {key: written[key] for key in ("method", "variant", "model") if key in written}
    return change_preset(written, preset_of(named), preset_of(_with_overrides(named, naming)), _defaults())


def calibration_content(
    content: Mapping[str, Any], method: str, overrides: Sequence[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The resolved recipe of a trained run for a method that is fitted to it.

    Head, data and all that the run was trained with stay; what is fitted and how the result is tested are the method's,
    and so is the sampler: a calibration draws nothing.

    Args:
        content: The recipe of the run.
        method: A method with a calibration.
        overrides: ``dotted.key=value`` texts, for a ``variant`` among them.

    Returns:
        The content, to be overridden and filled, and notes on what of it is set anew.

    Raises:
        RecipeError: A text is no override.
    """
    about = {key: content[key] for key in ("method", "variant", "model")}
    variants = [o for o in parse_overrides(overrides) if o.key == "variant"]
    kept, notes = chosen_content(about, [Override("method", method, f"method={method}"), *variants])
    chosen = {"method": method, "variant": variants[-1].value if variants else content["variant"]}
    rest = {key: value for key, value in content.items() if key not in NOT_CALIBRATED}
    return {**rest, **kept, **chosen}, notes


def preset_of(content: Mapping[str, Any]) -> Preset:
    """What the content of a recipe is filled by: its method, variant and detector."""
    return Preset.of(content, _defaults().values)


def class_weight_options(method: str, variant: str) -> dict[str, Any]:
    """Options of :func:`lt_data.counts.class_weights.class_weights` as the head of a method has them.

    Args:
        method: One of ``REWEIGHTED``.
        variant: One of ``VARIANTS``.
    """
    head = dict(fills(method, variant)["head"])
    name = head.pop("name")
    options = {**_defaults().options["head"][name], **head}
    about_weights = ("beta", "power", "lower", "upper", "background", "background_ratio")
    return {"kind": options["weighting"], **{key: options[key] for key in about_weights}}


def beaten_in(recipe: Recipe) -> list[str]:
    """Keys of a recipe whose values beat those of its method, one line each.

    The head of a calibration is none of them: it is that of the run which is calibrated.
    """
    plain = recipe.to_plain()
    preset = preset_of(plain)
    if recipe.calibration.name != "none":
        preset = replace(preset, values={key: value for key, value in preset.values.items() if key != "head"})
    return beaten_keys(preset, plain)


def _written_out(key: str, value: Any) -> Any:
    """``head: focal`` is short for ``head: {name: focal}``."""
    return {"name": value} if key in NAMED and isinstance(value, str) else value


@cache
def _defaults() -> Defaults:
    return Defaults(
        values=plain_defaults(Recipe),
        names={key: Recipe.model_fields[key].default.name for key in NAMED},
        options={
            key: {name: plain_defaults(kind) for name, kind in sections_of(union).items()}
            for key, union in NAMED.items()
        },
    )


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
            text = _read_text(Path(source))
        except UnicodeDecodeError:
            raise RecipeError(f"{name}: is not text in UTF-8; save it as UTF-8") from None
        except (OSError, ValueError) as error:
            _answer_former_name(name, shipped)
            if "=" in name:
                raise RecipeError(
                    f"recipe {shown(name)}: the first word is the recipe, and this is an override; write "
                    f"lt-train fit RECIPE {shown(name)[1:-1]}"
                ) from None
            close = difflib.get_close_matches(name, shipped, n=3, cutoff=0.3)
            reason = error.strerror if isinstance(error, OSError) else error
            raise RecipeError(
                f"recipe {shown(name)}: no such shipped recipe and not a readable file ({reason}); {len(shipped)} are "
                f"shipped, for example {', '.join(close or sorted(shipped)[:3])}; lt-train recipes lists them"
            ) from None
    return _parse_mapping(text, name)


def _answer_former_name(name: str, shipped: Iterable[str]) -> None:
    """A recipe of each method was shipped once, as ``BASE_method``; others look for a recipe called like a method."""
    if name in METHODS:
        base = min(shipped)
        raise RecipeError(
            f"recipe '{name}': this is a method, an option of every recipe; write RECIPE method={name}, "
            f"for example lt-train fit {base} method={name}"
        )
    for base in shipped:
        method = name.removeprefix(f"{base}_").replace("_", "-")
        if name.startswith(f"{base}_") and method in METHODS:
            raise RecipeError(
                f"recipe '{name}': the method is an option now; write {base} method={method}, "
                f"for example lt-train fit {base} method={method}"
            )


def _read_text(path: Path) -> str:
    """The text of a file, or as much as says that it is too long: a device has no end."""
    with path.open(encoding="utf-8") as file:
        return file.read(MOST_CHARACTERS + 1)


def _parse_mapping(text: str, name: str) -> dict[str, Any]:
    content = parse_yaml(text, name)
    if not isinstance(content, dict):
        raise RecipeError(f"{name}: a recipe is a mapping of keys to values; got {_KINDS[type(content)]}")
    return content


def _parse_override(text: str) -> Override:
    key, sign, value = text.partition("=")
    parts = key.split(".")
    if not sign or not all(parts) or len(parts) > DEEPEST:
        raise RecipeError(f"override {shown(text)}: write it as key=value, for example optim.lr=0.01")
    parsed = parse_yaml(value, f"override {shown(text)}")
    if key in NAMED and parsed is None:
        raise RecipeError(
            f"override {shown(text)}: {key} is never null; allowed are {', '.join(sections_of(NAMED[key]))}"
        )
    return Override(key, _written_out(key, parsed), text)


def _with_overrides(content: Mapping[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """A copy of ``content`` with the values of the overrides, one after the other."""
    merged = dict(content)
    for override in overrides:
        merged = _with_value(merged, override.key.split("."), override)
    return merged


def _with_value(content: Mapping[str, Any], keys: list[str], override: Override) -> dict[str, Any]:
    """A copy of ``content`` with the value at the dotted key."""
    inner = content.get(keys[0])
    if len(keys) == 1:
        return {**content, keys[0]: override.value}
    if inner is not None and not isinstance(inner, dict):
        raise RecipeError(f"override {shown(override.text)}: '{keys[0]}' is not a section, it is {shown(inner)}")
    return {**content, keys[0]: _with_value(inner or {}, keys[1:], override)}
