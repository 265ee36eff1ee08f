"""Filling a recipe from its method and variant, and changing them in a recipe that is filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lt_train.detectors.table import known_detector
from lt_train.recipe.method import VARIANTS
from lt_train.recipe.methods import METHODS, fills

# values that mean something together only: if one of them was chosen, all stay
_TOGETHER = {"schedule": ("epochs", "decay"), "optim": ("batch", "accumulate", "base_batch")}


@dataclass(frozen=True)
class Defaults:
    """What a recipe has where neither the file nor a method says anything.

    Attributes:
        values: By key; sections as mappings. Without the sections that have a name.
        names: Name of each section that has one: head, sampler, calibration.
        options: Options of those sections, by section and name.
    """

    values: Mapping[str, Any]
    names: Mapping[str, str]
    options: Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Preset:
    """What a recipe's keys are filled by.

    Attributes:
        method: Key of ``METHODS``.
        variant: Member of ``VARIANTS``.
        detector: ``model.name``.
        values: What these three fill; nothing where one of them does not exist, which validating says.
    """

    method: str
    variant: str
    detector: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, content: Mapping[str, Any], defaults: Mapping[str, Any]) -> Preset:
        """The one that the content of a recipe names, with the defaults of what it does not name."""
        model = content.get("model")
        name = model.get("name") if isinstance(model, Mapping) else None
        method, variant = (str(content.get(key, defaults[key])) for key in ("method", "variant"))
        detector = str(name or defaults["model"]["name"])
        spec = known_detector(detector) if method in METHODS and variant in VARIANTS else None
        values = fills(method, variant, masks=spec.masks) if spec else {}
        return cls(method, variant, detector, values)

    @property
    def label(self) -> str:
        """For people."""
        return f"method {self.method}" + f", variant {self.variant}" * (self.variant != "equal")


def fill(content: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` with the keys of ``preset`` that it does not have; options of another head are not filled in.

    A key that is there is explicit, null too; a section that is null says nothing.
    """
    filled = dict(content)
    for key, value in preset.items():
        have = filled.get(key)
        if isinstance(value, Mapping) and isinstance(have, Mapping):
            if "name" not in value or have.get("name", value["name"]) == value["name"]:
                filled[key] = fill(have, value)
        elif key not in filled or (have is None and isinstance(value, Mapping)):
            filled[key] = value
    return filled


def change_preset(
    content: Mapping[str, Any], was: Preset, preset: Preset, defaults: Defaults
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What stays of a recipe file when it is given another method or variant: the values that somebody chose.

    A complete or resolved recipe holds every key, so a value is chosen only if it is neither what the file's own
    preset fills nor the default. The other keys that a preset fills are left out, to be filled anew.

    Args:
        content: The file; its sections with a name are mappings.
        was: What the file is filled by.
        preset: What it is going to be filled by; where that is the file's own, or nothing, everything stays.
        defaults: Of the recipe.

    Returns:
        The content, and a note for each section whose chosen options have no place beside the preset.
    """
    same = (preset.method, preset.variant) == (was.method, was.variant) and preset.values == was.values
    if same or not preset.values:
        return dict(content), ()
    old, new = was.values, preset.values
    kept, notes = _with_what_belongs_together(content, _chosen(content, old, new, defaults.values)), []
    renewed = _renewed(content, kept, {**defaults.values, **new}, defaults.values)
    given, before = _differences(was, preset)
    if renewed:
        notes.append(f"note: {given} sets anew what the recipe had as a default or from {before}: {', '.join(renewed)}")
    for section in defaults.names:
        if isinstance(content.get(section), Mapping):
            kept[section], dropped = _chosen_section(section, content[section], old, new, defaults)
            if dropped:
                notes.append(
                    f"note: {given} has {section}={new[section]['name']}; dropped from the recipe: {', '.join(dropped)}"
                )
    return kept, tuple(notes)


def _differences(was: Preset, preset: Preset) -> tuple[str, str]:
    """What is given anew, as KEY=VALUE, and what there was in its place."""
    rows = [
        ("method", "method", was.method, preset.method),
        ("variant", "variant", was.variant, preset.variant),
        ("model.name", "detector", was.detector, preset.detector),
    ]
    changed = [row for row in rows if row[2] != row[3]]
    given = " ".join(f"{key}={new}" for key, _, _, new in changed)
    return given, ", ".join(f"{word} {old}" for _, word, old, _ in changed)


def _chosen(
    content: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """``content`` without values that were not chosen, of the keys that either method fills."""
    kept = dict(content)
    for key in {*old, *new} & {*defaults} & {*content}:
        have, default = content[key], defaults[key]
        if isinstance(default, Mapping) and isinstance(have, Mapping):
            kept[key] = _chosen(have, old.get(key, {}), new.get(key, {}), default)
        elif have == default or (key in old and have == old[key]):
            del kept[key]
    return kept


def _with_what_belongs_together(content: Mapping[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """``kept`` with all of what belongs together where one of it was chosen: a decay belongs to a length."""
    for section, keys in _TOGETHER.items():
        have, stays = content.get(section), kept.get(section)
        if section == "schedule" and isinstance(have, Mapping) and have.get("iterations") is not None:
            # the decay counts these then, and the epochs count for nothing
            keys = ("iterations", "decay")
        if isinstance(have, Mapping) and isinstance(stays, Mapping) and any(key in stays for key in keys):
            kept = {**kept, section: {**stays, **{key: have[key] for key in keys if key in have}}}
    return kept


def _renewed(
    content: Mapping[str, Any],
    kept: Mapping[str, Any],
    new: Mapping[str, Any],
    defaults: Mapping[str, Any],
    prefix: str = "",
) -> list[str]:
    """Values of a file that were left out and will be others, as KEY=VALUE."""
    lines = []
    for key, have in content.items():
        if key in defaults and isinstance(have, Mapping) and isinstance(defaults[key], Mapping):
            values = {**defaults[key], **(new.get(key) or {})}
            lines += _renewed(have, kept.get(key, {}), values, defaults[key], f"{prefix}{key}.")
        elif key in defaults and key not in kept and new.get(key) != have:
            lines.append(f"{prefix}{key}={_spelled(have)}")
    return lines


def _chosen_section(
    section: str, have: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any], defaults: Defaults
) -> tuple[dict[str, Any], list[str]]:
    """What stays of a section with a name, and the chosen options that do not, as KEY=VALUE."""
    preset = old.get(section, {"name": defaults.names[section]})
    name = have.get("name", preset["name"])
    given = [defaults.options[section].get(str(name), {}), preset if preset["name"] == name else {}]
    chosen = {
        key: value
        for key, value in have.items()
        if key != "name" and not any(key in source and source[key] == value for source in given)
    }
    if name == new[section]["name"]:
        return chosen, []
    if name not in (preset["name"], defaults.names[section]):
        return dict(have), []
    return {}, [f"{section}.{key}={_spelled(value)}" for key, value in chosen.items()]


def _spelled(value: Any) -> str:
    """A value as a recipe spells it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def beaten_keys(preset: Preset, recipe: Mapping[str, Any]) -> list[str]:
    """Keys of a resolved recipe whose values beat those of its preset, one line each."""
    return list(_beaten(preset.values, recipe, preset.label, ""))


def _beaten(preset: Mapping[str, Any], have: Mapping[str, Any], label: str, prefix: str) -> list[str]:
    lines = []
    for key, value in preset.items():
        other_name = isinstance(value, Mapping) and "name" in value and value["name"] != have[key]["name"]
        if isinstance(value, Mapping) and not other_name:
            lines += _beaten(value, have[key], label, f"{prefix}{key}.")
        elif have[key] != value:
            got, wanted = (have[key]["name"], value["name"]) if isinstance(value, Mapping) else (have[key], value)
            beats = f"beats {_spelled(wanted)} of {label}"
            lines.append(f"note: {prefix}{key}={_spelled(got)} is set explicitly and {beats}")
    return lines
