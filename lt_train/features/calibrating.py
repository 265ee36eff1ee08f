"""Calibrating from features: what a method is fitted on, and what it is measured on, without opening an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lt_train.data.detection_data import DetectionData
from lt_train.detectors import LongTailDetector
from lt_train.detectors.region_features import labelled_of_known
from lt_train.features import layout
from lt_train.features.evaluation import KnownValidation, open_validation, refuse_maps
from lt_train.features.samples import KnownDataset, Sample
from lt_train.features.training import KnownTraining, open_training
from lt_train.processes import Processes
from lt_train.recipe.sections import Recipe
from lt_train.runs.data import RunData


@dataclass(frozen=True)
class Known:
    """Features of a run that is calibrated.

    Attributes:
        path: What ``lt-train cache --out`` was given.
        training: Of the training images; ``None`` where the calibration looks at none.
        validation: Of the validation images, if they are kept.
        val: Digest of the validation file.
    """

    path: Path
    training: KnownTraining | None
    validation: KnownValidation | None
    val: str | None

    def dataset(self, model: LongTailDetector) -> KnownDataset:
        """Samples of the training images.

        Args:
            model: The detector, whose calibration says which regions it looks at; where it looks at averaged logits,
                all stages see the same.
        """
        calibration = model.calibration
        assert self.training is not None, "internal error: the calibration looks at no training image"
        assert calibration is not None, "internal error: there is no calibration"
        regions: Any = calibration.regions
        return self.training.samples(regions, followed=calibration.features == "logits")

    def labelled(self, model: LongTailDetector, samples: Sequence[Sample], kind: str) -> list[tuple[Tensor, Tensor]]:
        """Features and labels of the regions of a batch, for each part of the calibration.

        Args:
            model: The detector.
            samples: Of :meth:`dataset`.
            kind: What features the calibration looks at.
        """
        assert self.training is not None, "internal error: the calibration looks at no training image"
        return labelled_of_known(model, self.training.known(samples), kind)

    def of(self, data: DetectionData) -> KnownValidation | None:
        """The features of some images, where these are the validation images."""
        return self.validation if data.file.sha256 == self.val else None

    def describe(self) -> list[str]:
        """Lines for the log of a run."""
        lines = [] if self.training is None else self.training.describe()
        if self.training is None and self.validation is not None:
            lines.append(self.validation.describe())
        if self.validation is None:
            lines.append(f"note: {self.path} holds no features of the validation images; what is measured opens them")
        return lines


def open_known(
    features: Path, recipe: Recipe, data: RunData, model: LongTailDetector, processes: Processes, *, train: bool
) -> Known:
    """Opens the features for a calibration; all processes come here.

    Args:
        features: What ``lt-train cache --out`` was given.
        recipe: Of the calibration.
        data: Its data.
        model: The trained detector with the calibration, on its device.
        processes: This process among others.
        train: Whether the calibration looks at training images.

    Raises:
        LtError: As :func:`~lt_train.features.training.open_training`.
    """
    refuse_maps(model, features)
    if train:
        training = open_training(features, recipe, data, model, processes)
        validation = training.validation
    else:
        training, validation = None, None
        if not any((features / part / layout.MANIFEST).is_file() for part in layout.OF_STAGES):
            # says that there is nothing: a path that is wrong must not mean that images are opened
            layout.read_manifest(features / "val")
        if data.val is not None and (features / "val" / layout.MANIFEST).is_file():
            validation = open_validation(features, recipe, data.val, model, processes)
    return Known(features, training, validation, None if data.val is None else data.val.file.sha256)
