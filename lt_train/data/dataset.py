"""Images and targets of an annotation file as training samples.

Labels are 1..C, 0 is the background; boxes are xyxy in pixels of the (changed, flipped, not yet resized) image.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from lt_data.arrays import IntArray
from lt_data.errors import DataError, LtError
from lt_data.files.stuff_maps import read_stuff_map, stuff_path
from lt_train.data.detection_data import DetectionData, clipped_boxes
from lt_train.data.flat import FlatTexts, RowsOfImages, Segmentations
from lt_train.data.images import fast_jpeg_decoder, read_image, resized_size
from lt_train.data.instance_masks import InstanceMasks
from lt_train.data.plan import Draw
from lt_train.data.target import MaskForm, Target
from lt_train.data.worker_memory import TRIM_EVERY, return_free_memory
from lt_train.data.workers import loaded
from lt_train.randomness import draw_seed, keyed_generator

Sample = tuple[Tensor, Target]
# inputs, which are images unless a dataset gives others, and targets
Batch = tuple[list[Any], list[Target]]


class Augment(Protocol):
    """What is done with a sample before it is flipped, see :mod:`lt_train.augment`."""

    @property
    def needs_masks(self) -> bool:
        """Whether targets need ``InstanceMasks``, even if they are not asked for."""

    def __call__(self, dataset: DetectionDataset, draw: Draw, image: Tensor, target: Target) -> Sample:
        """The sample of a draw, changed."""


class DetectionDataset(Dataset[Sample]):
    """Samples of the chosen images.

    An item is asked for by a :class:`Draw`; it is a uint8 image [3, H, W] and its :class:`Target`: ``ignore`` holds the
    boxes of crowds, if the image has any.

    Args:
        data: The annotations and images.
        rows: Positions of the images to use in ``data.file.image_ids``; row i of this dataset is ``rows[i]``.
        seed: Seed of the run.
        flip: Probability of a horizontal flip.
        short_sides: Short sides in pixels, a list or a ``range``; one is drawn for each sample.
        max_size: Largest long side in pixels; ``masks="runs"`` needs it, and what changes the scale.
        masks: What of the instances' masks targets hold: nothing, ``polygons`` (``InstanceMasks`` in the size of the
            image) or ``runs`` (``MaskRuns`` in the size that the detector resizes the image to).
        stuff: Folder of the images' stuff maps, which targets hold then.
        augment: Changes samples, or ``None``.
    """

    def __init__(
        self,
        data: DetectionData,
        rows: IntArray,
        *,
        seed: int = 0,
        flip: float = 0.0,
        short_sides: Sequence[int] = (),
        max_size: int | None = None,
        masks: MaskForm = "none",
        stuff: Path | None = None,
        augment: Augment | None = None,
    ) -> None:
        self.data = data
        self.rows = rows
        self.seed = seed
        self.flip = flip
        self.short_sides = short_sides
        self.max_size = max_size
        self.masks = masks
        self.stuff = stuff
        self.augment = augment
        self.boxes = torch.from_numpy(clipped_boxes(data.file).astype(np.float32))
        self.labels = torch.from_numpy(data.ids.to_labels(data.file.annotation_category_ids))
        self._image_of_row = torch.from_numpy(rows)
        self._image_ids = torch.from_numpy(data.file.image_ids)
        self._annotation_ids = torch.from_numpy(data.file.annotation_ids)
        self._sizes = torch.from_numpy(data.file.image_sizes)
        self._paths = FlatTexts([str(path) for path in data.paths])
        self._reading = data.reading
        self._with_masks = masks != "none" or (augment is not None and augment.needs_masks)
        self._segmentations = Segmentations(data.file) if self._with_masks else None
        index, images = data.file.image_index(), len(data.file.image_ids)
        self._image_of_annotation = torch.from_numpy(index)
        self._targets = RowsOfImages(index, data.usable, images)
        self._regions = RowsOfImages(index, data.regions, images)

    def __getstate__(self) -> dict[str, Any]:
        """What a loader process needs that is not forked: all but the annotation file."""
        return {key: value for key, value in self.__dict__.items() if key not in ("data", "rows")}

    def __len__(self) -> int:
        """Number of images."""
        return len(self._image_of_row)

    def image_id(self, row: int) -> int:
        """Dataset id of the image in a row."""
        return int(self._image_ids[self._image_of_row[row]])

    def pairs(self) -> tuple[IntArray, IntArray]:
        """Row and label (1..C) of every target, both int64 [targets], in the order of the file."""
        row_of_image = np.full(len(self.data.file.image_ids), -1)
        row_of_image[self.rows] = np.arange(len(self.rows))
        rows = row_of_image[self.data.file.image_index()[self.data.usable]]
        labels = self.labels.numpy()[self.data.usable]
        return rows[rows >= 0], labels[rows >= 0]

    def rows_of_classes(self) -> tuple[IntArray, ...]:
        """Rows of the images of each class that has any, ascending."""
        rows, labels = self.pairs()
        pairs = np.unique(np.stack([labels, rows]), axis=1)
        return tuple(np.split(pairs[1], np.flatnonzero(np.diff(pairs[0])) + 1))

    def __getitem__(self, draw: Draw) -> Sample:
        """The sample of a draw."""
        image_row = int(self._image_of_row[draw.row])
        image = self._image(image_row)
        target, key = self.target(draw), self._key(draw)
        if self._with_masks:
            target["masks"] = self._masks(self._targets.of(image_row), image)
        if self.stuff is not None:
            height, width = image.shape[-2:]
            stuff = read_stuff_map(stuff_path(self.stuff, Path(self._paths[image_row])), width=width, height=height)
            target["stuff"] = torch.from_numpy(stuff)
        if self.short_sides:
            generator = keyed_generator(self.seed, "short-side", *key)
            target["short_side"] = self.short_sides[
                int(torch.randint(len(self.short_sides), (1,), generator=generator))
            ]
        if self.augment is not None:
            image, target = self.augment(self, draw, image, target)
        if self.masks == "none":
            target.pop("masks", None)
        if self.is_flipped(draw):
            image, target = flip_horizontally(image, target)
        if self.masks == "runs":
            assert self.max_size is not None
            size = resized_size(image.shape[1], image.shape[2], target["short_side"], self.max_size)
            masks = target["masks"]
            assert isinstance(masks, InstanceMasks)
            target["masks"] = masks.resize(*size).runs()
        return image, target

    def target(self, draw: Draw) -> Target:
        """Objects, regions to ignore and key of a draw, of the image as it is stored; no file is opened."""
        image_row = int(self._image_of_row[draw.row])
        part, regions = self._targets.of(image_row), self._regions.of(image_row)
        target: Target = {
            "image_id": self.image_id(draw.row),
            "boxes": self.boxes[part],
            "labels": self.labels[part],
            "draw_seed": draw_seed(self.seed, "sample", *self._key(draw)),
        }
        if draw.label:
            target["only"] = draw.label
        if len(regions):
            target["ignore"] = self.boxes[regions]
        return target

    def is_flipped(self, draw: Draw) -> bool:
        """Whether the image of a draw is mirrored."""
        if not self.flip:
            return False
        return float(torch.rand(1, generator=keyed_generator(self.seed, "flip", *self._key(draw)))) < self.flip

    def _key(self, draw: Draw) -> tuple[int, int, int]:
        return draw.epoch, draw.position, self.image_id(draw.row)

    def instance(self, annotation: int) -> tuple[Tensor, InstanceMasks]:
        """The image that an annotation is of, whole, and its mask alone.

        Args:
            annotation: Position in the file.

        Raises:
            DataError: The image cannot be read.
        """
        image = self._image(int(self._image_of_annotation[annotation]))
        return image, self._masks(np.array([annotation]), image)

    def unchanged(self) -> DetectionDataset:
        """The same samples without ``augment``; they are flipped and have drawn sizes as before."""
        same = copy.copy(self)
        same.augment = None
        return same

    def _image(self, image_row: int) -> Tensor:
        return read_image(Path(self._paths[image_row]), self._sizes[image_row].numpy(), self._reading)

    def _masks(self, part: IntArray, image: Tensor) -> InstanceMasks:
        """Masks of the annotations ``part`` of an image."""
        assert self._segmentations is not None
        size = (image.shape[1], image.shape[2])
        segmentations = [self._segmentations[index] for index in part.tolist()]
        wrong = [isinstance(s, dict) and s.get("size") != list(size) for s in segmentations]
        if any(wrong):
            names = ", ".join(f"annotation {number}" for number in self._annotation_ids[part[wrong]].tolist()[:3])
            image_id = int(self._image_ids[self._image_of_annotation[int(part[0])]])
            raise DataError(
                f"{self._segmentations.path}: run lengths of another size than image {image_id}, which is {size[0]} "
                f"high and {size[1]} wide ({names}); correct their size"
            )
        return InstanceMasks.from_segmentations(segmentations, *size, boxes=self.boxes[part])


def flip_horizontally(image: Tensor, target: Target) -> Sample:
    """Mirrors an image [3, H, W], its boxes, its regions to ignore, its masks and its stuff map."""
    flipped, width = target.copy(), image.shape[-1]
    flipped["boxes"] = _flipped_boxes(target["boxes"], width)
    if "ignore" in target:
        flipped["ignore"] = _flipped_boxes(target["ignore"], width)
    if "stuff" in target:
        flipped["stuff"] = target["stuff"].flip(-1)
    masks = target.get("masks")
    if isinstance(masks, InstanceMasks):
        flipped["masks"] = masks.flip_horizontal()
    return image.flip(-1), flipped


def _flipped_boxes(boxes: Tensor, width: int) -> Tensor:
    flipped = boxes.clone()
    flipped[:, [0, 2]] = width - boxes[:, [2, 0]]
    return flipped


def make_loader(
    dataset: Dataset[Any],
    draws: Iterable[Sequence[Draw]],
    *,
    workers: int,
    pin_memory: bool = False,
    left_out: Callable[[LtError], None] | None = None,
) -> Generator[Batch, None, None]:
    """Images and targets of each forward pass, loaded ahead by worker processes.

    Whoever may leave early closes it, see :func:`lt_train.data.workers.loaded`.

    Args:
        dataset: Where samples come from, asked for by draws; of :class:`DetectionDataset` they are images.
        draws: The draws of each forward pass, in order.
        workers: Processes; 0 loads in this one.
        pin_memory: Whether the images go to a GPU.
        left_out: Called with what is wrong with an image that cannot be read, which is left out; without it the first
            one is an error.

    Yields:
        Images and targets as two lists: their sizes differ. They may be empty.

    Raises:
        DataError: An image cannot be read; the same line whether a worker met it or not.
    """
    # imported once, in front of the fork
    fast_jpeg_decoder()
    options = {"num_workers": workers, "collate_fn": _collate, "pin_memory": pin_memory}
    with closing(loaded(_Guarded(dataset), batch_sampler=draws, **options)) as batches:
        for images, targets, errors in batches:
            for error in errors:
                if left_out is None:
                    raise error
                left_out(error)
            yield images, targets


class _Guarded(Dataset[Any]):
    """Returns errors instead of raising them: a loader would bury their lines under a worker's traceback."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset
        self._loaded = 0

    def __getitem__(self, draw: Draw) -> Any:
        self._loaded += 1
        if get_worker_info() is not None and self._loaded % TRIM_EVERY == 0:
            return_free_memory()
        try:
            return self.dataset[draw]
        except LtError as error:
            return error


def _collate(samples: Sequence[Any]) -> tuple[list[Tensor], list[Target], list[LtError]]:
    """Images and targets of the samples that could be read, and why the others could not."""
    errors = [sample for sample in samples if isinstance(sample, LtError)]
    if not errors:
        return [image for image, _ in samples], [target for _, target in samples], []
    read = [(place, sample) for place, sample in enumerate(samples) if not isinstance(sample, LtError)]
    # who else is in a micro-batch does not depend on what is left out
    for place, (_, target) in read:
        target["place"] = place
    return [image for _, (image, _) in read], [target for _, (_, target) in read], errors
