"""What loader processes read of an annotation file, in a few large arrays instead of a million small objects.

A process that looks at a Python object writes to it (its reference count), so objects that all share at the start end
up copied into each. Arrays are only read. They are tensors, because PyTorch hands tensors through shared memory to
processes that are not forked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import torch

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.records import UNREADABLE, SegmentationRecord, places_of
from lt_data.arrays import BoolArray, IntArray
from lt_data.errors import DataError
from lt_data.files.reading import Bytes, check_not_cut, check_unchanged, map_file

_SEGMENTATION = msgspec.json.Decoder(SegmentationRecord)


class FlatTexts:
    """Texts, one after the other.

    Args:
        texts: n texts; what is no Unicode in file names is kept.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        parts = [text.encode("utf-8", "surrogateescape") for text in texts]
        self._bytes = torch.frombuffer(bytearray(b"".join(parts) or b"\0"), dtype=torch.uint8)
        self._ends = torch.tensor([0, *map(len, parts)]).cumsum(0)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        first, end = self._ends[index : index + 2].tolist()
        return self._bytes[first:end].numpy().tobytes().decode("utf-8", "surrogateescape")


class Segmentations:
    """The ``segmentation`` of each annotation, decoded from the bytes of the file when it is asked for.

    Args:
        file: The annotation file.
    """

    def __init__(self, file: AnnotationFile) -> None:
        self.path, self._stamp = file.path, file.stamp
        # a mapped file is mapped anew by a process that is not forked; what was unpacked travels
        self._unpacked = file.data if isinstance(file.data, bytes) else None
        self._data = file.data
        start, end = places_of(file.data, file.annotation_records)
        self._start, self._end = torch.from_numpy(start), torch.from_numpy(end)

    def __getitem__(self, index: int) -> Any:
        """Polygons, run lengths as a dict, or ``None``, as in the file.

        Raises:
            DataError: It holds a number or text that cannot be read, or the file was changed.
        """
        check_not_cut(self.path, self._stamp)
        record = self._data[int(self._start[index]) : int(self._end[index])]
        try:
            return _SEGMENTATION.decode(record).segmentation
        except UNREADABLE as error:
            check_unchanged(self.path, self._stamp)
            raise DataError(f"{self.path}: annotations[{index}]: {error}; mend this record") from None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_data"}

    @cached_property
    def _data(self) -> Bytes:
        if self._unpacked is not None:
            return self._unpacked
        check_unchanged(self.path, self._stamp)
        return map_file(self.path)


class RowsOfImages:
    """Annotations of each image among those chosen, in file order.

    Args:
        image: Position of each annotation's image, [A].
        chosen: Which annotations count, [A].
        images: N.
    """

    def __init__(self, image: IntArray, chosen: BoolArray, images: int) -> None:
        positions = np.flatnonzero(chosen)
        of_image = image[positions]
        order = np.argsort(of_image, kind="stable")
        self._positions = torch.from_numpy(positions[order])
        self._start = torch.from_numpy(np.searchsorted(of_image[order], np.arange(images + 1)))

    def of(self, image: int) -> IntArray:
        """Positions of an image's annotations in the file."""
        first, end = self._start[image : image + 2].tolist()
        return self._positions[first:end].numpy()
