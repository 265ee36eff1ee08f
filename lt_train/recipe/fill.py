"""Filling a recipe from its method, and changing the method of a recipe that is filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lt_train.recipe.methods import METHODS


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


def fill(content: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` with the keys of ``preset`` that it does not have; options of another head are not filled in.

    A key that is there is explicit, null too; a section that is null says nothing.
    """
    filled = dict(content)
    for key, value in preset.items():
        have = filled.get(key)
        if isinstance(value, Mapping) and isinstance(have, Mapping):
            if have.get("name", value.get("name")) == value.get("name"):
                filled[key] = fill(have, value)
        elif key not in filled or (have is None and isinstance(value, Mapping)):
            filled[key] = value
    return filled


def change_method(
    content: Mapping[str, Any], method: str, defaults: Defaults
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What stays of a recipe file when it is given another method: the values that somebody chose.

    A complete or resolved recipe holds every key, so a value is chosen only if it is neither what the file's own
    method fills nor the default. The other keys that a method fills are left out, to be filled anew.

    Args:
        content: The file; its sections with a name are mappings.
        method: The other method; with the file's own, or one that does not exist, everything stays.
        defaults: Of the recipe.

    Returns:
        The content, and a note for each section whose chosen options have no place beside the method.
    """
    was = str(content.get("method", "softmax"))
    if method == was or method not in METHODS:
        return dict(content), ()
    old: Mapping[str, Any] = METHODS[was].fills if was in METHODS else {}
    new = METHODS[method].fills
    kept, notes = _with_pair(content, _chosen(content, old, new, defaults.values)), []
    renewed = _renewed(content, kept, {**defaults.values, **new}, defaults.values)
    if renewed:
        notes.append(
            f"note: method={method} sets anew what the recipe had as a default or from method {was}: "
            + ", ".join(renewed)
        )
    for section in defaults.names:
        if isinstance(content.get(section), Mapping):
            kept[section], dropped = _chosen_section(section, content[section], old, new, defaults)
            if dropped:
                notes.append(
                    f"note: method={method} has {section}={new[section]['name']}; dropped from the recipe: "
                    + ", ".join(dropped)
                )
    return kept, tuple(notes)


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


def _with_pair(content: Mapping[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """``kept`` with both of epochs and decay if either was chosen: a decay belongs to a length."""
    have, stays = content.get("schedule"), kept.get("schedule")
    pair = ("epochs", "decay")
    if not isinstance(have, Mapping) or not isinstance(stays, Mapping) or not any(key in stays for key in pair):
        return kept
    return {**kept, "schedule": {**stays, **{key: have[key] for key in pair if key in have}}}


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


def beaten_keys(method: str, recipe: Mapping[str, Any]) -> list[str]:
    """Keys of a resolved recipe whose values beat those of its method, one line each."""
    return list(_beaten(METHODS[method].fills, recipe, method, ""))


def _beaten(preset: Mapping[str, Any], have: Mapping[str, Any], method: str, prefix: str) -> list[str]:
    lines = []
    for key, value in preset.items():
        other_name = isinstance(value, Mapping) and value.get("name") != have[key].get("name")
        if isinstance(value, Mapping) and not other_name:
            lines += _beaten(value, have[key], method, f"{prefix}{key}.")
        elif have[key] != value:
            got, wanted = (have[key]["name"], value["name"]) if isinstance(value, Mapping) else (have[key], value)
            beats = f"beats {_spelled(wanted)} of method {method}"
            lines.append(f"note: {prefix}{key}={_spelled(got)} is set explicitly and {beats}")
    return lines
