"""The study that needs no download: every method on a drawn pool of 60 classes, with a small detector from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lt_train.recipe.methods import METHODS
from lt_train.studies.costs import Cost, Rates, Sizes
from lt_train.studies.entries import Entry, Setting, in_dependency_order, small_data_entry
from lt_train.studies.steps import Step

RECIPE: Final = "quickstart"
# bounds of the groups: with 4 to 400 instances of a class, each has at least ten of sixty classes
EDGES: Final = (10, 30, 100)
IMBALANCE: Final = "100"
LEAST: Final = 4
# the validation pool must never share an image with the training pool
VAL_SEED: Final = 1_000_000


@dataclass(frozen=True)
class DemoSize:
    """How much is drawn and trained.

    Attributes:
        images: Of the training pool.
        val_images: Of the validation pool, in which every class is equally frequent.
        categories: Of both.
        steps: Of every training.
    """

    images: int = 1060
    val_images: int = 600
    categories: int = 60
    steps: int = 320


FULL: Final = DemoSize()
# a rehearsal: the figures say nothing
TINY: Final = DemoSize(images=60, val_images=20, categories=20, steps=3)
# seconds of the processor per image of the small detector, from a whole run (benchmarks/results/reproduce_demo.csv)
RATES: Final[Rates] = {
    "train": 0.06,
    "train from features": 0.003,
    "make features": 0.021,
    "evaluate": 0.02,
    "evaluate from features": 0.009,
}
SIZES: Final = Sizes(network=4e7, classifier=2e7, train_regions=105, val_regions=100, features=256)


def setting_of(out: Path, size: DemoSize, overrides: Sequence[str]) -> Setting:
    """What all runs of the demo have in common.

    Args:
        out: The study's folder, absolute.
        size: How much is drawn and trained.
        overrides: ``dotted.key=value`` texts of every run.
    """
    own = (
        f"data.train.annotations={out / 'data'}",
        f"data.train.images={out / 'pool' / 'images'}",
        f"data.val.annotations={out / 'val' / 'annotations.json'}",
        f"data.val.images={out / 'val' / 'images'}",
        "model.name=faster_rcnn_small",
        f"schedule.iterations={size.steps}",
        f"schedule.decay=[{size.steps * 4 // 5}]",
        f"schedule.warmup={size.steps // 10}",
        "trackers=[]",
    )
    images = {RECIPE: (size.images, size.val_images)}
    return Setting(out, RECIPE, (*own, *overrides), images=images, sizes=SIZES)


def data_steps(out: Path, size: DemoSize) -> list[Step]:
    """Drawing the two pools and building the long-tailed set.

    Args:
        out: The study's folder, absolute.
        size: How much is drawn.
    """
    draw: tuple[str, ...] = ("lt-data", "demo-pool", "--categories", str(size.categories))
    pool, val, data = out / "pool", out / "val", out / "data"
    least = ("--least", str(LEAST), "--imbalance", IMBALANCE)
    build: tuple[str, ...] = ("lt-data", "build-coco-lt", "--coco", str(pool / "annotations.json"), "--out", str(data))
    edges = ",".join(map(str, EDGES))
    # the pool has the long tail already: its own counts are the targets
    build += ("--reference", f"exp:{IMBALANCE}", "--on-shortage", "cap", "--groups", edges, "--force")
    return [
        Step(
            "pool",
            (*draw, "--images", str(size.images), *least, "--out", str(pool)),
            pool / "annotations.json",
            cost=Cost(size=12_000.0 * size.images),
            whole=True,
        ),
        Step(
            "val",
            (*draw, "--images", str(size.val_images), "--uniform", "--seed", str(VAL_SEED), "--out", str(val)),
            val / "annotations.json",
            cost=Cost(size=12_000.0 * size.val_images),
            whole=True,
        ),
        Step("data", build, data / "build.json", ("pool",), Cost(size=1e6), whole=True),
    ]


def entries() -> list[Entry]:
    """Every method of ``lt-train methods``."""
    return in_dependency_order([small_data_entry(name) for name in METHODS])
