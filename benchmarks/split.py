"""Splits for training and validation against random ones and the package iterative-stratification.

    pip install iterative-stratification
    python benchmarks/split.py --data FOLDER [--coco instances_train2017.json] [--seeds 10]

FOLDER holds the real data that the tests use. A fifth of the images goes to validation. Every contestant gets the same
images, asked for by ten seeds (large sets: two); the figures are means over the seeds, and the worst seed for classes:

- classes_both: categories with images on both sides, of those that two images or more hold (``possible``);
- image_share_off, instance_share_off: how far the validation share of a category's images (instances) is from a fifth,
  mean over these categories, in points of a hundred;
- images_off: how far the number of validation images is from a fifth;
- seconds: CPU time of choosing, without reading the file.

The package is not asked for a set of more than 20 million images x categories (LVIS): it sums that
table once a category, and would run for minutes.

Writes benchmarks/results/split.csv; rows of a set that is not measured stay.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
import numpy as np
from common.record import machine, read_rows, record

from lt_data.annotations.file import AnnotationFile, read_annotations
from lt_data.counts.categories import category_image_pairs
from lt_data.splitting.labels import find_labels
from lt_data.splitting.options import SplitOptions
from lt_data.splitting.split import wanted_images
from lt_data.splitting.stratify import stratify
from lt_data.splitting.units import find_units

RESULTS = Path(__file__).parent / "results" / "split.csv"
COLUMNS = (
    *("date", "machine", "set", "images", "contestant", "seeds", "possible", "classes_both", "classes_both_worst"),
    *("image_share_off", "instance_share_off", "images_off", "seconds"),
)
SHARE = 0.2
LARGE = 10_000
SEEDS_OF_LARGE = 2
# images x categories, beyond which the package is not asked
MOST_CELLS = 20_000_000
Chooser = Callable[[int], np.ndarray]


def ours(file: AnnotationFile, seed: int) -> np.ndarray:
    """Validation images, [N]."""
    units = find_units(file, None)
    sizes = wanted_images(len(file.image_ids), SplitOptions(val=SHARE))
    sides = stratify(find_labels(file, units.of_image), sizes, seed=seed, first_trains=True)
    return np.array(sides)[units.of_image] == 1


def by_chance(file: AnnotationFile, seed: int) -> np.ndarray:
    """The same of a permutation."""
    count = len(file.image_ids)
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).permutation(count)[: round(SHARE * count)]] = True
    return chosen


def by_the_package(labels: np.ndarray, seed: int) -> np.ndarray:
    """The same of iterative-stratification, from images x categories."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=SHARE, random_state=seed)
    _, val = next(splitter.split(np.zeros((len(labels), 1)), labels))
    return np.isin(np.arange(len(labels)), val)


class Set:
    """A file and the counts that splits of it are measured by.

    Args:
        name: For the table.
        path: An annotation file.
        counts_instances: Whether the file has every instance.
    """

    def __init__(self, name: str, path: Path, *, counts_instances: bool = True) -> None:
        self.name, self.file, self.counts_instances = name, read_annotations(path), counts_instances
        ids = np.sort(self.file.categories.ids)
        self.category, self.image = category_image_pairs(self.file, ids)
        self.width, self.count = len(ids), len(self.file.image_ids)
        kept = ~self.file.crowd
        self.object_image = self.file.image_index()[kept]
        self.object_category = np.searchsorted(ids, self.file.annotation_category_ids[kept])
        self.possible = self.per_category(self.category) >= 2

    def per_category(self, rows: np.ndarray) -> np.ndarray:
        """How often each category occurs, [C]."""
        return np.bincount(rows, minlength=self.width)

    def labels(self) -> np.ndarray:
        """Images x categories, 0 or 1."""
        labels = np.zeros((self.count, self.width), np.int8)
        labels[self.image, self.category] = 1
        return labels

    def measure(self, val: np.ndarray) -> tuple[float, ...]:
        """Classes on both sides, deviations of images and instances in points, images off."""
        of_val, of_all = self.per_category(self.category[val[self.image]]), self.per_category(self.category)
        both = (of_val > 0) & (of_val < of_all)
        objects = self.per_category(self.object_category[val[self.object_image]])
        off = [
            100 * np.abs(part[self.possible] / whole[self.possible] - SHARE).mean()
            for part, whole in ((of_val, of_all), (objects, self.per_category(self.object_category)))
        ]
        return int(both.sum()), *off, abs(int(val.sum()) - SHARE * self.count)


def sets(data: Path, coco: Path | None, folder: Path) -> list[Set]:
    """The real data, and a file of official size if there is one."""
    found = [
        Set("COCO, 167 images", _joined(data / "coco_real/annotations", folder / "coco.json")),
        Set("LVIS, 100 images", data / "lvis_val_100/lvis_val_100.json"),
        Set("LVIS v0.5 train, who is where", _from_index(data, folder / "lvis.json"), counts_instances=False),
    ]
    return [*found, *([] if coco is None else [Set("COCO train2017 size", coco)])]


def _joined(folder: Path, out: Path) -> Path:
    """The images of both COCO files as one; their ids differ."""
    parts = [json.loads((folder / f"instances_{s}2017_with_images.json").read_text()) for s in ("train", "val")]
    joined = {key: parts[0][key] + parts[1][key] for key in ("images", "annotations")}
    for number, annotation in enumerate(joined["annotations"], start=1):
        annotation["id"] = number
    out.write_text(json.dumps({**joined, "categories": parts[0]["categories"]}))
    return out


def _from_index(data: Path, out: Path) -> Path:
    """A file with an annotation for each category and image of LVIS v0.5 train: all that is known of it here."""
    index = json.loads((data / "lvis_v0.5_category_image_index/lvis_v0.5_train_category_to_image_ids.json").read_text())
    pairs = [(int(category), image) for category, entry in index.items() for image in entry["image_ids"]]
    content = {
        "images": [{"id": image} for image in sorted({image for _, image in pairs})],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category}
            for number, (category, image) in enumerate(pairs, start=1)
        ],
        "categories": [{"id": int(category)} for category in index],
    }
    out.write_text(json.dumps(content))
    return out


def contest(of: Set, seeds: int) -> list[tuple[object, ...]]:
    """A row for each contestant."""
    contestants: dict[str, Chooser] = {
        "lt-data split": partial(ours, of.file),
        "random": partial(by_chance, of.file),
    }
    if of.count * of.width <= MOST_CELLS:
        contestants["iterative-stratification"] = partial(by_the_package, of.labels())
    seeds = min(seeds, SEEDS_OF_LARGE) if of.count > LARGE else seeds
    rows = []
    for name, choose in contestants.items():
        start = time.process_time()
        chosen = [choose(seed) for seed in range(seeds)]
        seconds = (time.process_time() - start) / seeds
        figures = np.array([of.measure(val) for val in chosen])
        both, images, instances, off = figures.mean(0)
        figure = f"{instances:.2f}" if of.counts_instances else ""
        rows.append(
            (
                *(datetime.now(UTC).date().isoformat(), machine(), of.name, of.count, name, seeds),
                *(int(of.possible.sum()), f"{both:.1f}", int(figures[:, 0].min())),
                *(f"{images:.2f}", figure, f"{off:.1f}", f"{seconds:.2f}"),
            )
        )
        sys.stdout.write(", ".join(map(str, rows[-1][2:])) + "\n")
    return rows


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--coco", type=click.Path(exists=True, path_type=Path))
@click.option("--seeds", default=10, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(data: Path, coco: Path | None, seeds: int, out: Path) -> None:
    """Measure and record."""
    with tempfile.TemporaryDirectory() as folder:
        for of in sets(data, coco, Path(folder)):
            rows = contest(of, seeds)
            record(out, COLUMNS, [*(row for row in read_rows(out, COLUMNS) if row[2] != of.name), *rows])


if __name__ == "__main__":
    main()
