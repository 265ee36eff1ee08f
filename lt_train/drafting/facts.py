"""What a first recipe goes by: the data, and the machine.

Shapes: N images, C classes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lt_data.arrays import FloatArray
from lt_data.errors import DataError
from lt_data.files.pixels import AS_STORED, ImageReading
from lt_train.data.detection_data import DetectionData, clipped_boxes, load_data, mask_share, training_rows


@dataclass(frozen=True)
class Facts:
    """Data and machine.

    Attributes:
        train: The training file with its images.
        images: How many of them are trained on.
        short_side: Median of the images, in pixels; 0 where no size is known.
        aspect: Median of long over short side.
        object_share: Median of the objects' side (the root of the box's area) over the short side of their image.
        most_objects: Of one image.
        mask_share: Share of the objects that have a mask, 0 where one cannot be read.
        device: What trains.
        cores: Of the processor.
    """

    train: DetectionData
    images: int
    short_side: float
    aspect: float
    object_share: float
    most_objects: int
    mask_share: float
    device: torch.device
    cores: int

    @property
    def gpu(self) -> bool:
        """Whether a GPU trains."""
        return self.device.type == "cuda"

    @property
    def classes(self) -> int:
        """C, those without instances too."""
        return len(self.train.counts.names)


def gather_facts(annotations: Path, images: Path, device: torch.device) -> Facts:
    """Reads the data and looks at the machine.

    Args:
        annotations: Annotation file, or a dataset directory.
        images: Folder of its images.
        device: What is going to train.

    Raises:
        DataError: The data cannot be used, or there is nothing to train on.
    """
    train = _load(annotations, images)
    rows, _ = training_rows(train, keep_empty=False)
    sizes = train.file.image_sizes[rows]
    known = sizes[(sizes > 0).all(axis=1)]
    short, long = (known.min(axis=1), known.max(axis=1)) if len(known) else (np.zeros(1), np.zeros(1))
    objects = np.bincount(train.file.image_index()[train.usable])
    return Facts(
        train=train,
        images=len(rows),
        short_side=float(np.median(short)),
        aspect=float(np.median(long / np.maximum(short, 1))) or 1.0,
        object_share=_median(_object_shares(train)),
        most_objects=int(objects.max()),
        mask_share=mask_share(train),
        device=device,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def _load(annotations: Path, images: Path) -> DetectionData:
    """The training data; where its boxes are of the turned pictures, with those."""
    try:
        return load_data(annotations, images, AS_STORED)
    except DataError as error:
        if not any("data.exif=apply" in line for line in error.problems):
            raise
    return load_data(annotations, images, ImageReading(None, "apply"))


def _object_shares(train: DetectionData) -> FloatArray:
    """Side of each object over the short side of its image; those of images of unknown size are left out."""
    boxes, file = clipped_boxes(train.file)[train.usable], train.file
    short = file.image_sizes[file.image_index()[train.usable]].min(axis=1)
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    return np.asarray(sides[short > 0] / short[short > 0])


def _median(values: FloatArray) -> float:
    return float(np.median(values)) if len(values) else 0.0
