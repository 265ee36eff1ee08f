"""The tables of the literature in one command, on real data sets, on real photographs or on a drawn pool.

``paper_study`` is for COCO-LT and LVIS, ``groceries_study`` for photographs that everybody can clone, ``demo_study``
for a pool that is drawn: each gives the steps and the table that comes of them. Nothing is run here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lt_data.dataset.names import ANNOTATIONS
from lt_data.errors import DataError
from lt_train.recipe.sections import Files, TrainFiles
from lt_train.studies import demo, groceries
from lt_train.studies.costs import Cost
from lt_train.studies.demo import DemoSize
from lt_train.studies.entries import BASELINE, POOL, Entry, Setting, chosen, steps_of
from lt_train.studies.paper import RECIPES, Dataset, PaperRow
from lt_train.studies.steps import Step
from lt_train.studies.study import Cell, Study

# training images with annotations, and validation images
IMAGES: Final[Mapping[str, tuple[int, int]]] = {
    "coco_lt": (9_100, 5_000),
    "lvis_v0.5": (56_740, 5_000),
    "lvis_v1": (99_388, 19_809),
}
COCO_POOL: Final = Path("data/coco/annotations/instances_train2017.json")
COCO_LT: Final = Path("data/coco_lt")


def paper_study(
    dataset: Dataset,
    rows: Sequence[PaperRow],
    out: Path,
    *,
    recipe: str = "",
    seeds: int = 1,
    overrides: Sequence[str] = (),
    pool: int = POOL,
) -> Study:
    """The study of a published data set, whose files lie where the shipped recipes expect them.

    Args:
        dataset: ``coco-lt``, ``lvis-v0.5`` or ``lvis-v1``.
        rows: Of :func:`lt_train.studies.paper.choose_rows`.
        out: The study's folder.
        recipe: Of rows that name none; that of the data set's main table unless given.
        seeds: How many: 0, 1, ...
        overrides: ``dotted.key=value`` texts of every run that is trained.
        pool: Regions of a training image with features.
    """
    entries, recipe = [row.entry for row in rows], recipe or RECIPES[dataset]
    recipes = {recipe, *(entry.recipe for entry in entries if entry.recipe)}
    images = {name: of for name in recipes for end, of in IMAGES.items() if name.endswith(end)}
    setting = Setting(out.resolve(), recipe, tuple(overrides), images=images, pool=pool)
    before = _coco_lt_steps(setting) if any(name.endswith("coco_lt") for name in recipes) else []
    return _study(setting, entries, seeds, before)


def _coco_lt_steps(setting: Setting) -> list[Step]:
    """Building COCO-LT where it is not there yet and its recipe expects it."""
    if (COCO_LT / ANNOTATIONS).is_file() or not _uses(setting, COCO_LT):
        return []
    words = ("lt-data", "build-coco-lt", "--coco", str(COCO_POOL), "--out", str(COCO_LT), "--force")
    return [Step("coco-lt", words, COCO_LT / ANNOTATIONS, cost=Cost(size=2e7), whole=True)]


def _uses(setting: Setting, path: Path) -> bool:
    """Whether the annotations of the study's recipe are at a path; overrides may have them elsewhere."""
    train = setting.recipe_of(Entry(BASELINE, "softmax")).data.train
    return train is not None and Path(train.annotations) == path


def missing_files(study_setting: Setting, entries: Sequence[Entry], built: bool) -> list[str]:
    """A line for each file or folder that runs need and that is not there.

    Args:
        study_setting: What the runs have in common.
        entries: The rows.
        built: Whether COCO-LT is made by a step, from its pool.
    """
    wanted: dict[Path, str] = {}
    for entry in entries:
        data = study_setting.recipe_of(entry).data
        for part, files in (("train", data.train), ("val", data.val)):
            for what, path in _named(files):
                wanted.setdefault(path, f"data.{part}.{what} of {entry.recipe or study_setting.recipe}")
    if built:
        del wanted[COCO_LT]
        wanted[COCO_POOL] = "what COCO-LT is built from"
    return [
        f"{path}: is not there ({what}); put it there, or link to it"
        for path, what in wanted.items()
        if not path.exists()
    ]


def _named(files: Files | None) -> list[tuple[str, Path]]:
    if files is None:
        return []
    stuff = [("stuff", Path(files.stuff))] if isinstance(files, TrainFiles) and files.stuff is not None else []
    return [("annotations", Path(files.annotations)), ("images", Path(files.images)), *stuff]


def check_files(recipe: str, rows: Sequence[PaperRow], study: Study, overrides: Sequence[str]) -> None:
    """Refuses to begin without the data.

    Args:
        recipe: Of rows that name none.
        rows: What is going to be run.
        study: Its plan.
        overrides: ``dotted.key=value`` texts of every run that is trained.

    Raises:
        DataError: A line for each file that is missing.
    """
    setting = Setting(study.out, recipe, tuple(overrides))
    built = any(step.name == "coco-lt" for step in study.steps)
    if problems := missing_files(setting, [row.entry for row in rows], built):
        raise DataError(problems)


def demo_study(
    out: Path, *, methods: Sequence[str] = (), seeds: int = 1, size: DemoSize = demo.FULL, overrides: Sequence[str] = ()
) -> Study:
    """The study of a drawn pool.

    Args:
        out: The study's folder.
        methods: Rows; all unless given.
        seeds: How many: 0, 1, ...; the data are the same.
        size: How much is drawn and trained.
        overrides: ``dotted.key=value`` texts of every run.

    Raises:
        RecipeError: There is no such row.
    """
    setting = demo.setting_of(out.resolve(), size, overrides)
    return _study(setting, chosen(demo.entries(), methods), seeds, demo.data_steps(setting.out, size), compared=True)


def groceries_study(
    data: groceries.GroceriesLT,
    out: Path,
    *,
    methods: Sequence[str] = (),
    seeds: int = 3,
    overrides: Sequence[str] = (),
    recipe: str = groceries.RECIPE,
) -> Study:
    """The study of real photographs.

    Args:
        data: Of :func:`lt_train.studies.groceries.prepare`.
        out: The study's folder.
        methods: Rows; all unless given.
        seeds: How many: 0, 1, ...
        overrides: ``dotted.key=value`` texts of every run.
        recipe: Shipped name or path.

    Raises:
        RecipeError: There is no such row.
    """
    images = {recipe: (groceries.EXPECTED_IMAGES["training"], groceries.EXPECTED_IMAGES["validation"])}
    setting = Setting(out.resolve(), recipe, (*data.overrides(), *overrides), images=images, sizes=groceries.SIZES)
    return _study(setting, chosen(groceries.entries(), methods), seeds, [], compared=True)


def _study(
    setting: Setting, entries: Sequence[Entry], seeds: int, before: Sequence[Step], *, compared: bool = False
) -> Study:
    steps = steps_of(setting, entries, range(seeds), before)
    cells = []
    for seed in range(seeds):
        for entry in entries:
            own, recipe = (f"seed-{seed}/{entry.name}",), entry.recipe or setting.recipe
            cells.append(Cell(entry.name, entry.how, recipe, seed, setting.run(entry.name, seed), own))
    return Study(setting.out, tuple(steps), tuple(cells), BASELINE, compared)
