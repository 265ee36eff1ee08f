"""What a run that goes on began with, known before its data is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_data.errors import RecipeError
from lt_train.data.sampler_options import RepeatFactorSampler
from lt_train.recipe.load import resolved_recipe
from lt_train.recipe.sections import Recipe
from lt_train.recipe.step_sections import AUTO_BATCH
from lt_train.runs.checkpoint import gone_back_note, load_newest, load_older
from lt_train.runs.directory import RunDir


@dataclass(frozen=True)
class Begun:
    """The newest whole checkpoint of a run.

    Attributes:
        content: What it holds.
        path: Where it lies.
        notes: Why it is not ``last``, if so.
        recipe: The recipe in it with the defaults of keys that an older version did not have; ``None`` where this
            version cannot read it.
    """

    content: Mapping[str, Any]
    path: Path
    notes: tuple[str, ...]
    recipe: Recipe | None

    @property
    def plain(self) -> Mapping[str, Any]:
        """The recipe as it is compared with another one."""
        found: Mapping[str, Any] = self.content["recipe"]
        # another version's: the differences say which keys
        return found if self.recipe is None else self.recipe.to_plain()


def read_begun(run: RunDir) -> Begun:
    """Reads the newest whole checkpoint of a run.

    Raises:
        DataError: None is whole.
    """
    content, path, notes = load_newest(run.last, (run.previous, run.best))
    return _begun(content, path, notes)


def read_older(run: RunDir, begun: Begun, why: str) -> list[Begun]:
    """Reads the other whole checkpoints of a run, for where one that can be read cannot be gone on from.

    Args:
        run: The run.
        begun: That one.
        why: What is wrong with it.

    Returns:
        The newest first.
    """
    whole, _ = load_older(path for path in (run.previous, run.best) if path != begun.path)
    return [_begun(content, path, [*begun.notes, gone_back_note(why, content, path)]) for content, path in whole]


def _begun(content: Mapping[str, Any], path: Path, notes: Sequence[str]) -> Begun:
    try:
        recipe = resolved_recipe(content["recipe"])
    except RecipeError:
        recipe = None
    return Begun(content, path, tuple(notes), recipe)


def as_begun(recipe: Recipe, begun: Begun) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe to go on with: what it leaves open is as the run began.

    Recipes of older versions had numbers where they leave warm-up, groups and repeat factors open now.

    Args:
        recipe: What was asked for.
        begun: The run.

    Returns:
        The recipe, and a note for each value that it takes from the run.
    """
    if begun.recipe is None:
        return recipe, ()
    update: dict[str, Any] = {}
    notes: list[str] = []
    for section, key in _left_open(recipe):
        value = getattr(getattr(begun.recipe, section), key, None)
        if value not in (None, "auto"):
            now = update.get(section, getattr(recipe, section))
            update[section] = now.model_copy(update={key: value})
            shown = list(value) if isinstance(value, tuple) else value
            notes.append(f"note: goes on with {section}.{key}={shown}, with which the run began")
    return recipe.model_copy(update=update), tuple(notes)


def _left_open(recipe: Recipe) -> list[tuple[str, str]]:
    """Section and name of the keys to which a recipe gives no value, of those that follow the data or the run."""
    keys = []
    if recipe.schedule.warmup == "auto":
        keys.append(("schedule", "warmup"))
    if recipe.optim.batch == AUTO_BATCH:
        keys.append(("optim", "batch"))
    if recipe.data.groups is None:
        keys.append(("data", "groups"))
    sampler = recipe.sampler
    if isinstance(sampler, RepeatFactorSampler) and sampler.threshold is None and sampler.factors is None:
        keys += [("sampler", "threshold"), ("sampler", "factors")]
    return keys
