"""A trained model over images: the checkpoint of a run, and its detections keyed by image.

Several processes share the batches, not the images: a batch holds the same images whatever the number of processes, so
the detections are the same too (padding makes scores depend on the batch).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lt_data.annotations.category_ids import CategoryIds
from lt_data.arrays import IntArray
from lt_data.counts.categories import CategoryCounts, counts_from_plain
from lt_data.errors import DataError
from lt_data.files.pixels import AS_STORED, ImageReading
from lt_data.groups import Group
from lt_data.progress import SILENT
from lt_data.terminal import Bar
from lt_train.data.detection_data import DetectionData
from lt_train.data.images import as_input, read_image
from lt_train.data.workers import loaded
from lt_train.detectors import LongTailDetector
from lt_train.evaluation import Detections, join_detections, model_detections
from lt_train.inference.kept import ALL, Kept
from lt_train.memory import inference_advice, named_memory
from lt_train.processes import Processes, process_device
from lt_train.recipe.load import resolved_recipe
from lt_train.recipe.sections import Recipe
from lt_train.runs.checkpoint import load_result
from lt_train.runs.compute import prepare
from lt_train.runs.content import load_weights_into
from lt_train.runs.directory import RunDir
from lt_train.runs.metadata import trained_groups
from lt_train.runs.model import choose_device, make_model

T = TypeVar("T")


@dataclass(frozen=True)
class Trained:
    """A checkpoint ready to be used.

    Attributes:
        recipe: What the run was trained with.
        counts: Counts of its training file.
        groups: Groups that it was trained with.
        model: The detector, on the device of this process.
        train_sha256: Digest of its training file.
    """

    recipe: Recipe
    counts: CategoryCounts
    groups: tuple[Group, ...]
    model: LongTailDetector
    train_sha256: str


@dataclass(frozen=True)
class ImageList:
    """Images to look at.

    Attributes:
        ids: [N] int64, distinct.
        paths: N files.
        sizes: [N, 2] int64, width and height that they must have; 0 where unknown.
        reading: How they are read.
    """

    ids: IntArray
    paths: Sequence[Path]
    sizes: IntArray
    reading: ImageReading = AS_STORED

    @classmethod
    def of(cls, data: DetectionData, rows: IntArray | None = None) -> ImageList:
        """The images of an annotation file: all of them, or those in some rows."""
        if rows is None:
            return cls(data.file.image_ids, data.paths, data.file.image_sizes, data.reading)
        paths = [data.paths[row] for row in rows.tolist()]
        return cls(data.file.image_ids[rows], paths, data.file.image_sizes[rows], data.reading)


class ImageDetections(msgspec.Struct):
    """What was found in one image.

    Attributes:
        width: Of the image in pixels.
        height: Likewise.
        detections: With dataset ids, best first.
    """

    width: int
    height: int
    detections: Detections


class FoundById(msgspec.Struct):
    """What was found in several images, by image id.

    Attributes:
        images: Detections of the images that were read.
        unreadable: Why the others were not, one line each.
    """

    images: dict[int, ImageDetections]
    unreadable: dict[int, str]

    def detections(self) -> Detections:
        """Those of all images, in their order."""
        return join_detections([image.detections for image in self.images.values()])

    def to_bytes(self) -> bytes:
        """For another process; see :meth:`from_bytes`."""
        return pack(self)

    @classmethod
    def from_bytes(cls, content: bytes) -> FoundById:
        """What another process gave as :meth:`to_bytes`."""
        return unpack(content, cls)


def pack(value: Any) -> bytes:
    """Detections, or structs and lists of them, for another process; see :func:`unpack`."""
    return msgspec.msgpack.encode(value, enc_hook=_plain_array)


def unpack(content: bytes, kind: type[T]) -> T:
    """What another process gave as :func:`pack`."""
    return msgspec.msgpack.decode(content, type=kind, dec_hook=_array)


def _plain_array(array: Any) -> Any:
    """An array as type, shape and bytes, which MessagePack can hold."""
    assert isinstance(array, np.ndarray), "internal error: only arrays are no plain values"
    return array.dtype.str, array.shape, array.tobytes()


def _array(_: type, plain: Any) -> Any:
    kind, shape, content = plain
    return np.frombuffer(content, kind).reshape(shape)


def load_trained(
    run: RunDir, checkpoint: str, *, device: str | None = None, processes: Processes | None = None
) -> Trained:
    """The model of a run with the weights of a checkpoint.

    Args:
        run: The run directory.
        checkpoint: ``last`` or ``best``.
        device: Device, the recipe's unless given.
        processes: This process among others; each has a GPU of its own where the choice is left.

    Raises:
        DataError: The run or the checkpoint cannot be used.
        RecipeError: The device does not exist, or cannot compute as the recipe asks.
    """
    recipe = run.load_recipe()
    where = choose_device(process_device(device or recipe.device, processes or Processes()))
    if checkpoint == "best" and not run.best.is_file():
        raise DataError(f"{run.best}: not there; a run has a best checkpoint once it was evaluated on validation data")
    path = run.checkpoint(checkpoint)
    content = load_result(path)
    counts = counts_from_plain(content["categories"])
    return _trained(content, path, recipe, counts, trained_groups(run.data, recipe, counts), where)


def load_trained_file(path: Path, *, device: str | None = None) -> Trained:
    """The model of a checkpoint file, with the recipe that is in it.

    Args:
        path: The checkpoint, in its run; or anywhere, if its recipe has the bounds of the groups.
        device: As for :func:`load_trained`.

    Raises:
        DataError: The checkpoint cannot be used, or nothing says the groups that it was trained with.
        RecipeError: As for :func:`load_trained`.
    """
    content = load_result(path)
    recipe = resolved_recipe(content["recipe"], where=f"{path}: recipe")
    where = choose_device(process_device(device or recipe.device, Processes()))
    counts, record = counts_from_plain(content["categories"]), RunDir(path.resolve().parents[1]).data
    try:
        groups = trained_groups(record, recipe, counts)
    except DataError:
        if record.is_file():
            raise
        raise DataError(
            f"{path}: does not lie in its run, whose data.json has the groups that it was trained with; give RUN, or "
            "RUN/checkpoints/..."
        ) from None
    return _trained(content, path, recipe, counts, groups, where)


def _trained(
    content: Mapping[str, Any],
    path: Path,
    recipe: Recipe,
    counts: CategoryCounts,
    groups: tuple[Group, ...],
    device: torch.device,
) -> Trained:
    """The model of a checkpoint's content, on a device."""
    model = make_model(recipe, counts, groups, load_pretrained=False)
    load_weights_into(model, content["model"], path)
    return Trained(recipe, counts, groups, prepare(model, recipe.compute, device), content["train_sha256"])


def detect(
    model: LongTailDetector,
    images: ImageList,
    recipe: Recipe,
    *,
    category_ids: CategoryIds,
    processes: Processes | None = None,
    skip_unreadable: bool = False,
    kept: Kept = ALL,
    label: str = "evaluating",
) -> FoundById | None:
    """Detections of every image, in the order of the list.

    Args:
        model: The detector, on its device; left in the mode it was in.
        images: The images.
        recipe: Batch size and workers.
        category_ids: The map from labels to dataset ids.
        processes: This process among others that do their share of the batches.
        skip_unreadable: Go on after an image that cannot be read.
        kept: Which detections stay.
        label: What the progress bar says.

    Returns:
        What all processes found; ``None`` at all processes but the first.

    Raises:
        DataError: An image cannot be read; the processes looked at different images, or one of them is gone.
    """
    processes = processes or Processes()
    count, size = len(images.ids), recipe.eval.batch
    share = processes.share([list(range(start, min(start + size, count))) for start in range(0, count, size)])
    if processes.world > 1:
        label = f"{label} (process 1 of {processes.world})"
    found, done, total = FoundById({}, {}), 0, sum(map(len, share))
    was_training = model.training
    model.eval()
    memory = named_memory(label, inference_advice(recipe))
    with memory, torch.inference_mode(), Bar(label) if processes.is_first else nullcontext(SILENT) as bar:
        for batch in loaded_images(images, share, recipe.data.workers):
            processes.check()
            _detect_batch(model, images, batch, category_ids, kept, found)
            if found.unreadable and not skip_unreadable:
                raise DataError(list(found.unreadable.values()))
            done += len(batch)
            bar(done, total)
    model.train(was_training)
    if processes.world == 1:
        return merge([found], images.ids)
    parts = processes.gather(found.to_bytes())
    return None if parts is None else merge([FoundById.from_bytes(part) for part in parts], images.ids)


def merge(parts: Sequence[FoundById], image_ids: IntArray) -> FoundById:
    """What several processes found, in the order of ``image_ids``.

    Args:
        parts: One a process, in the order of their ranks.
        image_ids: Every image that there is, [N].

    Raises:
        DataError: An image was looked at by two processes, or by none.
    """
    owner: dict[int, int] = {}
    images: dict[int, ImageDetections] = {}
    unreadable: dict[int, str] = {}
    for rank, part in enumerate(parts):
        for image_id in (*part.images, *part.unreadable):
            if owner.setdefault(image_id, rank) != rank:
                raise DataError(
                    f"image {image_id} was looked at by processes {owner[image_id]} and {rank}; all processes must "
                    "read the same files"
                )
        images.update(part.images)
        unreadable.update(part.unreadable)
    wanted = image_ids.tolist()
    if owner.keys() != set(wanted):
        odd = sorted(owner.keys() ^ set(wanted))
        raise DataError(
            f"{len(odd)} images were looked at by no process or are not in the list (image ids "
            f"{', '.join(map(str, odd[:3]))}); all processes must read the same files"
        )
    return FoundById(
        {image_id: images[image_id] for image_id in wanted if image_id in images},
        {image_id: unreadable[image_id] for image_id in wanted if image_id in unreadable},
    )


def _detect_batch(
    model: LongTailDetector,
    images: ImageList,
    batch: Sequence[tuple[int, Tensor | DataError]],
    category_ids: CategoryIds,
    kept: Kept,
    found: FoundById,
) -> None:
    """Adds what is in the images of a batch to ``found``."""
    device = next(model.parameters()).device
    read = [(row, image) for row, image in batch if isinstance(image, Tensor)]
    for row, error in batch:
        if isinstance(error, DataError):
            found.unreadable[int(images.ids[row])] = " ".join(error.problems)
    if not read:
        return
    detections = model([as_input(image, device) for _, image in read])
    for (row, image), detection in zip(read, detections, strict=True):
        image_id, (height, width) = int(images.ids[row]), image.shape[-2:]
        strong = kept.of(detection)
        columns = model_detections(image_id, strong, height=height, width=width, category_ids=category_ids)
        found.images[image_id] = ImageDetections(width, height, columns)


class _Images(Dataset[tuple[int, Tensor | DataError]]):
    """Rows of an image list with their pixels, uint8 [3, H, W], or why there are none."""

    def __init__(self, images: ImageList) -> None:
        self.images = images

    def __getitem__(self, row: int) -> tuple[int, Tensor | DataError]:
        try:
            return row, read_image(self.images.paths[row], self.images.sizes[row], self.images.reading)
        except DataError as error:
            return row, error


def loaded_images(
    images: ImageList, batches: Sequence[list[int]], workers: int
) -> Iterator[list[tuple[int, Tensor | DataError]]]:
    """The images of each batch, loaded ahead by worker processes."""
    yield from loaded(_Images(images), batch_sampler=batches, num_workers=workers, collate_fn=list)
