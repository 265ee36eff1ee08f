"""Drawn photographs with polygons, of classes as unequal as those of LVIS, for benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lt_data.counts.categories import embedded_reference

WIDTH, HEIGHT = 640, 480
POINTS = 25
# px; objects are as wide as photographs show them, many of them small
SMALLEST, LARGEST = 12, 320
# px of the coarse noise that is enlarged; as JPEG such an image takes about 150 kB
COARSE = 2


def draw_data(folder: Path, *, images: int, classes: int, objects: int, portraits: float = 0.0, seed: int = 0) -> Path:
    """Writes ``annotations.json`` (COCO) and ``images/*.jpg``.

    Args:
        folder: Where to; made if it is not there.
        images: N.
        classes: C; class i is as frequent as the class of LVIS v0.5 at the same share of the ranks.
        objects: Of every image, so that batches are alike whoever puts them together.
        portraits: Share of images that stand upright; a quarter of COCO's do.
        seed: Of everything random.

    Returns:
        The annotation file.
    """
    random = np.random.default_rng(seed)
    counts = np.sort(embedded_reference("lvis-v0.5").instances)[::-1]
    share = counts[np.linspace(0, len(counts) - 1, classes).astype(int)].astype(float)
    share /= share.sum()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    sizes: list[tuple[int, int]] = []
    for image in range(1, images + 1):
        width, height = (HEIGHT, WIDTH) if image <= portraits * images else (WIDTH, HEIGHT)
        sizes.append((width, height))
        _photograph(random, width, height).save(folder / "images" / f"{image}.jpg", quality=90)
        for label in random.choice(classes, objects, p=share):
            found = {"image_id": image, "category_id": int(label) + 1, **_shape(random, width, height)}
            records.append({"id": len(records) + 1, **found})
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": width, "height": height}
            for i, (width, height) in enumerate(sizes, start=1)
        ],
        "annotations": records,
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, classes + 1)],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def _photograph(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Noise at several scales."""
    layers = np.zeros((height, width, 3))
    for side, weight in ((64, 0.5), (16, 0.3), (COARSE, 0.2)):
        noise = random.integers(0, 256, (height // side + 1, width // side + 1, 3), np.uint8)
        layers += weight * np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray(layers.astype(np.uint8))


def _shape(random: np.random.Generator, width: int, height: int) -> dict[str, Any]:
    """A star of 25 points, with the members of an annotation."""
    side = np.exp(random.uniform(np.log(SMALLEST), np.log(LARGEST)))
    polygon = star(random, np.array([side, side * random.uniform(0.6, 1.0)]), width, height)
    low, high = polygon.min(0), polygon.max(0)
    box = [*low.tolist(), *(high - low).tolist()]
    flat = [round(v, 2) for v in polygon.reshape(-1).tolist()]
    return {"bbox": box, "area": float((high - low).prod() * 0.6), "iscrowd": 0, "segmentation": [flat]}


def star(
    random: np.random.Generator, size: NDArray[np.float64], width: int = WIDTH, height: int = HEIGHT
) -> NDArray[np.float64]:
    """A polygon of 25 points about as large as ``size``, inside the image; [25, 2]."""
    angles = np.sort(random.uniform(0, 2 * np.pi, POINTS))
    radius = random.uniform(0.5, 1.0, (POINTS, 1)) * size / 2
    centre = random.uniform(size / 2, np.array([width, height]) - size / 2)
    points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.clip(points, 0, [width, height])
