"""The paths of a recipe: what they are relative to, and what a run notes of them.

In a recipe file of one's own a relative path is relative to that file. In shipped recipes and in overrides it is
relative to the working directory; ``--root DIR`` takes the place of either, but for overrides. A run keeps absolute
paths, and beside them what was written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from lt_data.errors import DataError, RecipeError
from lt_data.groups import are_edges
from lt_train.recipe.sections import Recipe, WrittenPath

VAL_PATHS: Final = ("data.val.annotations", "data.val.images")
# what is read at the start of every run
READ_KEYS: Final = (
    *("data.train.annotations", "data.train.images", "data.train.stuff"),
    *(*VAL_PATHS, "data.groups", "sampler.factors"),
)
PATH_KEYS: Final = (*READ_KEYS, "model.weights")
# weights that are no file
_NAMED_WEIGHTS: Final = ("none", "imagenet", "coco")
WORKING_DIRECTORY: Final = "the working directory"


class Located(NamedTuple):
    """The content of a recipe file with paths that can be opened from the working directory.

    Attributes:
        content: The content.
        written: What the file has in the place of each path that was changed, by key.
        notes: A line for each path that was not where it is looked for first, by key.
    """

    content: dict[str, Any]
    written: dict[str, WrittenPath]
    notes: dict[str, str]


def locate(content: Mapping[str, Any], folder: Path, base: str, *, strict: bool = False) -> Located:
    """Relative paths of a recipe file, joined to the folder that they are relative to.

    A path that is not there, but is below the working directory, is taken from there: files that were written before
    paths were relative to them go on working.

    Args:
        content: A recipe, before overrides.
        folder: What paths are relative to.
        base: How messages call it.
        strict: Whether the folder was asked for, so that nothing is looked for elsewhere.
    """
    written: dict[str, WrittenPath] = {}
    notes: dict[str, str] = {}

    def join(key: str, text: str) -> str:
        joined = os.path.join(folder, text)
        if os.path.isabs(text):
            return text
        if not strict and not os.path.exists(joined) and os.path.exists(text):
            notes[key] = (
                f"note: {key}: {text} is not beside the recipe ({joined}), so the one in the working directory is "
                f"taken; write it relative to {base}"
            )
            return text
        written[key] = WrittenPath(text, base)
        return joined

    # beside the working directory's files nothing has to be joined
    here = os.path.normpath(folder) == os.curdir
    return Located(dict(content) if here else changed_paths(content, join), written, notes)


def check_root(root: Path) -> Path:
    """The folder of ``--root``.

    Raises:
        RecipeError: It is none.
    """
    if not root.is_dir():
        raise RecipeError(f"--root: {root} is no folder; give the one that the relative paths of the recipe are in")
    return root


def still_written(
    written: Mapping[str, WrittenPath], content: Mapping[str, Any], recipe: Recipe
) -> dict[str, WrittenPath]:
    """What was written in the place of those paths of a recipe that no override has set.

    Args:
        written: By key.
        content: The plain recipe that these are of.
        recipe: What was made of it.
    """
    was, now = dict(paths_in(content)), dict(paths_in(recipe.to_plain()))
    return {key: each for key, each in written.items() if key in now and Path(now[key]) == Path(was[key])}


def paths_in(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys and texts of what is a path in a recipe of plain values, checked or not."""
    for key in PATH_KEYS:
        value: Any = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str) and value and _is_path(key, value):
            yield key, value


def _is_path(key: str, text: str) -> bool:
    """Whether a text is no name or list of numbers that the key takes too."""
    if key == "data.groups":
        return not are_edges(text)
    if key == "model.weights":
        # a slip in a name is answered as one
        return text not in _NAMED_WEIGHTS and (os.path.basename(text) != text or "." in text)
    return True


def _with(content: Mapping[str, Any], keys: list[str], value: str) -> dict[str, Any]:
    """A copy of ``content`` with the value at the dotted key, which is there."""
    return {**content, keys[0]: value if len(keys) == 1 else _with(content[keys[0]], keys[1:], value)}


def changed_paths(content: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """A copy of a recipe of plain values with other paths.

    Args:
        content: The recipe.
        change: Key and path to the path.
    """
    changed = dict(content)
    for key, text in paths_in(content):
        changed = _with(changed, key.split("."), change(key, text))
    return changed


def absolute(content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of plain values whose paths lead to the same files from everywhere."""
    return changed_paths(content, lambda _, text: str(Path(text).absolute()))


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """A recipe that means the same from everywhere; it knows what was written (:attr:`Recipe.written`)."""
    plain = recipe.to_plain()
    return Recipe.model_validate(absolute(plain)).with_written({**relative_paths(recipe), **recipe.written})


def relative_paths(recipe: Recipe) -> dict[str, WrittenPath]:
    """The paths of a recipe that are relative to the working directory, by key."""
    paths = paths_in(recipe.to_plain())
    return {key: WrittenPath(text, WORKING_DIRECTORY) for key, text in paths if not os.path.isabs(text)}


def paths_record(recipe: Recipe) -> dict[str, dict[str, str]]:
    """What ``data.json`` has of the paths of a run: as they were written, and where that is."""
    written = recipe.written
    return {
        key: {"written": written[key].text if key in written else text, "path": str(Path(text).absolute())}
        for key, text in paths_in(recipe.to_plain())
    }


def check_paths(recipe: Recipe, keys: Sequence[str] = READ_KEYS) -> None:
    """Refuses relative paths that lead nowhere, and says what they are relative to.

    What is wrong with an absolute path, or with what lies there, is for whoever opens it to say.

    Args:
        recipe: The recipe.
        keys: Those whose paths are going to be opened.

    Raises:
        DataError: There are some: one line each.
    """
    written = recipe.written
    problems = [
        f"{key}: {written[key].text} is relative to {written[key].base}, and {Path(path).absolute()} is not there; "
        "mend the path, or say with --root DIR what relative paths are relative to"
        for key, path in paths_in(recipe.to_plain())
        if key in keys and key in written and not os.path.exists(path)
    ]
    if problems:
        raise DataError(problems)
