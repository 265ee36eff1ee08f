"""Where detections of a system stay until it is measured: in memory, or of many systems in files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Protocol

from lt_data.errors import OutputError
from lt_train.data.detection_data import DetectionData
from lt_train.evaluation import Detections
from lt_train.inference.detect import FoundById, ImageDetections, merge, pack, unpack
from lt_train.processes import Processes

# bytes of the length that stands in front of an image's detections
_LENGTH = 8


class Store(Protocol):
    """Takes what a system finds in one image after the other."""

    def add(self, image_id: int, found: ImageDetections) -> None:
        """Keeps what was found in an image."""

    def found(self) -> FoundById:
        """All that was kept."""


class Held:
    """A store in memory."""

    def __init__(self) -> None:
        self._found = FoundById({}, {})

    def add(self, image_id: int, found: ImageDetections) -> None:
        """Keeps what was found in an image."""
        self._found.images[image_id] = found

    def found(self) -> FoundById:
        """All that was kept."""
        return self._found


class PutAside:
    """A store in a file without a name, which is gone when the process is, however it ends.

    Args:
        folder: On the disk that holds it.

    Raises:
        OutputError: It cannot be made there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids: list[int] = []
        try:
            # open from one pass over the images to the next
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        except OSError as error:
            raise self._full(error) from None

    def add(self, image_id: int, found: ImageDetections) -> None:
        """Keeps what was found in an image.

        Raises:
            OutputError: The disk is full.
        """
        content = pack(found)
        try:
            self._file.write(len(content).to_bytes(_LENGTH, "big") + content)
        except OSError as error:
            raise self._full(error) from None
        self._ids.append(image_id)

    def found(self) -> FoundById:
        """All that was kept."""
        images = {}
        self._file.seek(0)
        for image_id in self._ids:
            length = int.from_bytes(self._file.read(_LENGTH), "big")
            images[image_id] = unpack(self._file.read(length), ImageDetections)
        return FoundById(images, {})

    def close(self) -> None:
        """Gives the room back."""
        self._file.close()

    def _full(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self._folder}: what a run finds cannot be kept there until it is measured ({error.strerror}); make room"
        )


def collected(store: Store, data: DetectionData, processes: Processes) -> Detections | None:
    """What a system found in all images, in the order of the file; all processes come here.

    Args:
        store: What it found in this process's share.
        data: The images.
        processes: This process among others.

    Returns:
        The detections; ``None`` in all processes but the first.
    """
    own = store.found()
    if processes.world == 1:
        return merge([own], data.file.image_ids).detections()
    parts = processes.gather(own.to_bytes())
    if parts is None:
        return None
    return merge([FoundById.from_bytes(part) for part in parts], data.file.image_ids).detections()
