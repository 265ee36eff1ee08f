"""The images that a search measures on, and how every output says which they were.

Shapes: N images of a file, n of them that are measured on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lt_data.arrays import IntArray
from lt_data.errors import DataError
from lt_train.data.detection_data import DetectionData
from lt_train.evaluation import GroundTruth, load_ground_truth
from lt_train.evaluation.truth.columns import only_images
from lt_train.recipe.sections import Files
from lt_train.runs.data import RunData, ValidationData, load_validation
from lt_train.runs.hold_out import seen_rows

SearchOn = Literal["training", "val"]


@dataclass(frozen=True)
class SearchImages:
    """What a search measures on.

    Attributes:
        data: The file with its images.
        rows: Positions [n] of the images in it.
        truth: Their annotations.
        kind: ``held-out`` and ``seen`` are images of the training file that were not, or that were, trained on;
            ``val`` is the validation data, ``file`` any other.
    """

    data: DetectionData
    rows: IntArray
    truth: GroundTruth
    kind: Literal["held-out", "seen", "val", "file"]

    @property
    def mark(self) -> str:
        """In a few words, for titles and tables."""
        return {
            "held-out": "on held-out training images",
            "seen": "seen: on images of the training",
            "val": "tuned on val",
            "file": f"tuned on {self.data.file.path.name}",
        }[self.kind]

    @property
    def line(self) -> str:
        """All that there is to say before the search."""
        said = f"search: on {len(self.rows):,} images of {self.data.file.path}"
        return {
            "held-out": f"{said} that were held out of training",
            "seen": f"warning: seen: {said}, on which the run was trained or may have been, so the value that is best "
            "on them need not be best on new ones; train with data.hold_out=0.05, or give another split with "
            "--annotations and --images",
            "val": f"warning: tuned on val: {said}, the validation data, so the AP on it is optimistic for the chosen "
            "value",
            "file": f"{said}, which the command names",
        }[self.kind]

    def record(self) -> dict[str, Any]:
        """For ``data.json``."""
        file = self.data.file
        return {
            "measured_on": self.kind,
            "images": len(self.rows),
            "annotations": str(file.path),
            "sha256": file.sha256,
        }


def search_images(data: RunData, unseen: int, *, files: Files | None, on: SearchOn) -> SearchImages:
    """The images that a search measures on: those that training held out if there are any, else some that it saw.

    Args:
        data: Of the run.
        unseen: How many of its held-out images, the first of them, the weights have not seen.
        files: A split that the user names instead.
        on: ``val`` takes the validation data instead.

    Raises:
        DataError: The split cannot be used, or has nothing to measure.
    """
    if files is not None:
        val = load_validation(files, data.train.counts, masks=False, reading=data.train.reading)
        images = _whole(val, _kind_of(val, data))
    elif on == "val":
        assert data.val is not None, "internal error: checked before anything was read"
        images = _whole(data.val, "val")
    else:
        images = _of_training(data, unseen)
    if not (~images.truth.crowd).any():
        raise DataError(
            f"{images.data.file.path}: no object to measure an AP on, by which a search takes a value, in "
            f"{len(images.rows):,} images; give another split with --annotations and --images"
        )
    return images


def _kind_of(split: ValidationData, data: RunData) -> Literal["seen", "val", "file"]:
    """What a named split is, however it is named: the training or validation file may have a copy."""
    # trained on comes first: one file may be both
    if split.file.sha256 == data.train.file.sha256:
        return "seen"
    return "val" if data.val is not None and split.file.sha256 == data.val.file.sha256 else "file"


def _whole(split: ValidationData, kind: Literal["seen", "val", "file"]) -> SearchImages:
    return SearchImages(split, np.arange(len(split.file.image_ids)), split.truth, kind)


def _of_training(data: RunData, unseen: int) -> SearchImages:
    file = data.train.file
    if len(data.held_out):
        # of those that an earlier run has seen, the ones held out here are nearest to new
        rows = data.held_out[:unseen] if unseen else data.held_out
    else:
        rows = seen_rows(file.image_ids, data.dataset.rows)
    rows = np.sort(rows)
    truth = only_images(load_ground_truth(file, masks=False), file.image_ids[rows])
    return SearchImages(data.train, rows, truth, "held-out" if unseen else "seen")
