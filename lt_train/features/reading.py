"""Reading a cache: the regions of each version of each image, mapped from the disk.

Shapes: A candidates of an image, n of them with features, D features, C classes.
"""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from lt_data.errors import DataError
from lt_data.terminal import Bar
from lt_train.features import layout
from lt_train.features.layout import Manifest, Part, read_manifest, shard_folder
from lt_train.features.shards import Array, damaged_shards, open_shard
from lt_train.processes import Processes


class Slice(NamedTuple):
    """Where the regions of a version lie that a stage sees.

    Attributes:
        shard: Number of the shard.
        columns: Of it.
        version: Place in the shard.
        stage: Of the detector.
        candidates: First and last of its candidates, as a slice of their columns.
        kept: The same of those with features.
    """

    shard: int
    columns: dict[str, Array]
    version: int
    stage: int
    candidates: slice
    kept: slice

    def whole(self, name: str) -> Array:
        """A column of the stage, of all versions of the shard."""
        return self.columns[layout.in_stage(name, self.stage)]

    def of(self, name: str) -> Array:
        """What a column of the stage has of the version."""
        return self.whole(name)[self.kept if name in (layout.PLACES, layout.FEATURES) else self.candidates]


class Cache:
    """A whole cache. Shards are opened when they are first looked at, in each process.

    Args:
        path: ``OUT/train`` or ``OUT/val``.
        manifest: Of it.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._shards: dict[int, dict[str, Array]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs, which opens shards by itself."""
        return {**self.__dict__, "_shards": {}}

    def shard(self, number: int) -> dict[str, Array]:
        """The columns of a shard."""
        if number not in self._shards:
            names = layout.columns_of(self.manifest.part, self.manifest.stages)
            self._shards[number] = open_shard(shard_folder(self.path, number), names)
        return self._shards[number]

    def find(self, row: int, *, flipped: bool = False, stage: int = 0) -> Slice:
        """Where the regions of an image are.

        Args:
            row: Of the image, in the order of the cache.
            flipped: Which of its versions.
            stage: Of the detector.
        """
        number, place = divmod(row, self.manifest.images_per_shard)
        columns = self.shard(number)
        version = place * len(self.manifest.flips) + self.manifest.flips.index(flipped)
        offsets, kept = (layout.in_stage(name, stage) for name in (layout.OFFSETS, layout.KEPT_OFFSETS))
        candidates = _slice(columns[offsets], version)
        # every proposal of a validation image has features
        with_features = _slice(columns[kept], version) if kept in columns else candidates
        return Slice(number, columns, version, stage, candidates, with_features)

    @cached_property
    def first_rows(self) -> list[list[int]]:
        """How many features of each stage the shards before each one hold."""
        names = [layout.in_stage(layout.FEATURES, stage) for stage in range(self.manifest.stages)]
        shards = range(self.manifest.shard_count)
        return [[0, *accumulate(len(self.shard(number)[name]) for number in shards)] for name in names]


def _slice(offsets: Array, version: int) -> slice:
    return slice(int(offsets[version]), int(offsets[version + 1]))


def open_cache(features: Path, part: Part, processes: Processes) -> Cache:
    """Opens features and makes sure that they are whole; all processes come here.

    Args:
        features: What ``lt-train cache --out`` was given.
        part: Training or validation images.
        processes: This process among others; the first one looks at every byte that it has not looked at before.

    Raises:
        DataError: They are not there, not finished or damaged.
    """
    path = features / part
    manifest = read_manifest(path)
    if manifest.shards is None:
        raise DataError(f"{path}: is not finished; run the same lt-train cache command again, which goes on")
    if processes.is_first:
        with Bar("checking features", "bytes") as bar:
            damaged = damaged_shards(path, manifest, bar, trust=True)
        if damaged:
            names = ", ".join(shard_folder(path, shard).name for shard in damaged[:3])
            more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
            raise DataError(
                f"{path}: {names}{more} of {manifest.shard_count} shards are damaged or missing; compute them again: "
                f"lt-train cache RUN --out {features} --for {part}{_options(manifest)} --repair"
            )
    processes.wait()
    return Cache(path, manifest)


def _options(manifest: Manifest) -> str:
    """Options of ``lt-train cache`` without which it would make features of another kind."""
    if manifest.dtype == "float32":
        return " --exact"
    return "" if manifest.pool is None else f" --pool {manifest.pool}"
