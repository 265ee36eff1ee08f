"""The quickstart's drawn pools and training data for benchmarks of several runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from lt_data.build.coco_lt import build_coco_lt
from lt_data.dataset.options import BuildOptions
from lt_data.synthetic.pool import write_pool
from lt_data.terminal import say
from lt_train import quickstart


@dataclass(frozen=True)
class Size:
    """How much is drawn and trained; the quickstart's unless said.

    Attributes:
        pool_images: Of the pool that the training data is built from.
        scale: Of the long tail that is built from it.
        edges: Of its groups.
        val_images: Of the pool that is measured on.
        val_least: Instances of each class there.
        overrides: ``dotted.key=value`` texts of every run.
    """

    pool_images: int = quickstart.POOL_IMAGES
    scale: str = quickstart.SCALE
    edges: tuple[int, ...] = quickstart.EDGES
    val_images: int = quickstart.VAL_IMAGES
    val_least: int = quickstart.VAL_LEAST
    overrides: tuple[str, ...] = ("trackers=[]",)


TINY = Size(
    pool_images=150,
    scale="0.015",
    edges=(3, 8, 25),
    val_images=24,
    val_least=1,
    overrides=("trackers=[]", "schedule.iterations=2", "schedule.decay=[]", "schedule.warmup=0", "log_every=1"),
)


def draw(out: Path, seed: int, size: Size) -> None:
    """Draws the pools of a seed and builds its training data, unless they are there.

    Args:
        out: Folder of the seed; ``pool``, ``val`` and ``data`` in it.
        seed: Of the data.
        size: How much.
    """
    if (out / "data").exists():
        return
    # the data is built last and at once: without it the pools may be half there
    shutil.rmtree(out, ignore_errors=True)
    say(f"seed {seed}: drawing the pools")
    write_pool(
        out / "pool",
        categories=quickstart.CATEGORIES,
        images=size.pool_images,
        exponent=quickstart.POOL_EXPONENT,
        minimum_instances=quickstart.POOL_LEAST,
        instances_per_image=(3, 7),
        seed=seed,
    )
    write_pool(
        out / "val",
        categories=quickstart.CATEGORIES,
        images=size.val_images,
        exponent=0.0,
        minimum_instances=size.val_least,
        instances_per_image=(1, 3),
        seed=seed + quickstart.VAL_SEED_OFFSET,
    )
    options = BuildOptions(seed=seed, scale=size.scale, edges=size.edges)
    build_coco_lt(out / "pool" / "annotations.json", out / "data", options=options)


def keys_of(data: Path) -> list[str]:
    """Keys of a recipe that name what was drawn.

    Args:
        data: The folder that :func:`draw` was given.
    """
    places = {
        "train.annotations": data / "data",
        "train.images": data / "pool" / "images",
        "val.annotations": data / "val" / "annotations.json",
        "val.images": data / "val" / "images",
    }
    return [f"data.{key}={json.dumps(str(place))}" for key, place in places.items()]
