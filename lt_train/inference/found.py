"""What a model found in one image, for Python: arrays, names, masks, a picture, records.

Shapes: n objects, the best first; H, W rows and columns of the image.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lt_data.arrays import BoolArray, FloatArray, IntArray
from lt_data.errors import RecipeError, shown
from lt_data.files.pixels import ImageReading
from lt_train.data.images import read_image
from lt_train.evaluation import Detections
from lt_train.inference.kept import check_fraction

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Labels:
    """The categories and groups of a model.

    Attributes:
        names: Name of each category by dataset id.
        group_of: Name of each category's group by dataset id.
        groups: Names of the groups.
    """

    names: Mapping[int, str]
    group_of: Mapping[int, str]
    groups: Sequence[str]


@dataclass(frozen=True, eq=False, repr=False)
class Found:
    """What a model found in an image; made by :class:`~lt_train.inference.load.TrainedModel`.

    Its arrays cannot be written to.

    Attributes:
        path: The image file; ``None`` for an image that was given in memory.
        width: Of the image in pixels.
        height: Likewise.
        boxes: [n, 4] float64, x1, y1, x2, y2 in pixels of the image.
        scores: [n] float64 in 0..1, descending.
        category_ids: [n] int64, the dataset's ids.
        names: n category names.
        groups: n names of the groups of the categories.
    """

    path: Path | None
    width: int
    height: int
    boxes: FloatArray
    scores: FloatArray
    category_ids: IntArray
    names: tuple[str, ...]
    groups: tuple[str, ...]
    _detections: Detections = field(repr=False)
    _labels: Labels = field(repr=False)
    # what was given in memory is kept to be drawn on, a file is read again
    _pixels: Tensor | None = field(repr=False)
    _reading: ImageReading = field(repr=False)

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.scores)

    def __repr__(self) -> str:
        """The image, its size, how many objects, and the best one."""
        best = f", best {self.names[0]} {self.scores[0]:.2f}" if len(self) else ""
        return f"Found({self.path or 'image'}, {self.width} x {self.height}: {len(self)} objects{best})"

    @property
    def masks(self) -> BoolArray | None:
        """Masks at the size of the image, bool [n, H, W]; ``None`` of a model without masks.

        Made anew each time, a byte a pixel and object: :meth:`mask` gives one, :meth:`to_coco` run lengths.
        """
        if self._detections.segmentations is None:
            return None
        masks = np.zeros((len(self), self.height, self.width), np.bool_)
        for i in range(len(self)):
            masks[i] = self.mask(i)
        return masks

    def mask(self, i: int) -> BoolArray | None:
        """The mask of object ``i``, bool [H, W]; ``None`` of a model without masks.

        Raises:
            IndexError: There is no such object.
        """
        from pycocotools import mask as rle

        segmentations = self._detections.segmentations
        if segmentations is None:
            return None
        pixels: npt.NDArray[np.uint8] = rle.decode(segmentations[i])
        return pixels.astype(np.bool_)

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results, as ``lt-train predict`` writes them: x, y, width, height, and masks as run lengths.

        Args:
            image_id: What the results call the image.

        Raises:
            RecipeError: The id is no whole number.
        """
        try:
            number = operator.index(image_id)
        except TypeError:
            raise RecipeError(f"image_id: got {shown(image_id)}; allowed is a whole number") from None
        return list(replace(self._detections, images=np.full(len(self), number, np.int64)).records())

    def draw(self, *, threshold: float = 0.5) -> Image:
        """The image with masks, boxes, names and scores, in the colours of the groups, as a new RGB image.

        It has a legend below, or says there that no score reaches the threshold, and is enlarged or reduced to 640 to
        1400 pixels. A file is read again for it.

        Args:
            threshold: Lowest score that is drawn, 0 to 1.

        Raises:
            DataError: The file is gone, or holds an image of another size now.
            RecipeError: The threshold is out of range.
        """
        from lt_train.report.detection_picture import draw_detections

        check_fraction(threshold, "threshold")
        return draw_detections(
            self._image().permute(1, 2, 0).numpy(),
            list(self._detections.records()),
            names=self._labels.names,
            group_of=self._labels.group_of,
            groups=self._labels.groups,
            threshold=threshold,
        )

    def _image(self) -> Tensor:
        if self._pixels is not None:
            return self._pixels
        assert self.path is not None, "internal error: an image that is no file is kept"
        return read_image(self.path, (self.width, self.height), self._reading)


def found_in(
    detections: Detections, boxes: FloatArray, pixels: Tensor, path: Path | None, labels: Labels, reading: ImageReading
) -> Found:
    """What was found in an image.

    Args:
        detections: Of the image, best first, with dataset ids.
        boxes: Their corners, [n, 4].
        pixels: uint8 [3, H, W]; kept only where there is no path.
        path: The image file, if it is one.
        labels: Of the model.
        reading: How files are read.
    """
    ids = detections.categories.tolist()
    # results and records of them are the same memory
    for column in (boxes, detections.scores, detections.categories):
        column.setflags(write=False)
    return Found(
        path,
        int(pixels.shape[2]),
        int(pixels.shape[1]),
        boxes,
        detections.scores,
        detections.categories,
        tuple(labels.names[i] for i in ids),
        tuple(labels.group_of[i] for i in ids),
        detections,
        labels,
        pixels if path is None else None,
        reading,
    )
