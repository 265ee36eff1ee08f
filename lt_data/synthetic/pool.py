"""A procedural COCO-format pool of textured shapes for demos and tests: no download, the same for everybody.

Read ``write_pool`` first. Categories come in families of look-alikes (``synthetic_shapes``), each with a frequent and
a rare member. How often each category occurs is fixed up front and dealt to the images in the order of a hash; given
its categories, what an image shows depends on nothing but the seed and its number.

Shapes: C categories, N images, A objects in all.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lt_data.arrays import IntArray
from lt_data.errors import DataError, OutputError
from lt_data.files.writing import replacing_directory
from lt_data.masks.outlines import Points, signed_area
from lt_data.progress import Progress
from lt_data.synthetic.scenes import Scene, draw_scene
from lt_data.synthetic.shapes import FEWEST, MOST, ShapeCategory, shape_categories

ANNOTATIONS = "annotations.json"
IMAGES = "images"
DEFAULT_EXPONENT = 1.5
MOST_PER_IMAGE = 12
SMALLEST_SIDE, LARGEST_SIDE = 64, 1024


@dataclass(frozen=True)
class _Options:
    """What determines the bytes of a pool."""

    images: int
    categories: int
    size: int
    exponent: float
    instances_per_image: tuple[int, int]
    seed: int
    minimum_instances: int
    imbalance: float | None = None


def write_pool(
    out: Path | str,
    *,
    images: int,
    categories: int = 24,
    size: int = 128,
    exponent: float = DEFAULT_EXPONENT,
    instances_per_image: tuple[int, int] = (3, 8),
    seed: int = 0,
    minimum_instances: int = 1,
    imbalance: float | None = None,
    progress: Progress | None = None,
) -> Path:
    """Draws a pool: ``annotations.json`` in COCO format and ``images/000000000001.jpg`` onwards.

    The same arguments give the same bytes (with the same versions of NumPy and Pillow). Polygons, boxes and areas are
    of the visible part of an object.

    Args:
        out: The folder to write.
        images: Number of images.
        categories: Number of categories, 20 to 60.
        size: Side of the square images in pixels, 64 to 1024; objects are about size / 8 to size / 2.3.
        exponent: A category of rank r (from 0) occurs in proportion to ``(r + 1) ** -exponent``; 0 is uniform.
        instances_per_image: Fewest and most objects of an image.
        seed: Of everything random.
        minimum_instances: Every category occurs at least this often.
        imbalance: How many times more often the most frequent category occurs than the rarest, those between in equal
            ratios (as ``lt-data build-coco-lt --reference exp:IMBALANCE``), instead of ``exponent``.
        progress: Called after each image with the number done and the number in all.

    Returns:
        The path of the annotation file.

    Raises:
        DataError: An argument is out of range, or so few objects cannot hold every category often enough.
        OutputError: ``out`` exists and is not an empty folder, or cannot be written.
    """
    options = _Options(images, categories, size, exponent, instances_per_image, seed, minimum_instances, imbalance)
    out = Path(out)
    _check_options(options)
    _refuse_overwrite(out)
    kinds = shape_categories(categories)
    dealt = _deal(options, kinds)
    with replacing_directory(out, force=False) as work:
        (work / IMAGES).mkdir()
        content = _header(options, kinds)
        for number, members in enumerate(dealt, start=1):
            scene = draw_scene(members, size, _generator(seed, "scene", number))
            _add_image(content, work, number, members, scene)
            if progress is not None:
                progress(number, images)
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        (work / ANNOTATIONS).write_bytes(text.encode("utf-8"))
    return out / ANNOTATIONS


def category_quotas(weights: Sequence[float], total: int, minimum: int) -> IntArray:
    """Whole numbers that sum to ``total``, in proportion to the weights, none below ``minimum``.

    Args:
        weights: Positive, shape [C].
        total: Sum of the quotas, at least C * ``minimum``.
        minimum: Smallest quota; a category that would have less gets it at the expense of the others.

    Returns:
        Quotas, shape [C]; remainders go to the largest fractions, ties to the first.
    """
    weight = np.asarray(weights, np.float64)
    fixed = np.zeros(len(weight), bool)
    while True:
        rest = total - minimum * int(fixed.sum())
        share = np.where(fixed, 0.0, rest * weight / max(weight[~fixed].sum(), 1e-300))
        short = ~fixed & (share < minimum)
        if not short.any():
            break
        fixed |= short
    quotas = np.where(fixed, minimum, np.floor(share)).astype(np.int64)
    missing = total - int(quotas.sum())
    by_fraction = np.argsort(-np.where(fixed, -1.0, share - np.floor(share)), kind="stable")
    quotas[by_fraction[:missing]] += 1
    return quotas


def _check_options(options: _Options) -> None:
    low, high = options.instances_per_image
    rules = [
        (options.images >= 1, f"images: got {options.images}; allowed is 1 or more"),
        (
            FEWEST <= options.categories <= MOST,
            f"categories: got {options.categories}; allowed are {FEWEST} to {MOST}",
        ),
        (
            SMALLEST_SIDE <= options.size <= LARGEST_SIDE,
            f"size: got {options.size}; allowed are {SMALLEST_SIDE} to {LARGEST_SIDE} pixels",
        ),
        (
            math.isfinite(options.exponent) and 0 <= options.exponent <= 10,
            f"exponent: got {options.exponent}; allowed are 0 (uniform) to 10",
        ),
        (
            1 <= low <= high <= MOST_PER_IMAGE,
            f"instances_per_image: got {low}, {high}; allowed are two ascending numbers from 1 to {MOST_PER_IMAGE}",
        ),
        (
            options.imbalance is None or (math.isfinite(options.imbalance) and options.imbalance >= 1),
            f"imbalance: got {options.imbalance}; allowed are numbers from 1",
        ),
        (options.minimum_instances >= 0, f"minimum_instances: got {options.minimum_instances}; allowed is 0 or more"),
    ]
    problems = [problem for kept, problem in rules if not kept]
    if problems:
        raise DataError(problems)


def _refuse_overwrite(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out}: exists and is not empty; choose another folder, or remove it first")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; choose another folder")


def _generator(seed: int, purpose: str, number: int) -> np.random.Generator:
    """A generator of its own for every purpose and image."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{number}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def _deal(options: _Options, kinds: Sequence[ShapeCategory]) -> Iterator[list[ShapeCategory]]:
    """The categories of each image's objects: a deck with every category's quota, shuffled by hash, dealt in turn.

    Raises:
        DataError: The deck is too small for ``minimum_instances`` of every category.
    """
    low, high = options.instances_per_image
    numbers = range(1, options.images + 1)
    counts = [int(_generator(options.seed, "objects", n).integers(low, high + 1)) for n in numbers]
    total, needed = sum(counts), options.minimum_instances * len(kinds)
    if total < needed:
        raise DataError(
            f"images: {options.images} images hold {total} objects, {len(kinds)} categories with at least "
            f"{options.minimum_instances} each need {needed}; use more images, or fewer categories"
        )
    weights = _weights(options, kinds)
    quotas = category_quotas(weights, total, options.minimum_instances)
    deck = np.repeat(np.arange(len(kinds)), quotas).tolist()
    order = sorted(range(total), key=lambda i: hashlib.sha256(f"{options.seed}:deal:{i}".encode()).digest())
    cards = (kinds[deck[i]] for i in order)
    return ([next(cards) for _ in range(count)] for count in counts)


def _weights(options: _Options, kinds: Sequence[ShapeCategory]) -> list[float]:
    """How often each category occurs, up to a factor."""
    if options.imbalance is None:
        return [(kind.rank + 1.0) ** -options.exponent for kind in kinds]
    return [options.imbalance ** (-kind.rank / (len(kinds) - 1)) for kind in kinds]


def _header(options: _Options, kinds: Sequence[ShapeCategory]) -> dict[str, Any]:
    """The annotation file without images and annotations."""
    return {
        "info": {
            "description": "Textured shapes in look-alike families, drawn by lt_data.synthetic",
            "version": "1",
            # a pool of other options has the bytes that it had before there was this one
            "options": {k: v for k, v in asdict(options).items() if k != "imbalance" or v is not None},
        },
        "licenses": [
            {"id": 1, "name": "Apache License 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        ],
        "images": [],
        "annotations": [],
        "categories": [{"id": k.category_id, "name": k.name, "supercategory": k.family.shape} for k in kinds],
    }


def _add_image(
    content: dict[str, Any], work: Path, number: int, members: Sequence[ShapeCategory], scene: Scene
) -> None:
    """Writes an image and adds its records."""
    name = f"{number:012d}.jpg"
    # full chroma resolution: textures are a few pixels wide
    Image.fromarray(scene.image).save(work / IMAGES / name, quality=90, subsampling=0)
    height, width = scene.image.shape[:2]
    content["images"].append({"id": number, "file_name": name, "width": width, "height": height, "license": 1})
    for category, outlines in zip(members, scene.outlines, strict=True):
        annotation_id = len(content["annotations"]) + 1
        content["annotations"].append(_annotation(annotation_id, number, category.category_id, outlines))


def _annotation(annotation_id: int, image_id: int, category_id: int, outlines: Sequence[Points]) -> dict[str, Any]:
    """A COCO record; box and area are those of the polygons written."""
    points = np.concatenate(outlines)
    x, y = points.min(axis=0).tolist()
    width, height = (points.max(axis=0) - points.min(axis=0)).round(2).tolist()
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": [outline.ravel().tolist() for outline in outlines],
        "area": round(sum(abs(signed_area(outline)) for outline in outlines), 2),
        "bbox": [x, y, width, height],
        "iscrowd": 0,
    }
