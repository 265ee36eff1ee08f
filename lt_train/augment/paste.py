"""Copy-paste: objects of other images, cut out by their masks and put on top of what is there.

The class is drawn first, all classes alike, then one of its objects. Counts of instances, which heads and groups go by,
stay those of the file. Shapes: images uint8 [3, H, W]; boxes xyxy pixels; bitmaps [h, w] of a part of an image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from lt_data.errors import DataError
from lt_train.augment.options import PasteSection
from lt_train.augment.windows import Window, with_objects
from lt_train.data.dataset import DetectionDataset, Sample
from lt_train.data.detection_data import DetectionData
from lt_train.data.instance_masks import InstanceMasks, MaskKind
from lt_train.data.target import Target

Bitmap = npt.NDArray[np.uint8]
# what is said of data without masks, see check_segmentations
FOR_PASTE: Final = {
    "why": "objects are pasted by their masks (data.augment.paste)",
    "instead": "set data.augment.paste.objects=0",
}


@dataclass(frozen=True)
class Sources:
    """What can be pasted. Tensors, because they travel to processes that are not forked.

    Attributes:
        annotations: Positions in the file of those with a mask, by class, [n] int64.
        start: Where those of each of the K classes that have any begin, and the last ones end, [K + 1] int64.
    """

    annotations: Tensor
    start: Tensor

    def drawn(self, of_class: float, of_object: float) -> int:
        """Position of an annotation.

        Args:
            of_class: In 0..1, which class.
            of_object: In 0..1, which of its objects.
        """
        classes = len(self.start) - 1
        chosen = min(int(of_class * classes), classes - 1)
        first, end = self.start[chosen : chosen + 2].tolist()
        return int(self.annotations[min(first + int(of_object * (end - first)), end - 1)])


def paste_sources(data: DetectionData, kinds: npt.NDArray[np.uint8]) -> Sources:
    """The targets that have a mask, by class.

    Args:
        data: The training data.
        kinds: :class:`MaskKind` of each usable annotation, in the order of the file.

    Raises:
        DataError: None has a mask.
    """
    rows = np.flatnonzero(data.usable)
    masked = rows[kinds == MaskKind.MASK]
    if not len(masked):
        raise DataError(
            f"{data.file.path}: none of the {len(rows):,} annotations has a mask with an area, but {FOR_PASTE['why']}; "
            f"{FOR_PASTE['instead']}, or give a file with masks"
        )
    labels = data.ids.to_labels(data.file.annotation_category_ids[masked])
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    return Sources(torch.from_numpy(masked[order]), torch.from_numpy(np.append(starts, len(order))))


def paste(
    image: Tensor,
    target: Target,
    dataset: DetectionDataset,
    sources: Sources,
    options: PasteSection,
    generator: torch.Generator,
) -> Sample:
    """Puts 0 to ``options.objects`` objects on an image; masks and boxes of what they cover are those of what is left.

    Args:
        image: [3, H, W]; not changed.
        target: Its objects, with ``InstanceMasks``.
        dataset: Where the objects and their images are read, one at a time.
        sources: What can be pasted.
        options: How many, how large, and what is dropped.
        generator: Source of all draws: as many for each object.

    Raises:
        DataError: An image cannot be read.

    Source: Ghiasi et al., CVPR 2021, section 3; classes are drawn as in class-aware sampling.
    """
    draws = torch.rand(1 + 5 * options.objects, dtype=torch.float64, generator=generator).tolist()
    # the whole image stays in the layout that its decoder gave it
    scene = _Scene(image.clone(), target)
    for number in range(min(int(draws[0] * (options.objects + 1)), options.objects)):
        of_class, of_object, size, down, across = draws[1 + 5 * number : 6 + 5 * number]
        annotation = sources.drawn(of_class, of_object)
        low, high = map(math.log, options.scale)
        found = cut_out(*dataset.instance(annotation), math.exp(low + size * (high - low)), scene.size)
        if found is not None:
            pixels, bitmap = found
            room = [side - own + 1 for side, own in zip(scene.size, bitmap.shape, strict=True)]
            top, left = (min(int(d * r), r - 1) for d, r in zip((down, across), room, strict=True))
            scene.put(pixels, bitmap, top, left, int(dataset.labels[annotation]))
    return scene.image, scene.seen(options.hidden)


def cut_out(image: Tensor, mask: InstanceMasks, factor: float, most: tuple[int, int]) -> tuple[Tensor, Bitmap] | None:
    """The pixels of an object, resized, and which of them are its own; ``None`` if no pixel is.

    Args:
        image: The object's image.
        mask: Its mask alone.
        factor: By which its sides are multiplied, less if it would not fit.
        most: Height and width that it has to fit.

    Returns:
        uint8 [3, h, w], and 0 or 1 [h, w].
    """
    bitmap = mask.bitmaps()[0]
    if not bitmap.any():
        return None
    left, top, width, height = window_of(bitmap)
    factor = min(factor, most[0] / height, most[1] / width)
    size = max(1, int(height * factor)), max(1, int(width * factor))
    shape = mask.crop(left, top, width, height).resize(*size).bitmaps()[0]
    if not shape.any():
        return None
    pixels = image[:, top : top + height, left : left + width]
    if size != (height, width):
        resized = F.interpolate(pixels[None].float(), size=size, mode="bilinear", antialias=True)[0]
        pixels = resized.round_().clamp_(0, 255).to(torch.uint8)
    return pixels, shape


def window_of(bitmap: Bitmap) -> Window:
    """The smallest window with all pixels of a bitmap that has any."""
    rows, columns = (np.flatnonzero(bitmap.any(axis=axis)) for axis in (1, 0))
    left, top = int(columns[0]), int(rows[0])
    return Window(left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top)


class _Scene:
    """An image that objects are put on, one after the other.

    Attributes:
        image: Changed in place.
        target: What is on it, whether it can still be seen or not.
        whole: Pixels of the mask, before anything was put on it, of each object that something was put on.
        left: Pixels of it that can still be seen.
    """

    def __init__(self, image: Tensor, target: Target) -> None:
        self.image = image
        self.target = target
        self.size: tuple[int, int] = (image.shape[1], image.shape[2])
        self.whole: dict[int, int] = {}
        self.left: dict[int, int] = {}

    @property
    def masks(self) -> InstanceMasks:
        """Masks of what is on it."""
        masks = self.target["masks"]
        assert isinstance(masks, InstanceMasks)
        return masks

    def put(self, pixels: Tensor, bitmap: Bitmap, top: int, left: int, label: int) -> None:
        """Puts an object on top.

        Args:
            pixels: [3, h, w].
            bitmap: Which of them are its own, [h, w].
            top: Row of the first one.
            left: Column of the first one.
            label: Its class.
        """
        height, width = bitmap.shape
        rows, columns = slice(top, top + height), slice(left, left + width)
        own = torch.from_numpy(bitmap).bool()
        self.image[:, rows, columns] = torch.where(own, pixels, self.image[:, rows, columns])
        alone = np.zeros(self.size, np.uint8)
        alone[rows, columns] = bitmap
        boxes = self.target["boxes"].clone()
        masks = self.masks.with_bitmaps(self._covered(boxes, alone))
        box = _box_of(bitmap, top, left)
        self.target = cast(
            Target,
            {
                **self.target,
                "boxes": torch.cat([boxes, boxes.new_tensor([box])]),
                "labels": torch.cat([self.target["labels"], torch.tensor([label])]),
                "masks": masks.with_bitmaps([(len(masks), alone)]),
            },
        )

    def _covered(self, boxes: Tensor, cover: Bitmap) -> Iterator[tuple[int, Bitmap]]:
        """What can be seen of each object that loses pixels, one at a time; its box is changed in place."""
        masks = self.masks
        for index in masks.overlapped(cover):
            now = masks.bitmaps([index])[0]
            self.whole.setdefault(index, int(now.sum()))
            now &= 1 - cover
            self.left[index] = int(now.sum())
            if self.left[index]:
                boxes[index] = boxes.new_tensor(_box_of(now, 0, 0))
            yield index, now

    def seen(self, hidden: float) -> Target:
        """The target without the objects of which more than the share ``hidden`` is covered, or all."""
        seen = torch.ones(len(self.masks), dtype=torch.bool)
        for index, whole in self.whole.items():
            seen[index] = self.left[index] > 0 and self.left[index] >= (1 - hidden) * whole
        return with_objects(self.target, self.target["boxes"], self.masks, seen)


def _box_of(bitmap: Bitmap, top: int, left: int) -> tuple[int, int, int, int]:
    """The box xyxy of the pixels of a bitmap that has any and lies at a place."""
    window = window_of(bitmap)
    x, y = left + window.left, top + window.top
    return x, y, x + window.width, y + window.height
