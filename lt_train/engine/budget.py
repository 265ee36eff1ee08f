"""What a run may change and what it has seen: trainable numbers, and images and instances of every class."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from lt_data.groups import group_name_of
from lt_train.data.plan import Plan
from lt_train.runs.data import RunData
from lt_train.runs.directory import write_text

# tensors that a log names one by one; the file always has all
LISTED = 12


def write_trainable(path: Path, model: nn.Module) -> list[str]:
    """Writes name, shape and size of every trainable tensor; lines about them for people."""
    _write(path, ("name", "shape", "numbers"), _trainable(model))
    first, *others = trainable_lines(model)
    return [f"{first}, listed in {path.parent.name}/{path.name}", *others]


def trainable_lines(model: nn.Module) -> list[str]:
    """How many numbers are trained, and their tensors where they are few."""
    rows = _trainable(model)
    lines = [f"trainable: {sum(numbers for *_, numbers in rows):,} numbers in {len(rows)} tensors"]
    return lines + [f"  {name} {shape}" for name, shape, _ in rows] * (len(rows) <= LISTED)


def _trainable(model: nn.Module) -> list[tuple[str, str, int]]:
    found = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [(name, "x".join(map(str, p.shape)), p.numel()) for name, p in found]


def write_seen(path: Path, data: RunData, plan: Plan, done: int) -> list[str]:
    """Writes how many images and instances of every class ``done`` steps saw; one line per group for people.

    Args:
        path: CSV with category_id, name, group, train_instances, images_seen and instances_seen.
        data: Data of the run.
        plan: Its plan.
        done: Optimiser steps taken.
    """
    counts = data.train.counts
    times = plan.seen(done)
    rows, labels = data.dataset.pairs()
    seen = plan.seen_objects(done, rows, labels)
    instances = _sum_by_class(seen, labels, len(counts.names))
    pairs, first = np.unique(np.stack([rows, labels]), axis=1, return_index=True)
    images = _sum_by_class(seen[first], pairs[1], len(counts.names))
    group_of = group_name_of(data.groups)
    names = [group_of[category] for category in counts.category_ids.tolist()]
    columns = (counts.category_ids.tolist(), counts.names, names, counts.instances.tolist())
    header = ("category_id", "name", "group", "train_instances", "images_seen", "instances_seen")
    _write(path, header, list(zip(*columns, images.tolist(), instances.tolist(), strict=True)))
    lines = [f"seen: {int(times.sum()):,} images in {done:,} steps; per class in {path.parent.name}/{path.name}"]
    for group in data.groups:
        here = instances[[name == group.name for name in names]]
        if len(here):
            lines.append(
                f"  {group.name}: {len(here)} classes, instances seen of each: least {int(here.min()):,}, "
                f"median {float(np.median(here)):,.0f}, most {int(here.max()):,}"
            )
    return lines


def _sum_by_class(values: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Sum of the values of each label 1..C, exact, shape [C]."""
    sums = np.zeros(classes, np.int64)
    np.add.at(sums, labels - 1, values)
    return sums


def _write(path: Path, header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    path.parent.mkdir(exist_ok=True)
    write_text(path, text.getvalue())
