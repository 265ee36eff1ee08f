"""Where every value of a resolved recipe comes from: the command line, the recipe file, the method, or a default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lt_data.text_tables import WIDTH
from lt_train.recipe.load import (
    chosen_content,
    make_noted,
    notes_on_paths,
    parse_overrides,
    preset_of,
    read_located,
    with_origin_of_paths,
)
from lt_train.recipe.sections import Recipe


@dataclass(frozen=True)
class Setting:
    """One value of a recipe.

    Attributes:
        key: Dotted key.
        value: Number, text, list or ``None``.
        origin: ``command line``, ``recipe``, ``method NAME`` (and ``, variant NAME`` but for ``equal``) or ``default``.
    """

    key: str
    value: Any
    origin: str


def resolve(
    source: str | Path, overrides: Sequence[str] = (), *, root: Path | None = None
) -> tuple[Recipe, tuple[Setting, ...], tuple[str, ...]]:
    """A recipe, its values with the origin of each in the order of the keys, and what was dropped for its method.

    Args:
        source: Bare name of a shipped recipe, or a path to a YAML file.
        overrides: ``dotted.key=value`` texts.
        root: What relative paths are relative to, see :func:`lt_train.recipe.load.load_noted`.

    Raises:
        RecipeError: As :func:`lt_train.recipe.load.load_recipe`.
    """
    located = read_located(source, root)
    content = located.content
    recipe, notes = make_noted(content, overrides, where=str(source))
    recipe, notes = with_origin_of_paths(recipe, located), (*notes_on_paths(recipe, located), *notes)
    parsed = parse_overrides(overrides)
    said = {key: "recipe" for key, _ in _leaves(chosen_content(content, parsed)[0])}
    for override in parsed:
        said = {key: origin for key, origin in said.items() if not f"{key}.".startswith(f"{override.key}.")}
        said |= {key: "command line" for key, _ in _leaves({override.key: override.value})}
    preset = preset_of(recipe.to_plain())
    filled = dict(_leaves(preset.values))

    def origin(key: str) -> str:
        return said.get(key) or (preset.label if key in filled else "default")

    return recipe, tuple(Setting(key, value, origin(key)) for key, value in _leaves(recipe.to_plain())), notes


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def format_settings(settings: Sequence[Setting]) -> str:
    """A line for each value: key, value, origin."""
    cells = [(setting.key, _as_yaml(setting.value), setting.origin) for setting in settings]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    # a long path is nobody's column
    widths[1] = min(widths[1], max(1, WIDTH - widths[0] - widths[2] - 4))
    return "\n".join(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for key, value, origin in cells)


def format_yaml(recipe: Recipe) -> str:
    """A recipe file with every key, as a run directory holds it."""
    return yaml.safe_dump(recipe.to_plain(), sort_keys=False, allow_unicode=True)


def _as_yaml(value: Any) -> str:
    """The value as a recipe would spell it, on one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("\n...\n").strip()
    )
