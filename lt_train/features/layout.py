"""What a cache of region features looks like on the disk.

``OUT/train`` and ``OUT/val`` each hold ``manifest.json`` and folders ``shard-00000``, ... of ``.npy`` files, one for a
column. A shard has the images of a run of rows; an image that is kept upright and mirrored has two versions, one after
the other. Columns of regions begin with their stage, ``s0.``. A detector with several stages has ``s1.``, ... too: for
training images the children of every candidate with features, and the ground truth again; ``sN.parents`` says which
candidate of the stage before a box was refined from, so that a stage chooses among the children of what the stage
before drew. For validation images all stages have the same regions in the same order.

Shapes: V versions of the images of a shard, A candidates and P of them with features over all versions, D features.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from lt_data.errors import DataError
from lt_data.files.writing import write_whole

SCHEMA: Final = 1
MANIFEST, DIGESTS, CHECKED = "manifest.json", "digests.json", "checked.json"
# what is noted of images that were compared
COMPARED_IMAGES = "images.json"
# names of the folders of shards
SHARDS: Final = "shard-*"
Part = Literal["train", "val"]
# bytes of a shard, about: what a kill loses at most
SHARD_BYTES: Final = 2**29

# [V] int64: dataset ids; [V] bool: whether the image could be read
IMAGES, READABLE = "images", "readable"
# [V, 2] int64: height and width, resized and as stored
SIZES, ORIGINALS = "sizes", "originals"
# [V] int64 and [V, 32] uint8: bytes of the image's file and their sha256; features of older versions lack them
FILE_BYTES, FILE_SHA256 = "file_bytes", "file_sha256"
# of each stage, see :func:`in_stage`:
# [V + 1] int64: where the candidates of a version begin; the columns of candidates
OFFSETS, BOXES, LABELS, MATCHED, IOU = "offsets", "boxes", "labels", "matched", "iou"
# [A] int32: place of the candidate of the stage before, ascending, then -1 for the ground truth; not of the first stage
PARENTS: Final = "parents"
# [V + 1] int64: where those with features begin; [P] int32: their places among the candidates; [P, D]
KEPT_OFFSETS, PLACES, FEATURES = "kept_offsets", "places", "features"

OF_VERSIONS: Final[dict[Part, tuple[str, ...]]] = {"train": (IMAGES, READABLE), "val": (IMAGES, SIZES, ORIGINALS)}
OF_STAGES: Final[dict[Part, tuple[str, ...]]] = {
    "train": (OFFSETS, BOXES, LABELS, MATCHED, IOU, PARENTS, KEPT_OFFSETS, PLACES, FEATURES),
    "val": (OFFSETS, BOXES, FEATURES),
}


# what older versions did not keep
LATER: Final = (FILE_BYTES, FILE_SHA256)


def in_stage(name: str, stage: int) -> str:
    """The name of a column of a stage on the disk."""
    return f"s{stage}.{name}"


def columns_of(part: Part, stages: int) -> list[str]:
    """The names of all columns of a shard.

    Args:
        part: Training or validation images.
        stages: Of the detector.
    """
    of_stages = [(stage, name) for stage in range(stages) for name in OF_STAGES[part]]
    return [*OF_VERSIONS[part], *(in_stage(name, stage) for stage, name in of_stages if stage or name != PARENTS)]


class ShardRecord(msgspec.Struct, frozen=True):
    """A shard that is whole.

    Attributes:
        files: sha256 of each file by its name.
        size: Bytes of all of them.
    """

    files: dict[str, str]
    size: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``manifest.json``.

    Attributes:
        schema: Version of this layout.
        part: Training or validation images.
        stages: Stages of the detector whose regions are kept.
        dtype: Of the features: ``float16`` or ``float32``.
        pool: Regions of an image that have features, at least; ``None``: all of them.
        flips: The versions of an image: whether each is mirrored.
        images: How many there are.
        images_per_shard: The last shard may have fewer.
        features: D.
        made_of: What the features depend on, by its name; what differs from it in a run is refused.
        made_by: The run or checkpoint whose weights they are of, for people.
        shards: Digests of all shards in their order; ``None`` until all are there.
    """

    schema: int = SCHEMA
    part: Part
    stages: int = 1
    dtype: Literal["float16", "float32"]
    pool: int | None
    flips: tuple[bool, ...]
    images: int
    images_per_shard: int
    features: int
    made_of: dict[str, str]
    made_by: str
    shards: tuple[ShardRecord, ...] | None = None

    @property
    def shard_count(self) -> int:
        """How many shards the images fill."""
        return -(-self.images // self.images_per_shard)

    @property
    def size(self) -> int:
        """Bytes of all shards; 0 until all are there."""
        return sum(shard.size for shard in self.shards or ())

    def rows(self, shard: int) -> range:
        """Rows of the images of a shard."""
        first = shard * self.images_per_shard
        return range(first, min(first + self.images_per_shard, self.images))


def shard_folder(cache: Path, shard: int) -> Path:
    """Where a shard lies in ``OUT/train`` or ``OUT/val``."""
    return cache / f"shard-{shard:05d}"


def write_manifest(cache: Path, manifest: Manifest) -> None:
    """Writes ``manifest.json``; a reader never sees half of it.

    Raises:
        OutputError: It cannot be written.
    """
    write_whole(cache / MANIFEST, encoded(msgspec.to_builtins(manifest)), make_folder=True, advice="make room")


def encoded(content: Any) -> bytes:
    """JSON as all files here have it."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def read_manifest(cache: Path) -> Manifest:
    """Reads ``manifest.json``.

    Raises:
        DataError: There is none, or it is not one of this version.
    """
    path = cache / MANIFEST
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise DataError(
            f"{cache}: holds no features (no {MANIFEST}); make them with lt-train cache RUN --out {cache.parent} "
            f"--for {cache.name}"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read ({reason}); make the features again with --force") from None
    if found.schema != SCHEMA:
        raise DataError(
            f"{path}: schema {found.schema}; this version reads schema {SCHEMA}; make the features again with --force"
        )
    return found


def digest_of(manifest: Manifest) -> str:
    """One sha256 of all that a cache holds."""
    files = [shard.files for shard in manifest.shards or ()]
    return hashlib.sha256(encoded([manifest.made_of, files])).hexdigest()
