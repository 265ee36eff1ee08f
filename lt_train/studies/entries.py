"""Rows of a table and the steps that give them: methods in dependency order, from features where that is the same.

A row's run is ``seed-S/NAME`` in the study's folder. What trains or replaces the classifier of a baseline alone is
trained from its features, which ``seed-S/features`` keeps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final

from lt_data.errors import RecipeError
from lt_train.recipe.load import load_recipe
from lt_train.recipe.methods import METHODS, POST_HOC
from lt_train.recipe.sections import Recipe, has_masks
from lt_train.studies.costs import RESULTS, Cost, Kind, Sizes, feature_bytes
from lt_train.studies.steps import Step

BASELINE: Final = "softmax"
FEATURES: Final = "features"
POOL: Final = 1024
# letters of the name of a step that measures many runs
_SHOWN: Final = 8
# in place of numbers published for LVIS, which leave nothing of these methods on about a thousand images
_SMALL_DATA: Final[Mapping[str, str]] = {
    **dict.fromkeys(("rfs", "rfs-finetune", "irfs"), "sampler.threshold=0.05"),
    **dict.fromkeys(("equalization", "droploss"), "head.threshold=0.05"),
    "federated": "head.classes=12",
}
# what is trained from features: nothing in front of it is
_FROM_FEATURES: Final = ("classifier", "scale")


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        name: Of the row and of the run's folder.
        method: A key of ``METHODS``.
        overrides: ``dotted.key=value`` texts beside the method.
        start: The row whose run it starts from; empty where it starts from the recipe's weights.
        recipe: Its own recipe; empty for that of the study.
        search: For a post-hoc method ``option=FIRST:LAST:STEP``.
    """

    name: str
    method: str
    overrides: tuple[str, ...] = ()
    start: str = ""
    recipe: str = ""
    search: str = ""

    @property
    def how(self) -> str:
        """What is different from the baseline, in one line."""
        searched = [f"search {self.search}"] if self.search else []
        words = (f"method={self.method}", *self.overrides, *searched, *([f"from {self.start}"] if self.start else []))
        return " ".join(words)


@dataclass(frozen=True)
class Setting:
    """What all runs of a study have in common.

    Attributes:
        out: The study's folder, absolute.
        recipe: Shipped name or path.
        overrides: Of every run that is trained.
        images: Training and validation images by recipe, for estimates; nothing where nobody knows.
        sizes: Of what the detector leaves on the disk, for estimates.
        pool: Regions of an image with features.
        exact: Features of all regions in float32.
    """

    out: Path
    recipe: str
    overrides: tuple[str, ...] = ()
    images: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=Sizes)
    pool: int = POOL
    exact: bool = False

    def run(self, name: str, seed: int) -> Path:
        """The run directory of a row."""
        return self.out / f"seed-{seed}" / name

    def images_of(self, entry: Entry | None) -> tuple[int, int]:
        """Training and validation images of a row; zeros where nobody knows."""
        return self.images.get((entry and entry.recipe) or self.recipe, (0, 0))

    def features_of(self, name: str, seed: int) -> Path:
        """The features of a row's run."""
        return self.out / f"seed-{seed}" / (FEATURES if name == BASELINE else f"{FEATURES}-{name}")

    def recipe_of(self, entry: Entry) -> Recipe:
        """What a row does.

        Raises:
            RecipeError: It is no recipe.
        """
        return _recipe(entry.recipe or self.recipe, (f"method={entry.method}", *entry.overrides, *self.overrides))


@cache
def _recipe(source: str, overrides: tuple[str, ...]) -> Recipe:
    return load_recipe(source, overrides)


def entry_of(method: str, *, baseline: str = BASELINE) -> Entry:
    """The row of a method as it is.

    Args:
        method: A key of ``METHODS``.
        baseline: The row that second stages start from.
    """
    if not METHODS[method].starts_from_run:
        return Entry(method, method)
    # what tunes a classifier further names the method that has trained it
    named = [other for other in METHODS if METHODS[method].needs.endswith(f"of {other}")]
    return Entry(method, method, start=named[0] if named else baseline)


def small_data_entry(method: str) -> Entry:
    """The row of a method on a data set of about a thousand images: as it is, but for thresholds that are of LVIS.

    Args:
        method: A key of ``METHODS``.
    """
    entry = entry_of(method)
    return replace(entry, overrides=(_SMALL_DATA[method],)) if method in _SMALL_DATA else entry


def chosen(plan: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """The rows of these names, and those that they start from, in the order of the plan; all without names.

    Raises:
        RecipeError: There is no such row.
    """
    by_name = {entry.name: entry for entry in plan}
    if unknown := [name for name in names if name not in by_name]:
        raise RecipeError(f"no such row: {', '.join(unknown)}; there are {', '.join(by_name)}")
    wanted, left = set(), list(names or by_name)
    while left:
        entry = by_name[left.pop()]
        if entry.name not in wanted:
            wanted.add(entry.name)
            left += [entry.start] if entry.start else []
    return in_dependency_order([entry for entry in plan if entry.name in wanted])


def in_dependency_order(entries: Sequence[Entry]) -> list[Entry]:
    """The same rows, each after the one that it starts from, else in their order."""
    left, found = list(entries), list[Entry]()
    while left:
        there = {entry.name for entry in left}
        ready = next(entry for entry in left if entry.start not in there)
        found.append(ready)
        left.remove(ready)
    return found


def steps_of(
    setting: Setting, entries: Sequence[Entry], seeds: Iterable[int], before: Sequence[Step] = ()
) -> list[Step]:
    """The steps of some rows: every row for the first seed, then for the next ones.

    A plan that is cut short has all rows once.

    Args:
        setting: Of the study.
        entries: Each after the one that it starts from.
        seeds: Whose runs come first.
        before: Steps that all of them need, such as those that make the data.
    """
    found = list(before)
    needed = tuple(step.name for step in before)
    for seed in seeds:
        used: dict[str, list[Entry]] = {}
        for entry in entries:
            source = entry.start if entry.start and _takes_features(setting, entry, entries) else ""
            if source and source not in used:
                used[source] = []
                needs = (f"seed-{seed}/{source}",)
                found += feature_steps(
                    setting,
                    setting.run(source, seed),
                    setting.features_of(source, seed),
                    needs=needs,
                    images=setting.images_of(entry),
                    stages=setting.recipe_of(entry).model.stages,
                )
            found.append(_row_step(setting, entry, seed, source, needed))
            if source:
                used[source].append(entry)
        for source, of_source in used.items():
            runs = [setting.run(entry.name, seed) for entry in of_source if has_masks(setting.recipe_of(entry))]
            images = setting.images_of(of_source[0])
            found += masks_steps(setting, setting.features_of(source, seed), runs, images=images)
    return found


def _takes_features(setting: Setting, entry: Entry, entries: Sequence[Entry]) -> bool:
    """Whether a row is the same from features of the run that it starts from, and these are worth their room."""
    start = next((other for other in entries if other.name == entry.start), None)
    same_detector = start is None or (start.recipe or setting.recipe) == (entry.recipe or setting.recipe)
    return same_detector and from_features(setting.recipe_of(entry))


def from_features(recipe: Recipe) -> bool:
    """Whether features of the run that it starts from give the same run.

    Args:
        recipe: Of the run.
    """
    # features are of one version of an image and its mirror
    if len(recipe.model.short_sides) > 1 or recipe.data.augment.is_on:
        return False
    if recipe.calibration.name != "none":
        return getattr(recipe.calibration, "features", "fc") != "conv"
    return recipe.train in _FROM_FEATURES and recipe.second_head.kind == "none"


def feature_steps(
    setting: Setting,
    run: Path,
    out: Path,
    *,
    needs: tuple[str, ...] = (),
    images: tuple[int, int] = (0, 0),
    stages: int = 1,
) -> list[Step]:
    """The steps that keep the region features of a run.

    Args:
        setting: Of the study.
        run: Whose.
        out: What ``lt-train cache --out`` is given.
        needs: Steps that come before.
        images: Training and validation images, for estimates.
        stages: Of the detector, likewise.
    """
    train, val = images
    width = ("--exact",) if setting.exact else ()
    pool = () if setting.exact or setting.pool == POOL else ("--pool", str(setting.pool))
    words = ("lt-train", "cache", str(run), "--out", str(out))
    kept, sizes = None if setting.exact else setting.pool, setting.sizes
    numbers = {"features": sizes.features, "stages": stages}
    of_train = feature_bytes(train, versions=2, pool=kept, candidates=sizes.train_regions, **numbers)
    all_of_val = None if setting.exact else sizes.val_regions
    of_val = feature_bytes(val, versions=1, pool=all_of_val, candidates=sizes.val_regions, **numbers)
    name, manifest = str(out.relative_to(setting.out)), "manifest.json"
    making = Cost((("make features", 2 * train),), of_train), Cost((("make features", val),), of_val)
    made = (
        Step(f"{name}/train", (*words, *width, *pool), out / "train" / manifest, needs, making[0]),
        Step(f"{name}/val", (*words, "--for", "val", *width), out / "val" / manifest, needs, making[1]),
    )
    # they are by far the largest, and may be removed when the runs are there
    return [replace(step, for_others=True) for step in made]


def _row_step(setting: Setting, entry: Entry, seed: int, source: str, needed: tuple[str, ...]) -> Step:
    run = setting.run(entry.name, seed)
    start = setting.run(entry.start, seed) if entry.start else None
    features: Path | None = None
    needs = (*needed, *([f"seed-{seed}/{entry.start}"] if entry.start else []))
    if source:
        features = setting.features_of(source, seed)
        name = features.relative_to(setting.out)
        needs = (*needs, f"{name}/train", f"{name}/val")
    return run_step(setting, entry, run, start=start, features=features, seed=seed, needs=needs)


def run_step(
    setting: Setting,
    entry: Entry,
    run: Path,
    *,
    start: Path | None,
    features: Path | None,
    seed: int,
    needs: tuple[str, ...],
) -> Step:
    """The step of one run: training or fitting it; features give its boxes alone, see :func:`masks_steps`.

    Args:
        setting: Of the study.
        entry: The row.
        run: Its run directory.
        start: The run that it starts from.
        features: Of that run, if they are used.
        seed: Of the run.
        needs: Steps that come before.
    """
    known = ("--from-features", str(features)) if features else ()
    recipe = setting.recipe_of(entry)
    if entry.method in POST_HOC:
        searched = ("--search", entry.search, "--on", "val") if entry.search else ()
        words: tuple[str, ...] = ("lt-train", "calibrate", str(start), *entry.overrides, "--method", entry.method)
        words += (*searched, "--out", str(run), "--force", *known)
    else:
        words = ("lt-train", "fit", entry.recipe or setting.recipe, f"method={entry.method}", *entry.overrides)
        words += (*setting.overrides, f"seed={seed}", "--out", str(run), "--resume", "auto")
        words += (*(("--init-from", str(start)) if start else ()), *known)
    name, metrics = str(run.relative_to(setting.out)), _metrics_of(run)
    return Step(name, words, metrics, needs, _cost(setting, entry, recipe, features is not None))


def masks_steps(
    setting: Setting, features: Path, runs: Sequence[Path], *, images: tuple[int, int] = (0, 0)
) -> list[Step]:
    """The step that measures masks of runs from the same features, in one pass over the images; none without runs.

    It is named after the runs: with other ones it is another step, which leaves out what is measured.

    Args:
        setting: Of the study.
        features: Of what they start from.
        runs: Their run directories, of detectors with masks.
        images: Training and validation images, for estimates.
    """
    if not runs:
        return []
    val, names = images[1], [str(run.relative_to(setting.out)) for run in runs]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:_SHOWN]
    known = features.relative_to(setting.out)
    words = ("lt-train", "eval", *map(str, runs), "--from-features", str(features), "--missing")
    # every image goes through the trunk once, and its detections through the mask branch once for each run
    cost = Cost((("evaluate from features", val * len(runs)), ("evaluate", val)), RESULTS * val * len(runs))
    name, needs = str(known.with_name(f"masks-{digest}")), (f"{known}/val",)
    return [Step(name, words, _metrics_of(runs[0]), needs, cost, gathers=tuple(names))]


def _metrics_of(run: Path) -> Path:
    return run / "eval" / "metrics.json"


def _cost(setting: Setting, entry: Entry, recipe: Recipe, from_features: bool) -> Cost:
    train, val = setting.images_of(entry)
    schedule = recipe.schedule
    batch = recipe.optim.batch * recipe.optim.accumulate
    a_pass = train
    if recipe.sampler.name == "bi-level" and schedule.epoch == "sampler":
        # its pass has steps of its own, whatever the data
        a_pass = recipe.sampler.steps * batch
    seen = schedule.iterations * batch if schedule.iterations else round((schedule.epochs or 0) * a_pass)
    trains = recipe.calibration.name == "none"
    training: Kind = "train from features" if from_features else "train"
    evaluating: Kind = "evaluate from features" if from_features else "evaluate"
    images: tuple[tuple[Kind, int], ...] = ((evaluating, val * _values(entry.search)),)
    if trains:
        images = ((training, seen), *images)
    whole = trains and recipe.train not in _FROM_FEATURES
    return Cost(images, RESULTS * val + (setting.sizes.network if whole else setting.sizes.classifier))


def _values(search: str) -> int:
    """How many values a search looks at, and once more the best of them; without one the only evaluation."""
    if not search:
        return 1
    first, last, step = (float(number) for number in search.partition("=")[2].split(":"))
    return round((last - first) / step) + 2


def renamed(entry: Entry, suffix: str, *overrides: str) -> Entry:
    """A row like another one with more overrides."""
    return replace(entry, name=f"{entry.name}{suffix}", overrides=(*entry.overrides, *overrides))
