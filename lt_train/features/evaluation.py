"""Detections from features: proposals and their features are known, so only classifier and box regressor run.

They equal those of images that go through the network one by one (``eval.batch=1``), up to the rounding of features in
float16. Masks need the feature maps, which are not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lt_data.annotations.category_ids import CategoryIds
from lt_data.errors import RecipeError
from lt_data.progress import SILENT
from lt_data.terminal import Bar
from lt_train.data.detection_data import DetectionData
from lt_train.detectors import LongTailDetector
from lt_train.detectors.region_features import ProposalFeatures, detections_of_known
from lt_train.evaluation import Detections, model_detections
from lt_train.evaluation.measure import Choices, Measured
from lt_train.features import layout
from lt_train.features.made_of import check_same, made_of, refuse_other_detectors
from lt_train.features.reading import Cache, open_cache
from lt_train.inference.detect import Found, ImageDetections, merge, pack, unpack
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.processes import Processes
from lt_train.recipe.sections import Recipe, has_masks
from lt_train.runs.directory import RunDir

# detections of an image with known proposals and of a size, each by another system
Detect = Callable[[ProposalFeatures, tuple[int, int]], list[dict[str, Tensor]]]


class KnownValidation:
    """Features of validation images; ``predict`` takes the place of :func:`lt_train.inference.evaluate_run.predict`.

    Args:
        cache: Of them.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def predict(
        self, model: LongTailDetector, data: DetectionData, recipe: Recipe, *, processes: Processes | None = None
    ) -> Detections | None:
        """Boxes of every image, in the order of the file.

        Args:
            model: The detector, on its device; left in the mode it was in.
            data: The images, none of which is opened.
            recipe: Of the run; not looked at.
            processes: This process among others that do their share.

        Returns:
            The detections; ``None`` in all processes but the first.
        """

        def detect(known: ProposalFeatures, size: tuple[int, int]) -> list[dict[str, Tensor]]:
            return [detections_of_known(model, known, size)]

        found = self._all(model, data, processes or Processes(), detect, systems=1)
        return None if found is None else found[0]

    def predict_values(
        self, model: LongTailDetector, data: DetectionData, option: str, values: Sequence[float], processes: Processes
    ) -> list[Detections] | None:
        """Boxes of every image with each value of an option of the model's calibration.

        Args:
            model: The detector with a calibration, whose option is left at the last value.
            data: The images, none of which is opened.
            option: A number among its options.
            values: What to try.
            processes: This process among others that do their share.

        Returns:
            Detections of each value; ``None`` in all processes but the first.
        """
        calibration = model.calibration
        assert calibration is not None, "internal error: there is no calibration to search"

        def detect(known: ProposalFeatures, size: tuple[int, int]) -> list[dict[str, Tensor]]:
            found = []
            for value in values:
                calibration.choose(option, value)
                found.append(detections_of_known(model, known, size))
            return found

        return self._all(model, data, processes, detect, systems=len(values))

    def _all(
        self, model: LongTailDetector, data: DetectionData, processes: Processes, detect: Detect, *, systems: int
    ) -> list[Detections] | None:
        """What each system finds in all images, in the order of the file; at the first process."""
        rows = processes.share(list(range(len(data.file.image_ids))))
        device, was_training = next(model.parameters()).device, model.training
        own = [Found({}, {}) for _ in range(systems)]
        model.eval()
        with torch.inference_mode(), Bar("evaluating") if processes.is_first else nullcontext(SILENT) as bar:
            for done, row in enumerate(rows, 1):
                processes.check()
                image_id, (known, size) = int(data.file.image_ids[row]), self.proposals(row, device)
                for found, detection in zip(own, detect(known, size), strict=True):
                    found.images[image_id] = _columns(image_id, detection, size, data.ids)
                bar(done, len(rows))
        model.train(was_training)
        parts = processes.gather(pack(own))
        if parts is None:
            return None
        shares = [unpack(part, list[Found]) for part in parts]
        return [merge(of_system, data.file.image_ids).detections() for of_system in zip(*shares, strict=True)]

    def proposals(self, row: int, device: torch.device) -> tuple[ProposalFeatures, tuple[int, int]]:
        """Proposals of an image with their features, and its height and width as stored.

        Args:
            row: Of the image in the file.
            device: Where to.
        """
        found = self.cache.find(row)

        def column(name: str) -> Any:
            return torch.from_numpy(np.array(found.columns[name][found.candidates])).to(device)

        size, original = (found.columns[name][found.version].tolist() for name in (layout.SIZES, layout.ORIGINALS))
        return ProposalFeatures(column(layout.BOXES), column(layout.FEATURES), tuple(size)), tuple(original)

    def describe(self) -> str:
        """A line for the log of a run."""
        return f"evaluation from {self.cache.path}: of boxes; lt-train eval measures masks too"


def _columns(
    image_id: int, detection: dict[str, Tensor], size: tuple[int, int], category_ids: CategoryIds
) -> ImageDetections:
    height, width = size
    columns = model_detections(image_id, detection, height=height, width=width, category_ids=category_ids)
    return ImageDetections(width, height, columns)


def open_validation(
    features: Path, recipe: Recipe, data: DetectionData, model: LongTailDetector, processes: Processes
) -> KnownValidation:
    """Opens the features of validation images; all processes come here.

    Args:
        features: What ``lt-train cache --out`` was given.
        recipe: Of the run that is evaluated.
        data: What it is evaluated on.
        model: The detector.
        processes: This process among others.

    Raises:
        DataError: They are not whole, or are of other weights, images or geometry.
        RecipeError: A calibration looks at feature maps, or the features of such a detector are not kept.
    """
    refuse_other_detectors(model, recipe)
    refuse_maps(model, features)
    cache = open_cache(features, "val", processes)
    check_same(str(cache.path), cache.manifest, made_of(model, recipe, data, None))
    return KnownValidation(cache)


def refuse_maps(model: LongTailDetector, features: Path) -> None:
    """Refuses a calibration that looks at pooled feature maps.

    Raises:
        RecipeError: It does.
    """
    if model.calibration is not None and model.calibration.features == "conv":
        raise RecipeError(
            f"--from-features {features}: calibration.features=conv looks at pooled feature maps, which are not kept; "
            "set calibration.features=fc, or leave --from-features out"
        )


def evaluate_from_features(
    run: Path, features: Path, *, choices: Choices | None = None, **options: Any
) -> tuple[Measured, Path] | None:
    """Evaluates a checkpoint of a run on its validation images without the network in front of the classifier.

    Args:
        run: The run directory.
        features: What ``lt-train cache --out`` was given.
        choices: How to measure; boxes only, where the detector has masks.
        **options: Of :func:`lt_train.inference.evaluate_run.evaluate_run`.

    Returns:
        As there.

    Raises:
        LtError: As there; and the features do not fit, or masks are asked for.
    """
    if has_masks(RunDir(run).load_recipe()) and not (choices and choices.boxes_only):
        raise RecipeError(
            f"--from-features {features}: masks need the trunk's feature maps, which are not kept; add --boxes-only or "
            "leave --from-features out"
        )

    def predict(
        model: LongTailDetector, data: DetectionData, recipe: Recipe, *, processes: Processes | None = None
    ) -> Detections | None:
        known = open_validation(features, recipe, data, model, processes or Processes())
        return known.predict(model, data, recipe, processes=processes)

    return evaluate_run(run, choices=choices, predictor=predict, **options)
