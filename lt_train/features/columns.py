"""From images to the columns of a shard: what is kept of each, and in which type.

Shapes: A candidates of an image, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lt_data.errors import DataError
from lt_train.data.dataset import flip_horizontally
from lt_train.data.images import as_input, on_device
from lt_train.data.target import Target
from lt_train.detectors import LongTailDetector
from lt_train.detectors.detector import check_targets
from lt_train.detectors.region_features import CandidateFeatures, Choose, candidate_features, proposal_features
from lt_train.detectors.regions.sampling import BoxSampler, keyed_priorities
from lt_train.features import layout
from lt_train.randomness import draw_seed

Array = npt.NDArray[Any]
Version = dict[str, Array]
# columns with a row for each version of an image
_OF_VERSIONS = (layout.IMAGES, layout.READABLE, layout.SIZES, layout.ORIGINALS, layout.FILE_BYTES, layout.FILE_SHA256)

TYPES: Final[dict[str, str]] = {
    layout.IMAGES: "i8",
    layout.READABLE: "?",
    layout.SIZES: "i8",
    layout.ORIGINALS: "i8",
    layout.FILE_BYTES: "i8",
    layout.FILE_SHA256: "u1",
    layout.BOXES: "f4",
    layout.LABELS: "i4",
    layout.MATCHED: "i4",
    layout.IOU: "f4",
    layout.PARENTS: "i4",
    layout.PLACES: "i4",
}


def pool_places(pool: int | None, sampler: BoxSampler) -> Choose:
    """Which candidates of an image have features: all positives and a keyed draw of negatives.

    Args:
        pool: Regions of an image, at least; more where there are many positives. ``None`` keeps all candidates.
        sampler: Draws in training; of negatives there are as many as it can ask for, if there are so many.
    """

    def choose(labels: Tensor, target: Target) -> Tensor:
        if pool is None:
            return torch.arange(len(labels), device=labels.device)
        positives = torch.where(labels >= 1)[0]
        most = sampler.batch_size_per_image
        needed = most - min(len(positives), int(most * sampler.positive_fraction))
        number = min(max(pool - len(positives), needed), int((labels == 0).sum()))
        (priority,) = keyed_priorities([target["draw_seed"]], len(labels), labels.device)
        negatives = priority.where(labels == 0, -1).topk(number).indices
        return torch.cat([positives, negatives]).sort().values

    return choose


def train_versions(
    model: LongTailDetector, image: Tensor, target: Target, *, flips: Sequence[bool], choose: Choose, together: bool
) -> list[Version]:
    """What is kept of a training image, upright and mirrored as asked.

    Args:
        model: The detector in training mode, with stored statistics.
        image: uint8 [3, H, W].
        target: Its objects.
        flips: Whether each version is mirrored.
        choose: Which candidates have features.
        together: Whether the versions, which have one size, go through the network together.

    Raises:
        DataError: The target cannot be trained on.
    """
    check_targets([target], model.head.num_classes)
    device = next(model.parameters()).device
    samples = []
    for mirrored in flips:
        pixels, objects = flip_horizontally(image, target) if mirrored else (image, target.copy())
        # a draw of its own, whatever the seed of a run
        objects["draw_seed"] = draw_seed(0, "pool", target["image_id"], int(mirrored))
        samples.append((as_input(pixels, device), on_device(objects, device)))
    found = []
    for batch in [samples] if together else [[sample] for sample in samples]:
        images, targets = [pixels for pixels, _ in batch], [objects for _, objects in batch]
        found += candidate_features(model, images, targets, choose)
    about = {layout.IMAGES: np.array(target["image_id"]), layout.READABLE: np.array(True)}
    return [about | _in_stages([_of_candidates(one) for one in stages]) for stages in found]


def _of_candidates(found: CandidateFeatures) -> Version:
    """The columns of a stage."""
    return {
        layout.BOXES: _array(found.boxes),
        layout.LABELS: _array(found.labels),
        layout.MATCHED: _array(found.matched),
        layout.IOU: _array(found.iou),
        layout.PARENTS: _array(found.parents),
        layout.PLACES: _array(found.places),
        layout.FEATURES: _array(found.hidden),
    }


def _in_stages(stages: Sequence[Version]) -> Version:
    """The columns of all stages by their names on the disk; in the first one no region has a parent."""
    named = [(stage, name, column) for stage, columns in enumerate(stages) for name, column in columns.items()]
    return {layout.in_stage(name, stage): column for stage, name, column in named if stage or name != layout.PARENTS}


def unreadable_versions(image_id: int, flips: Sequence[bool], features: int, stages: int) -> list[Version]:
    """What stands for an image that could not be read: no candidates.

    Args:
        image_id: Of the image.
        flips: Whether each version is mirrored.
        features: D.
        stages: Of the detector.
    """
    none = np.zeros(0)
    empty = dict.fromkeys((layout.LABELS, layout.MATCHED, layout.IOU, layout.PARENTS, layout.PLACES), none)
    of_stage = {**empty, layout.BOXES: np.zeros((0, 4)), layout.FEATURES: np.zeros((0, features))}
    about = {layout.IMAGES: np.array(image_id), layout.READABLE: np.array(False)}
    return [about | _in_stages([of_stage] * stages) for _ in flips]


def val_version(model: LongTailDetector, image: Tensor, image_id: int) -> Version:
    """What is kept of a validation image.

    Args:
        model: The detector in evaluation mode.
        image: uint8 [3, H, W].
        image_id: Its dataset id.
    """
    found = proposal_features(model, as_input(image, next(model.parameters()).device))
    about = {
        layout.IMAGES: np.array(image_id),
        layout.SIZES: np.array(found.size),
        layout.ORIGINALS: np.array(image.shape[-2:]),
    }
    pairs = zip(found.boxes, found.hidden, strict=True)
    stages = [{layout.BOXES: _array(boxes), layout.FEATURES: _array(hidden)} for boxes, hidden in pairs]
    return about | _in_stages(stages)


def _array(values: Tensor) -> Array:
    if values.dtype == torch.bfloat16:
        values = values.float()
    found: Array = values.cpu().numpy()
    return found


def as_kept(version: Version, dtype: str) -> Version:
    """A version with its features in the type in which they are kept.

    Args:
        version: Of an image.
        dtype: ``float16`` or ``float32``.

    Raises:
        DataError: A feature is too large for the type.
    """
    with np.errstate(over="ignore"):
        features = {name: column.astype(dtype) for name, column in version.items() if _kind(name) == layout.FEATURES}
    if not all(np.isfinite(column).all() for column in features.values()):
        advice = "the weights are damaged" if dtype == "float32" else "keep float32 with --exact"
        raise DataError(f"image {int(version[layout.IMAGES])}: a feature is not finite in {dtype}; {advice}")
    return version | features


def _kind(name: str) -> str:
    """What a column is of, whatever the stage."""
    return name.rpartition(".")[2]


def joined(versions: Sequence[Version]) -> dict[str, Array]:
    """The columns of a shard.

    Args:
        versions: In their order; at least one, see :func:`as_kept`.
    """
    columns: dict[str, Array] = {}
    for name in versions[0]:
        parts = [version[name] for version in versions]
        column = np.stack(parts) if name in _OF_VERSIONS else np.concatenate(parts)
        columns[name] = column.astype(TYPES.get(_kind(name), column.dtype), copy=False)
    # in every stage
    for of, counted in ((layout.OFFSETS, layout.BOXES), (layout.KEPT_OFFSETS, layout.PLACES)):
        for name in [name for name in versions[0] if _kind(name) == counted]:
            columns[name.replace(counted, of)] = _offsets(versions, name)
    return columns


def _offsets(versions: Sequence[Version], name: str) -> Array:
    return np.cumsum([0, *(len(version[name]) for version in versions)], dtype=np.int64)
