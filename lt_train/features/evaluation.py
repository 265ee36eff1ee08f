"""Detections from features: proposals and their features are known, so only classifier and box regressor run.

They equal those of images that go through the network one by one (``eval.batch=1``), up to the rounding of features in
float16. Masks need the feature maps of the trunk, which are not kept: for them every image goes through the trunk, once
for all systems that are evaluated together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lt_data.annotations.category_ids import CategoryIds
from lt_data.errors import RecipeError
from lt_data.progress import SILENT
from lt_data.terminal import Bar
from lt_train.data.detection_data import DetectionData
from lt_train.data.images import as_input
from lt_train.detectors import LongTailDetector
from lt_train.detectors.region_features import ProposalFeatures, detections_of_known, trunk_maps
from lt_train.evaluation import Detections, model_detections
from lt_train.features import layout
from lt_train.features.image_files import check_images
from lt_train.features.made_of import check_same, made_of, refuse_other_detectors
from lt_train.features.reading import Cache, open_cache
from lt_train.features.stores import Held, Store, collected
from lt_train.inference.detect import ImageDetections, ImageList, loaded_images
from lt_train.processes import Processes
from lt_train.recipe.sections import ComputeSection, Recipe

# detections of an image by each of several systems, from its proposals, its size and its pixels, if they are opened
Detect = Callable[[ProposalFeatures, tuple[int, int], Tensor | None], list[dict[str, Tensor]]]


@dataclass(frozen=True)
class System:
    """A trained run in memory.

    Attributes:
        model: Its detector.
        recipe: Its recipe.
    """

    model: LongTailDetector
    recipe: Recipe


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
            recipe: Of the run.
            processes: This process among others that do their share.

        Returns:
            The detections; ``None`` in all processes but the first.
        """
        return self.predict_alone(model, data, recipe, processes or Processes(), masks=False)

    def predict_alone(
        self, model: LongTailDetector, data: DetectionData, recipe: Recipe, processes: Processes, *, masks: bool
    ) -> Detections | None:
        """The same, with masks where they are asked for: then the images are opened.

        Args:
            model: The detector, on its device; left in the mode it was in.
            data: The images.
            recipe: Of the run.
            processes: This process among others that do their share.
            masks: Whether detections get masks.
        """
        held = Held()
        self.predict_systems([System(model, recipe)], data, processes, [held], masks=masks)
        return collected(held, data, processes)

    def predict_systems(
        self,
        systems: Sequence[System],
        data: DetectionData,
        processes: Processes,
        stores: Sequence[Store],
        *,
        masks: bool,
    ) -> None:
        """What each of several systems with the same frozen weights finds in this process's share of the images.

        Args:
            systems: On one device; left in the mode they were in.
            data: The images.
            processes: This process among others that do their share.
            stores: One for each system, which gets what it finds; see :func:`collected`.
            masks: Whether to open the images and give detections masks: the trunk sees each image once for all systems
                that compute alike.
        """

        def detect(known: ProposalFeatures, size: tuple[int, int], image: Tensor | None) -> list[dict[str, Tensor]]:
            maps: list[tuple[ComputeSection, dict[str, Tensor]]] = []
            found = []
            for system in systems:
                of_image = None if image is None else _maps_of(system, image, maps)
                found.append(detections_of_known(system.model, known, size, of_image))
            return found

        modes = [system.model.training for system in systems]
        for system in systems:
            system.model.eval()
        self._look(systems[0].model, data, systems[0].recipe if masks else None, processes, detect, stores)
        for system, mode in zip(systems, modes, strict=True):
            system.model.train(mode)

    def predict_values(
        self, model: LongTailDetector, data: DetectionData, option: str, values: Sequence[float], processes: Processes
    ) -> list[Detections] | None:
        """Boxes of every image with each value of an option of the model's calibration.

        Args:
            model: The detector in evaluation mode, whose calibration is left with the last value.
            data: The images, none of which is opened.
            option: A number among the options of the calibration.
            values: What to try.
            processes: This process among others that do their share.

        Returns:
            Detections of each value; ``None`` in all processes but the first.
        """
        calibration = model.calibration
        assert calibration is not None, "internal error: there is no calibration to search"

        def detect(known: ProposalFeatures, size: tuple[int, int], _: Tensor | None) -> list[dict[str, Tensor]]:
            found = []
            for value in values:
                calibration.choose(option, value)
                found.append(detections_of_known(model, known, size))
            return found

        model.eval()
        stores = [Held() for _ in values]
        self._look(model, data, None, processes, detect, stores)
        found = [collected(store, data, processes) for store in stores]
        return [one for one in found if one is not None] if processes.is_first else None

    def _look(
        self,
        model: LongTailDetector,
        data: DetectionData,
        opening: Recipe | None,
        processes: Processes,
        detect: Detect,
        stores: Sequence[Store],
    ) -> None:
        """Gives the stores what each system finds in this process's share of the images.

        With ``opening``, the recipe by which images are loaded, the systems are given their pixels too.
        """
        rows = processes.share(list(range(len(data.file.image_ids))))
        device = next(model.parameters()).device
        loader = closing(_images(data, rows, opening))
        progress = Bar("evaluating") if processes.is_first else nullcontext(SILENT)
        with torch.inference_mode(), loader as images, progress as bar:
            for done, (row, image) in enumerate(zip(rows, images, strict=True), 1):
                processes.check()
                image_id, (known, size) = int(data.file.image_ids[row]), self.proposals(row, device)
                pixels = None if image is None else as_input(image, device)
                for store, detection in zip(stores, detect(known, size, pixels), strict=True):
                    store.add(image_id, _columns(image_id, detection, size, data.ids))
                bar(done, len(rows))

    def proposals(self, row: int, device: torch.device) -> tuple[ProposalFeatures, tuple[int, int]]:
        """Proposals of an image with their features, and its height and width as stored.

        Args:
            row: Of the image in the file.
            device: Where to.
        """
        stages = [self.cache.find(row, stage=stage) for stage in range(self.cache.manifest.stages)]
        boxes, hidden = (
            [torch.from_numpy(np.array(found.of(name))).to(device) for found in stages]
            for name in (layout.BOXES, layout.FEATURES)
        )
        version, columns = stages[0].version, stages[0].columns
        size, original = (columns[name][version].tolist() for name in (layout.SIZES, layout.ORIGINALS))
        return ProposalFeatures(boxes, hidden, tuple(size)), tuple(original)

    def describe(self) -> str:
        """A line for the log of a run."""
        return f"evaluation from {self.cache.path}: of boxes; lt-train eval measures masks too"


def _maps_of(system: System, image: Tensor, known: list[tuple[ComputeSection, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Feature maps of an image; those of another system that computes alike are taken from ``known``."""
    for compute, maps in known:
        if compute == system.recipe.compute:
            return maps
    maps = trunk_maps(system.model, image)
    known.append((system.recipe.compute, maps))
    return maps


def _images(data: DetectionData, rows: Sequence[int], recipe: Recipe | None) -> Generator[Tensor | None, None, None]:
    """Pixels of the images, uint8 [3, H, W]; without a recipe to load them by, nothing for each."""
    if recipe is None:
        yield from repeat(None, len(rows))
        return
    for batch in loaded_images(ImageList.of(data), [[row] for row in rows], recipe.data.workers):
        for _, image in batch:
            if not isinstance(image, Tensor):
                raise image
            yield image


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
        DataError: They are not whole, are of other weights, images or geometry, or images have changed since.
        RecipeError: A calibration looks at feature maps, or the features of such a detector are not kept.
    """
    # before every byte of the features is read
    refuse_other_detectors(recipe)
    refuse_maps(model, features)
    cache = open_cache(features, "val", processes)
    check_fits(cache, features, recipe, data, model)
    check_images(cache, data.paths, processes)
    return KnownValidation(cache)


def check_fits(cache: Cache, features: Path, recipe: Recipe, data: DetectionData, model: LongTailDetector) -> None:
    """Refuses a run that features of validation images are not of.

    Args:
        cache: Of them.
        features: Where they are, as ``lt-train cache --out`` was given it.
        recipe: Of the run.
        data: What it is evaluated on.
        model: The detector.

    Raises:
        DataError: They are of other weights, images or geometry.
        RecipeError: A calibration looks at feature maps, or the features of such a detector are not kept.
    """
    refuse_other_detectors(recipe)
    refuse_maps(model, features)
    check_same(str(cache.path), cache.manifest, made_of(model, recipe, data, None))


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
