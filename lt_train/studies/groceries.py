"""Groceries-LT: a long-tailed subset of real photographs that everybody can make again from a clone on GitHub.

Whoever runs it clones the photographs and their boxes himself: that repository states no licence, so nothing of it is
part of this project. Source: the repository named by :data:`CLONE`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from lt_data import (
    AnnotationFile,
    BuildOptions,
    DataError,
    build_coco_lt,
    import_annotations,
    read_annotations,
    write_subset,
)
from lt_data.arrays import BoolArray
from lt_data.counts.categories import count_categories
from lt_data.dataset.directory import read_groups
from lt_data.dataset.names import annotations_path, is_dataset_dir
from lt_data.files.writing import write_whole
from lt_data.terminal import Bar, say
from lt_train.recipe.methods import METHODS
from lt_train.studies.costs import Rates, Sizes
from lt_train.studies.entries import BASELINE, Entry, small_data_entry

RECIPE: Final = "faster_rcnn_lite0_groceries_lt"
CLONE = "https://github.com/aleksandar-aleksandrov/groceries-object-detection-dataset"
REFERENCE = "exp:100"
EDGES = (10, 30, 100)
# of the images, by the sha256 of their names
VALIDATION_SHARE = 5
# images and boxes of validation and pool, images, instances and classes of the groups of the training set
EXPECTED = {
    "validation images": 978,
    "validation boxes": 2361,
    "pool images": 3969,
    "training images": 1522,
    "training instances": 3874,
    "classes of the groups": [2, 6, 6, 11],
}
# of them, for estimates
EXPECTED_IMAGES: Final = {"training": 1522, "validation": 978}
# seconds of the processor per image, upper bounds from trials on a busy machine (benchmarks/NOTES.md)
RATES: Final[Rates] = {
    "train": 0.08,
    "train from features": 0.005,
    "make features": 0.04,
    "evaluate": 0.05,
    "evaluate from features": 0.015,
}
# of the small detector: checkpoints, and regions of 256 numbers
SIZES: Final = Sizes(network=6e7, classifier=3e7, features=256)
# bounds of BAGS other than the data's own, which make four groups: the middle one, and seven
_TWO_GROUPS = "head.edges=[30]"
_EIGHT_GROUPS = "head.edges=[10,15,25,40,70,150,300]"
# beside each method as it is; bags-train-cls is BAGS with one other region for each positive
_VARIANTS = (
    Entry("bags-2-groups", "bags", (_TWO_GROUPS,), BASELINE),
    Entry("bags-8-groups", "bags", (_EIGHT_GROUPS,), BASELINE),
    Entry("bags-all-others", "bags", ("head.others_ratio=.inf",), BASELINE),
)
# what a reader wants to know first, then what is cheap, then the rest
_FIRST = (
    *(BASELINE, "bags", "reweight-cls", "focal-cls", "tau-norm-select", "tau-norm", "ncm-fc", "ncm-conv"),
    *("bags-train-cls", "bags-2-groups", "bags-8-groups", "bags-all-others", "rfs", "x2", "class-aware", "reweight"),
)


def entries() -> list[Entry]:
    """Every method and some variants of BAGS, in the order in which they are run."""
    rows = {entry.name: entry for entry in (*map(small_data_entry, METHODS), *_VARIANTS)}
    return [rows[name] for name in (*_FIRST, *(name for name in rows if name not in _FIRST))]


@dataclass(frozen=True)
class GroceriesLT:
    """Where the data lies.

    Attributes:
        train: The dataset directory.
        val: Validation annotations.
        pool: What the training set was chosen from.
        images: The image folder of all of them.
    """

    train: Path
    val: Path
    pool: Path
    images: Path

    def overrides(self) -> list[str]:
        """Keys of a recipe that name these files."""
        files = {"train.annotations": self.train, "val.annotations": self.val}
        files |= {"train.images": self.images, "val.images": self.images}
        return [f"data.{key}={json.dumps(str(path))}" for key, path in files.items()]

    def groups(self) -> list[str]:
        """Names of the groups, the rarest first."""
        return [group.name for group in read_groups(self.train)[1]]


def prepare(clone: Path, out: Path, *, known: bool = True) -> GroceriesLT:
    """Imports, splits and builds what is not there yet.

    Args:
        clone: With ``dataset/annotations`` and ``dataset/images``.
        out: Folder for what is made.
        known: Whether it is the clone that figures are recorded for, whose counts are compared.

    Raises:
        DataError: ``clone`` is none, or has other counts; or its files cannot be read.
        OutputError: The results cannot be written.
    """
    data = places(clone, out)
    annotations, images = data.images.with_name("annotations"), data.images
    everything = out / "all.json"
    if not everything.exists():
        with Bar("importing", "") as progress:
            import_annotations(annotations, everything, "voc", images=images, progress=progress)
    if not (data.val.exists() and data.pool.exists()):
        _split(everything, data)
    if not is_dataset_dir(data.train):
        options = BuildOptions(edges=EDGES, on_shortage="cap")
        build_coco_lt(data.pool, data.train, reference=REFERENCE, options=options)
    found = counts_of(data)
    say(", ".join(f"{key} {value}" for key, value in found.items()))
    if known and found != EXPECTED:
        other = [key for key in EXPECTED if found[key] != EXPECTED[key]]
        differ = ", ".join(f"{key} {found[key]} instead of {EXPECTED[key]}" for key in other)
        raise DataError(
            f"{clone}: not the data that figures are recorded for ({differ}); remove {out} and take the clone as it "
            "was made, or give --other-data"
        )
    return data


def places(clone: Path, out: Path) -> GroceriesLT:
    """Where the data are or are going to be.

    Args:
        clone: With ``dataset/annotations`` and ``dataset/images``.
        out: Folder for what is made.

    Raises:
        DataError: ``clone`` is none.
    """
    annotations, images = (clone.resolve() / "dataset" / name for name in ("annotations", "images"))
    if not annotations.is_dir() or not images.is_dir():
        raise DataError(f"{clone}: no dataset/annotations and dataset/images in it; git clone {CLONE}")
    return GroceriesLT(out / "groceries_lt", out / "val.json", out / "pool.json", images)


def is_validation(name: str) -> bool:
    """Whether an image is for validation: every fifth by the sha256 of its name.

    Args:
        name: Relative to the image folder, with ``/``.
    """
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % VALIDATION_SHARE == 0


def _split(everything: Path, data: GroceriesLT) -> None:
    file = read_annotations(everything)
    held_out = np.array([is_validation(name) for name in file.file_names])
    for path, images in ((data.val, held_out), (data.pool, ~held_out)):
        annotations = np.isin(file.annotation_image_ids, file.image_ids[images])
        write_whole(path, partial(_write, file, images, annotations))


def _write(file: AnnotationFile, images: BoolArray, annotations: BoolArray, path: Path) -> None:
    write_subset(file, path, images=images, annotations=annotations)


def counts_of(data: GroceriesLT) -> dict[str, object]:
    """The counts of :data:`EXPECTED`."""
    val, pool = read_annotations(data.val), read_annotations(data.pool)
    train = read_annotations(annotations_path(data.train))
    return {
        "validation images": len(val.image_ids),
        "validation boxes": len(val.annotation_ids),
        "pool images": len(pool.image_ids),
        "training images": len(train.image_ids),
        "training instances": int(count_categories(train).instances.sum()),
        "classes of the groups": [len(group.category_ids) for group in read_groups(data.train)[1]],
    }
