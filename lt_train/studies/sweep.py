"""Many methods from one trained run: its features are kept once, every method is trained from them with several seeds.

Read :func:`plan_sweep` first. The seeds are those of the second stage: all start from the same run, so that a spread
says what the training of the classifier does, and nothing of how another baseline would have come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from lt_data.errors import DataError, OutputError, RecipeError
from lt_train.options.errors import close_names
from lt_train.recipe.load import load_recipe
from lt_train.recipe.methods import METHODS, POST_HOC
from lt_train.recipe.sections import has_masks
from lt_train.studies.entries import (
    BASELINE,
    FEATURES,
    POOL,
    Entry,
    Setting,
    entry_of,
    feature_steps,
    from_features,
    in_dependency_order,
    masks_steps,
    renamed,
    run_step,
)
from lt_train.studies.steps import Step
from lt_train.studies.study import Cell, Study

# words that stand for several methods
CLASSIFIER_ONLY: Final = "classifier-only"
POST_HOC_METHODS: Final = "post-hoc"
RECIPE: Final = "recipe.yaml"
# sections that a method without training looks at
_OF_POST_HOC: Final = ("calibration", "model", "variant")


@dataclass(frozen=True)
class Grid:
    """A key and the values that it takes in turn."""

    key: str
    values: tuple[str, ...]


def parse_grid(text: str) -> Grid:
    """A key and values such as ``head.others_ratio=1,4,8``; a value may be a list in brackets.

    Raises:
        RecipeError: It is none.
    """
    key, _, rest = text.partition("=")
    values = tuple(value.strip() for value in _parts(rest))
    if not key.strip() or not all(values):
        raise RecipeError(f"--grid: got '{text}'; write KEY=VALUE,VALUE, such as head.others_ratio=1,4,8")
    return Grid(key.strip(), values)


def _parts(text: str) -> list[str]:
    """A text at its commas outside of brackets."""
    found, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return found


def plan_sweep(
    run: Path,
    out: Path,
    methods: Sequence[str],
    *,
    seeds: int = 3,
    grid: Sequence[Grid] = (),
    overrides: Sequence[str] = (),
    pool: int = POOL,
    exact: bool = False,
) -> Study:
    """The steps of a sweep: features of the run, the run itself measured from them, every method and seed.

    Args:
        run: The trained run directory that all start from.
        out: The study's folder.
        methods: Keys of ``METHODS``, ``classifier-only`` or ``post-hoc``.
        seeds: How many: 0, 1, ...; a method without training is fitted once.
        grid: Keys that take several values, for the methods that have them.
        overrides: ``dotted.key=value`` texts of every method that is trained.
        pool: Regions of a training image with features.
        exact: Features of all regions in float32.

    Raises:
        DataError: ``run`` is no trained run.
        OutputError: ``out`` lies in the run.
        RecipeError: There is no such method, it does not start from a run, or a key belongs to none of them.
    """
    run, out = run.resolve(), out.resolve()
    if not (run / RECIPE).is_file() or not any(run.glob("checkpoints/last.pt")):
        raise DataError(f"{run}: not a trained run (no {RECIPE} and checkpoints/last.pt); give one of lt-train fit")
    if out.is_relative_to(run):
        raise OutputError(f"{out}: lies in the run that the sweep starts from; choose another --out")
    setting = Setting(out, str(run / RECIPE), tuple(overrides), pool=pool, exact=exact)
    trained = load_recipe(setting.recipe)
    baseline = trained.method or "baseline"
    entries = sweep_entries(setting, methods, grid)
    features = out / FEATURES
    steps = feature_steps(setting, run, features, stages=trained.model.stages)
    needs = tuple(step.name for step in steps)
    measured = out / "baseline"
    words = ("lt-train", "eval", str(run), "--from-features", str(features), "--out", str(measured), "--force")
    steps.append(Step("baseline", words, measured / "metrics.json", needs))
    cells = [Cell(baseline, f"{run.name}, which all start from", str(run), 0, measured, ("baseline",))]
    with_masks: list[Path] = []
    for seed in range(seeds):
        for entry in entries:
            # nothing of a method without training depends on a seed: it is the same run's every time
            if seed == 0 or entry.method not in POST_HOC:
                step = _step_of(setting, entry, entries, run, features, seed, needs)
                steps.append(step)
                path = setting.run(entry.name, seed)
                cells.append(Cell(entry.name, entry.how, setting.recipe, seed, path, (step.name,)))
                if "--from-features" in step.words and has_masks(setting.recipe_of(entry)):
                    with_masks.append(path)
    # seeds start from the same run too: the trunk sees an image once for all of them
    steps += masks_steps(setting, features, with_masks)
    return Study(out, tuple(steps), tuple(cells), baseline)


def _step_of(
    setting: Setting,
    entry: Entry,
    entries: Sequence[Entry],
    run: Path,
    features: Path,
    seed: int,
    needs: tuple[str, ...],
) -> Step:
    other = entry.start in {row.name for row in entries}
    start = setting.run(entry.start, seed) if other else run
    known = features if not other and from_features(setting.recipe_of(entry)) else None
    first = (f"seed-{seed}/{entry.start}",) if other else ()
    return run_step(
        setting,
        entry,
        setting.run(entry.name, seed),
        start=start,
        features=known,
        seed=seed,
        needs=(*first, *(needs if known else ())),
    )


def sweep_entries(setting: Setting, methods: Sequence[str], grid: Sequence[Grid]) -> list[Entry]:
    """The rows of a sweep, in dependency order.

    Raises:
        RecipeError: See :func:`plan_sweep`.
    """
    names = list(dict.fromkeys(name for word in methods for name in _methods_of(setting, word)))
    if not names:
        raise RecipeError("--methods: names none; give classifier-only, post-hoc, or names of lt-train methods")
    entries = [cell for name in names for cell in _cells(setting, entry_of(name), grid)]
    there = {entry.name for entry in entries}
    # what goes on from another method's run brings it along, as it is
    starts = dict.fromkeys(entry.start for entry in entries if entry.start != BASELINE and entry.start not in there)
    entries += [entry_of(start) for start in starts]
    for one in grid:
        if not any(f"{one.key}={value}" in entry.overrides for entry in entries for value in one.values):
            # the reason is the first method's
            setting.recipe_of(renamed(entry_of(names[0]), "", f"{one.key}={one.values[0]}"))
            raise RecipeError(f"--grid {one.key}: none of {', '.join(names)} is trained with it")
    return in_dependency_order(entries)


def _methods_of(setting: Setting, word: str) -> list[str]:
    if word == POST_HOC_METHODS:
        return list(POST_HOC)
    if word == CLASSIFIER_ONLY:
        only = [name for name, method in METHODS.items() if method.kind == "classifier only"]
        return [name for name in only if from_features(setting.recipe_of(entry_of(name)))]
    if word not in METHODS:
        close = close_names(word, METHODS)
        raise RecipeError(
            f"--methods: got '{word}'; "
            + (f"close are {', '.join(close)}; " if close else "")
            + "allowed are classifier-only, post-hoc and the names of lt-train methods"
        )
    if not METHODS[word].starts_from_run:
        raise RecipeError(
            f"--methods: {word} trains the whole network and starts from no run; train it with lt-train fit, or take "
            "lt-train reproduce, which trains every method"
        )
    return [word]


def _cells(setting: Setting, entry: Entry, grid: Sequence[Grid]) -> list[Entry]:
    """The rows of a method: one for each combination of the values of the keys that it has."""
    own = [one for one in grid if _has(setting, entry, one)]
    return [
        renamed(entry, _suffix(values), *(f"{key}={value}" for key, value in values))
        for values in product(*([(one.key, value) for value in one.values] for one in own))
    ]


def _suffix(values: Sequence[tuple[str, str]]) -> str:
    named = (f"-{key.rpartition('.')[2]}={value}" for key, value in values)
    return "".join(named).replace("/", "-").replace(" ", "")


def _has(setting: Setting, entry: Entry, one: Grid) -> bool:
    """Whether a key is one of a method's.

    Raises:
        RecipeError: It is, and a value is not allowed.
    """
    if entry.method in POST_HOC and one.key.partition(".")[0] not in _OF_POST_HOC:
        return False
    wrong = []
    for value in one.values:
        try:
            setting.recipe_of(renamed(entry, "", f"{one.key}={value}"))
        except RecipeError as error:
            wrong.append(error)
    if 0 < len(wrong) < len(one.values):
        raise wrong[0]
    return not wrong
