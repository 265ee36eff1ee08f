"""How large a cache is going to be, and whether the disk has room for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from lt_data.errors import OutputError
from lt_train.detectors import LongTailDetector
from lt_train.features.layout import SHARD_BYTES, Manifest, Part

# bytes of a candidate beside its features: box, label, ground truth, IoU; its parent in later stages; and the place of
# one that has features
CANDIDATE, PARENT, PLACE = 16 + 4 + 4 + 4, 4, 4


def bytes_per_image(
    model: LongTailDetector, *, part: Part, pool: int | None, dtype: str, versions: int, objects: float
) -> int:
    """Bytes of an image, at most where it has no more objects than most and few positives.

    Args:
        model: The detector.
        part: Training or validation images.
        pool: Regions with features; ``None``: all.
        dtype: Of the features.
        versions: How many an image has.
        objects: Of an image, on average.
    """
    mode = "training" if part == "train" else "testing"
    own = objects if part == "train" else 0
    first, *later = model.roi_heads.of_stages
    candidates = model.rpn._post_nms_top_n[mode] + own
    kept = candidates if pool is None else min(candidates, max(pool, first.fg_bg_sampler.batch_size_per_image))
    feature = first.box_head.fc7.out_features * np.dtype(dtype).itemsize + PLACE
    size = candidates * CANDIDATE + kept * feature
    for _ in later:
        # the children of all that have features, which have them too, and the objects once more
        kept += own
        size += kept * (CANDIDATE + PARENT + feature)
    return int(versions * size)


def images_per_shard(of_image: int) -> int:
    """How many images make a shard of about ``SHARD_BYTES``.

    Args:
        of_image: Bytes of an image.
    """
    return max(1, SHARD_BYTES // of_image)


def check_room(cache: Path, needed: int) -> None:
    """Refuses a cache that the disk has no room for.

    Args:
        cache: Where it is written.
        needed: Bytes that are still to be written.

    Raises:
        OutputError: There is too little.
    """
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise OutputError(
            f"{cache}: needs about {shown_bytes(needed)}, {shown_bytes(free)} are free; make room, or choose another "
            "--out or a smaller --pool"
        )


def shown_bytes(size: float) -> str:
    """Bytes for people."""
    if size < 1e9:
        return f"{size / 1e6:,.1f} MB"
    return f"{size / 1e9:,.1f} GB"


def describe(manifest: Manifest, size: int) -> str:
    """A line about what is kept.

    Args:
        manifest: Of the cache.
        size: Bytes of all of it.
    """
    what = "all regions" if manifest.pool is None else f"{manifest.pool:,} regions"
    versions = " and ".join("mirrored" if flipped else "upright" for flipped in manifest.flips)
    images = f"{manifest.images:,} {'training' if manifest.part == 'train' else 'validation'} images"
    of_images = f"{images} {versions}" if manifest.part == "train" else images
    return f"{of_images}, {what} of each in {manifest.dtype}: about {shown_bytes(size)}"
