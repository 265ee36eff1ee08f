"""Whether the images are the files that features were made of, by size and sha256 of each, which the shards hold.

In use the size and the time of every file are looked at; one whose time is not that of its last comparison is read and
compared, once. So 118,000 images cost a look at the folder, and after they were copied one reading of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from lt_data.errors import DataError
from lt_data.files.writing import sha256_of
from lt_data.terminal import Bar
from lt_train.data.dataset import DetectionDataset
from lt_train.data.detection_data import DetectionData
from lt_train.features import layout
from lt_train.features.columns import Version
from lt_train.features.reading import Cache
from lt_train.features.shards import Stamp, Stamps, keep_stamps, read_stamps
from lt_train.processes import Processes

# files that are looked at at a time, by each thread: disks elsewhere answer many at once
_AT_ONCE, _THREADS = 500, 8
# bytes of a file that could not be read when features were made
UNREADABLE: Final = -1
_NO_DIGEST: Final = bytes(sha256().digest_size)


class ImageFile(NamedTuple):
    """An image as features were made of it.

    Attributes:
        path: The file now.
        size: Its bytes then, or ``UNREADABLE``.
        digest: Its sha256 then.
    """

    path: Path
    size: int
    digest: bytes


def file_columns(path: Path) -> tuple[Version, Stamp | None]:
    """What is kept of the file of an image, and its size and time; ``None`` of one that cannot be read.

    Args:
        path: The file.
    """
    size, digest, stamp = UNREADABLE, _NO_DIGEST, None
    try:
        stamp = _stamp(path)
        size, digest = stamp[0], bytes.fromhex(sha256_of(path))
    except OSError:
        stamp = None
    return {layout.FILE_BYTES: np.array(size), layout.FILE_SHA256: np.frombuffer(digest, np.uint8)}, stamp


def files_of(data: DetectionData, dataset: DetectionDataset) -> list[Path]:
    """The file of each training image, in the order of the cache.

    Args:
        data: The training file.
        dataset: Its samples.
    """
    return [data.paths[row] for row in dataset.rows.tolist()]


def note_images(cache: Path, stamps: Stamps) -> None:
    """Notes files that need no comparison: features have just been made of them.

    Args:
        cache: ``OUT/train`` or ``OUT/val``.
        stamps: Size and time by path.
    """
    path = cache / layout.COMPARED_IMAGES
    keep_stamps(path, {**read_stamps(path), **stamps})


def check_images(
    cache: Cache, paths: Sequence[Path], processes: Processes, *, shards: Sequence[int] | None = None
) -> None:
    """Refuses images that are not those that features were made of; the first process looks at them.

    Args:
        cache: Whose features; of an older version there is nothing to compare with.
        paths: Files of the images, in the order of the cache.
        processes: This process among others.
        shards: Which of them to look at; all unless given.

    Raises:
        DataError: One line, with the first of them.
    """
    if not processes.is_first:
        return
    chosen = range(cache.manifest.shard_count) if shards is None else shards
    wanted = [image for shard in chosen for image in _of_shard(cache, shard, paths)]
    place = cache.path / layout.COMPARED_IMAGES
    stamps, new, changed = read_stamps(place), Stamps(), list[str]()
    for image, outcome in zip(wanted, _outcomes(wanted, stamps), strict=True):
        name = str(image.path)
        if isinstance(outcome, str):
            changed.append(f"{name} is not the file that the features were made of ({outcome})")
        elif outcome is not None and stamps.get(name) != outcome:
            new[name] = outcome
    if new:
        keep_stamps(place, {**stamps, **new})
    if changed:
        more = f", and {len(changed) - 1:,} others" if len(changed) > 1 else ""
        fix = "put the files back, or make the features again, with lt-train cache and --force"
        raise DataError(f"{cache.path}: {changed[0]}{more}; {fix}")


def _outcomes(images: Sequence[ImageFile], stamps: Stamps) -> Iterator[Stamp | str | None]:
    """What :func:`_compared` says of each image, in their order."""
    parts = [images[start : start + _AT_ONCE] for start in range(0, len(images), _AT_ONCE)]
    threads, done = ThreadPoolExecutor(_THREADS), 0
    try:
        with Bar("checking images") as bar:
            for found in threads.map(lambda part: [_compared(image, stamps) for image in part], parts):
                yield from found
                done += len(found)
                bar(done, len(images))
    finally:
        # whoever stops it need not wait for the rest
        threads.shutdown(cancel_futures=True)


def _of_shard(cache: Cache, shard: int, paths: Sequence[Path]) -> Iterator[ImageFile]:
    columns, versions = cache.shard(shard), len(cache.manifest.flips)
    if layout.FILE_BYTES not in columns:
        return
    for place, row in enumerate(cache.manifest.rows(shard)):
        version = place * versions
        size, digest = int(columns[layout.FILE_BYTES][version]), columns[layout.FILE_SHA256][version].tobytes()
        yield ImageFile(paths[row], size, digest)


def _compared(image: ImageFile, stamps: Stamps) -> Stamp | str | None:
    """Size and time of a file that is the same, ``None`` of one that never could be read; else what is different."""
    try:
        stamp = _stamp(image.path)
        if stamp[0] != image.size and image.size != UNREADABLE:
            return f"{stamp[0]:,} bytes, then {image.size:,}"
        if image.size != UNREADABLE and stamps.get(str(image.path)) == stamp:
            return stamp
        digest = bytes.fromhex(sha256_of(image.path))
    except OSError as error:
        return None if image.size == UNREADABLE else f"it cannot be read: {error.strerror}"
    if image.size == UNREADABLE:
        return "it could not be read then"
    return stamp if digest == image.digest else "other bytes of the same number"


def _stamp(path: Path) -> Stamp:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
