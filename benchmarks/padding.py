"""How much of a training batch is padding, at the sizes that images really have.

    python benchmarks/padding.py --annotations instances_train2017.json

Images are resized as Mask R-CNN's recipes do (short side 800, long side at most 1,333 pixels) and put into batches; a
batch is as high and as wide as its largest image, rounded up to a multiple of 32. ``padded`` is the share of a batch's
pixels that belong to no image, ``cost`` the pixels of the batches over those of batches without any padding but that to
32. Batches are drawn from a seed, as many images as ``--images``:

- ``shuffled``: from all images, as lt-train does.
- ``by orientation``: upright images apart from the others, as mmdetection and detectron2 do.
- ``by shape``: from images of neighbouring ratios of sides, which no framework does: the least that grouping can reach.

Writes benchmarks/results/padding.csv, replacing it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from common.record import Table
from numpy.typing import NDArray

from lt_data.annotations.file import read_annotations

RESULTS = Path(__file__).parent / "results" / "padding.csv"
COLUMNS = ("file", "distinct_images", "upright", "batch", "batches_of", "images", "padded", "cost")
SHORT, LONG, MULTIPLE = 800, 1333, 32

Sizes = NDArray[np.int64]


def resized(sizes: Sizes) -> Sizes:
    """Heights and widths [n, 2] that torchvision's detector resizes to."""
    scale = np.minimum(SHORT / sizes.min(axis=1), LONG / sizes.max(axis=1))
    return np.floor(sizes * scale[:, None] + 1e-6).astype(np.int64)


def rounded(sizes: Sizes) -> Sizes:
    """Up to a multiple of 32."""
    return -(-sizes // MULTIPLE) * MULTIPLE


def batches_of(sizes: Sizes, batch: int, key: NDArray[np.float64]) -> Sizes:
    """Images in batches [b, batch, 2]: those of neighbouring keys together."""
    order = np.argsort(key, kind="stable")
    whole = len(order) // batch * batch
    return sizes[order[:whole]].reshape(-1, batch, 2)


def shares(batches: Sizes) -> tuple[float, float]:
    """What is padded, and the cost."""
    taken = rounded(batches.max(axis=1)).prod(axis=1).sum() * batches.shape[1]
    return 1 - batches.prod(axis=2).sum() / taken, taken / rounded(batches).prod(axis=2).sum()


@click.command()
@click.option("--annotations", type=click.Path(exists=True, path_type=Path), required=True, help="A COCO file.")
@click.option("--images", default=100_000, show_default=True, help="How many are drawn.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, show_default=True)
def main(annotations: Path, images: int, out: Path) -> None:
    """Measures and records."""
    file = read_annotations(annotations)
    sizes = resized(file.image_sizes[:, ::-1].astype(np.int64))
    upright = float((sizes[:, 0] > sizes[:, 1]).mean())
    drawn = sizes[np.random.default_rng(0).integers(0, len(sizes), images)]
    ratio = drawn[:, 0] / drawn[:, 1]
    keys: dict[str, Callable[[], NDArray[np.float64]]] = {
        "shuffled": lambda: np.zeros(images),
        "by orientation": lambda: (ratio > 1).astype(float),
        "by shape": lambda: ratio,
    }
    table = Table(out, COLUMNS, "cpu")
    for batch in (2, 8, 16):
        for name, key in keys.items():
            padded, cost = shares(batches_of(drawn, batch, key()))
            table.add(annotations.name, len(sizes), upright, batch, name, images, float(padded), float(cost))


if __name__ == "__main__":
    main()
