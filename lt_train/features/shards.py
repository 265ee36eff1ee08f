"""Shards: written whole or not at all, mapped into memory, compared with their digests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from lt_data.errors import DataError, OutputError
from lt_data.files.writing import replacing_directory, sha256_of, write_whole
from lt_data.progress import SILENT, Progress
from lt_train.features.layout import CHECKED, DIGESTS, LATER, Manifest, ShardRecord, encoded, shard_folder

Array = npt.NDArray[Any]
# size and time of a file; by its name
Stamp = tuple[int, int]
Stamps = dict[str, Stamp]


def write_shard(folder: Path, columns: Mapping[str, Array]) -> None:
    """Writes a shard; whatever ends the process meanwhile, there is a whole one or none.

    Args:
        folder: Where; a damaged one is replaced.
        columns: Arrays by the names of :mod:`lt_train.features.layout`.

    Raises:
        OutputError: It cannot be written.
    """
    with replacing_directory(folder) as work:
        for name, column in columns.items():
            with (work / f"{name}.npy").open("wb") as handle:
                np.save(handle, column, allow_pickle=False)
                handle.flush()
                os.fsync(handle.fileno())
        files = sorted(path for path in work.iterdir())
        record = ShardRecord({path.name: sha256_of(path) for path in files}, sum(path.stat().st_size for path in files))
        (work / DIGESTS).write_bytes(encoded(msgspec.to_builtins(record)))


def read_record(folder: Path) -> ShardRecord | None:
    """Digests of a shard as it was written; ``None`` where there is none that can be read."""
    try:
        return msgspec.json.decode((folder / DIGESTS).read_bytes(), type=ShardRecord)
    except (OSError, ValueError):
        return None


def open_shard(folder: Path, names: Iterable[str]) -> dict[str, Array]:
    """The columns of a shard, mapped: nothing is read before it is looked at.

    Args:
        folder: Of the shard.
        names: Of the columns that it has.

    Raises:
        DataError: A file is gone or is no array.
    """
    columns = {}
    for name in (*names, *(name for name in LATER if (folder / f"{name}.npy").exists())):
        path = folder / f"{name}.npy"
        try:
            columns[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); lt-train cache --repair computes it again") from None
    return columns


def damaged_shards(cache: Path, manifest: Manifest, progress: Progress = SILENT, *, trust: bool = False) -> list[int]:
    """Shards that are not what they were when they were written.

    Args:
        cache: ``OUT/train`` or ``OUT/val``.
        manifest: Of the cache; of one that is not finished, missing shards count as damaged.
        progress: Told of the bytes that are compared.
        trust: Leave out files that were compared before and have the same size and time since.
    """
    stamps = read_stamps(cache / CHECKED) if trust else {}
    records: list[ShardRecord | None] = [*(manifest.shards or ())]
    records = records or [read_record(shard_folder(cache, shard)) for shard in range(manifest.shard_count)]
    total, done, damaged = sum(record.size for record in records if record is not None), 0, []
    for shard, record in enumerate(records):
        folder = shard_folder(cache, shard)
        if record is None or not all(_is_whole(folder / name, digest, stamps) for name, digest in record.files.items()):
            damaged.append(shard)
        done += 0 if record is None else record.size
        progress(done, total)
    keep_stamps(cache / CHECKED, stamps)
    return damaged


def _is_whole(path: Path, digest: str, stamps: Stamps) -> bool:
    """Whether a file has its digest; what was compared is noted in ``stamps``."""
    name = f"{path.parent.name}/{path.name}"
    try:
        found = path.stat()
        stamp = (found.st_size, found.st_mtime_ns)
        if stamps.get(name) == stamp:
            return True
        whole = sha256_of(path) == digest
    except OSError:
        return False
    if whole:
        stamps[name] = stamp
    return whole


def read_stamps(path: Path) -> Stamps:
    """What was noted of files that were compared; nothing where that cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Stamps)
    except (OSError, ValueError):
        return {}


def keep_stamps(path: Path, stamps: Stamps) -> None:
    """Notes what was compared, where that can be written: it only saves time."""
    try:
        write_whole(path, encoded(stamps))
    except OutputError:
        return
