"""Training from features: samples in place of images, see ``samples.py``, and the losses of a batch of them.

Shapes: R regions drawn of an image, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from lt_data.errors import DataError, RecipeError
from lt_train.data.share import blank_target
from lt_train.data.target import Target
from lt_train.detectors import LongTailDetector
from lt_train.detectors.region_features import KnownOfStage, KnownRegions
from lt_train.detectors.regions.sampled import Regions
from lt_train.features import layout
from lt_train.features.evaluation import KnownValidation, open_validation
from lt_train.features.image_files import check_images, files_of
from lt_train.features.layout import in_stage
from lt_train.features.made_of import check_same, made_of, refuse_other_detectors, refuse_second_heads
from lt_train.features.reading import Cache, open_cache
from lt_train.features.samples import KnownDataset, Sample, StageSample, Which, no_regions, stage_draws
from lt_train.features.sizes import shown_bytes
from lt_train.processes import Processes
from lt_train.recipe.sections import Recipe
from lt_train.runs.data import RunData

# what may be trained: nothing in front of it is
PARTS = ("classifier", "scale")
# share of the free memory of a GPU that features may take
GPU_SHARE = 0.8


class HasTrained(Protocol):
    """What a training has that takes the gradients of losses."""

    trained: nn.Module


class KnownTraining:
    """The features of a run's training images, and of its validation images if they are kept.

    Args:
        cache: Of the training images.
        dataset: Their samples.
        validation: Features of the validation images, or ``None``.
        device: Where the run computes.
        resident: All features of each stage, [all, D], on the GPU, if they fit.
    """

    def __init__(
        self,
        cache: Cache,
        dataset: KnownDataset,
        validation: KnownValidation | None,
        device: torch.device,
        resident: list[Tensor] | None,
    ) -> None:
        self.cache = cache
        self.dataset = dataset
        self.validation = validation
        self.device = device
        self.resident = resident

    def losses_of(self, state: HasTrained, samples: list[Sample], targets: list[Target]) -> dict[str, Tensor]:
        """Losses of a forward pass; of a process without any image in it those of no region.

        Args:
            state: Of the run.
            samples: One an image.
            targets: Likewise.
        """
        if not samples:
            manifest = self.cache.manifest
            samples, targets = [no_regions(manifest.features, manifest.stages)], [blank_target("none")]
        losses: dict[str, Tensor] = state.trained(self.known(samples), targets)
        return losses

    def samples(self, which: Which, *, followed: bool = False) -> KnownDataset:
        """Samples of other regions of the same images, see :class:`~lt_train.features.samples.KnownDataset`."""
        own = self.dataset
        return KnownDataset(
            own.images, self.cache, own.draws, which=which, followed=followed, with_features=own.with_features
        )

    def known(self, samples: Sequence[Sample]) -> KnownRegions:
        """The regions of a batch, on the device."""
        stages = range(self.cache.manifest.stages)
        return KnownRegions(tuple(self._of_stage([s.stages[stage] for s in samples], stage) for stage in stages))

    def _of_stage(self, samples: Sequence[StageSample], stage: int) -> KnownOfStage:
        if self.resident is not None:
            rows = torch.cat([sample.rows for sample in samples]).to(self.device, non_blocking=True)
            hidden = self.resident[stage][rows]
        else:
            parts = [sample.hidden for sample in samples if sample.hidden is not None]
            hidden = torch.cat(parts).to(self.device, non_blocking=True)
        labels, matched = (
            [column.to(self.device, non_blocking=True) for column in columns]
            for columns in ([s.labels for s in samples], [s.matched for s in samples])
        )
        positives = tuple(sample.positives for sample in samples)
        return KnownOfStage(hidden, Regions([], labels, matched, [], positives))

    def describe(self) -> list[str]:
        """Lines for the log of a run."""
        manifest = self.cache.manifest
        kept = "all regions" if manifest.pool is None else f"{manifest.pool:,} regions"
        place = "in the memory of the GPU" if self.resident is not None else "read as they are needed"
        lines = [
            f"features from {self.cache.path}: {kept} of an image in {manifest.dtype}, {shown_bytes(manifest.size)} "
            f"{place}; no image is opened in training"
        ]
        if self.validation is not None:
            lines.append(self.validation.describe())
        return lines


def refuse_other_parts(recipe: Recipe, features: Path) -> None:
    """Refuses a run that trains what the features come from, or something beside it that they do not serve.

    Raises:
        RecipeError: It does.
    """
    refuse_second_heads(recipe)
    if recipe.train not in PARTS:
        raise RecipeError(
            f"--from-features {features}: train={recipe.train} trains what the features come from; allowed are "
            f"{' and '.join(f'train={part}' for part in PARTS)}, with a method such as bags or crt; else leave "
            "--from-features out"
        )


def open_training(
    features: Path, recipe: Recipe, data: RunData, model: LongTailDetector, processes: Processes
) -> KnownTraining:
    """Opens the features of a run; all processes come here.

    Args:
        features: What ``lt-train cache --out`` was given.
        recipe: Of the run.
        data: Its data.
        model: With its first weights, on its device.
        processes: This process among others.

    Raises:
        DataError: The features are not whole, or are of other weights, data, geometry or flips.
        RecipeError: The features of such a run cannot be kept.
    """
    refuse_other_detectors(recipe)
    _refuse_others_trained(model, features)
    # a calibration looks at images as they are, whatever training changed in them
    if recipe.data.augment.is_on and recipe.calibration.name == "none":
        raise RecipeError(
            f"data.augment: training would change images, and {features} holds features of images as they are; set its "
            "options off, or train without --from-features"
        )
    cache = open_cache(features, "train", processes)
    where, flip = str(cache.path), recipe.data.flip
    check_same(where, cache.manifest, made_of(model, recipe, data.train, data.dataset))
    wanted = {False: flip < 1, True: flip > 0}
    lacking = [flipped for flipped, needed in wanted.items() if needed and flipped not in cache.manifest.flips]
    if lacking:
        kind = "mirrored" if lacking[0] else "upright"
        fix = "0" if lacking[0] else "1"
        raise DataError(
            f"{where}: holds no {kind} images, and data.flip={flip:g} wants them; set data.flip={fix}, or make "
            "features of a run with that data.flip"
        )
    check_images(cache, files_of(data.train, data.dataset), processes)
    validation = None
    if data.val is not None and (features / "val" / layout.MANIFEST).is_file():
        validation = open_validation(features, recipe, data.val, model, processes)
    device = next(model.parameters()).device
    resident = _resident(cache, device)
    dataset = KnownDataset(data.dataset, cache, stage_draws(model), with_features=resident is None)
    return KnownTraining(cache, dataset, validation, device, resident)


def _refuse_others_trained(model: LongTailDetector, features: Path) -> None:
    """Refuses a detector with trained weights beside its classifier."""
    own = tuple(f"{name}." for name in model.classifiers())
    others = [name for name, weight in model.named_parameters() if weight.requires_grad and not name.startswith(own)]
    if others:
        raise RecipeError(
            f"--from-features {features}: {others[0]} is trained, and features lead to the classifier alone; leave "
            "--from-features out"
        )


def _resident(cache: Cache, device: torch.device) -> list[Tensor] | None:
    """All features on the GPU, where they leave room for the rest."""
    manifest = cache.manifest
    if device.type != "cuda" or manifest.size > GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        return None
    return load_features(cache, device)


def load_features(cache: Cache, device: torch.device) -> list[Tensor]:
    """All features of each stage, [all, D], on a device; a shard at a time is in ordinary memory.

    Args:
        cache: Of training images.
        device: Where to.
    """
    manifest, all_stages = cache.manifest, []
    for stage, rows in enumerate(cache.first_rows):
        found = torch.empty(rows[-1], manifest.features, dtype=getattr(torch, manifest.dtype), device=device)
        for number, (first, end) in enumerate(pairwise(rows)):
            found[first:end] = torch.from_numpy(np.array(cache.shard(number)[in_stage(layout.FEATURES, stage)]))
        all_stages.append(found)
    return all_stages


class _Features(msgspec.Struct):
    """What ``data.json`` has of the features of a run.

    Attributes:
        path: What ``lt-train cache --out`` was given.
        sha256: Of those of the training images.
        val: Of those of the validation images, if it is evaluated from features.
    """

    path: str
    sha256: str
    val: str | None = None


class _Record(msgspec.Struct):
    features: _Features | None = None


def features_to_record(known: KnownTraining | None) -> dict[str, Any]:
    """What ``data.json`` has of the features that a run is trained from."""
    if known is None:
        return {}
    val = None if known.validation is None else digest_of(known.validation.cache)
    record = _Features(str(known.cache.path.parent), digest_of(known.cache), val)
    return {"features": msgspec.structs.asdict(record)}


def digest_of(cache: Cache) -> str:
    """One digest of all that a cache holds."""
    return layout.digest_of(cache.manifest)


def check_same_features(record: Path, known: KnownTraining | None) -> None:
    """Refuses to go on with other features than a run was begun with.

    A run that was begun before there were features of its validation images goes on without them: its best checkpoint
    so far is the best by masks, if there are any, and features give boxes alone.

    Args:
        record: The ``data.json`` of the run.
        known: The features now, if any.

    Raises:
        DataError: It was begun with others.
    """
    try:
        was = msgspec.json.decode(record.read_bytes(), type=_Record).features
    except (OSError, ValueError) as error:
        raise DataError(f"{record}: cannot be read ({error}); put it back") from None
    if was is None and known is not None:
        raise DataError(
            f"--resume: the run was begun with images, and goes on with them; leave out --from-features "
            f"{known.cache.path.parent}"
        )
    if was is not None and known is None:
        raise DataError(
            f"--resume: the run was begun with features; give --from-features {was.path}, or start a new run"
        )
    if was is None or known is None:
        return
    if was.val is None:
        known.validation = None
    val = None if known.validation is None else digest_of(known.validation.cache)
    if (was.sha256, was.val) != (digest_of(known.cache), val):
        part = "train" if was.sha256 != digest_of(known.cache) else "val"
        raise DataError(
            f"--resume: the features ({part}) are not those that the run was begun with (sha256 differs), which were "
            f"in {was.path}; give those, or start a new run"
        )
