"""Files with masks that tests make: squares of one colour on gray images."""

import json

import numpy as np
from PIL import Image


def square(number, image_id, category_id, box, *, mask=True, runs=None):
    x, y, w, h = box
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {
        "id": number, "image_id": image_id, "category_id": category_id, "bbox": box, "area": w * h,
        "iscrowd": 0, "segmentation": runs or (polygon if mask else []),
    }  # fmt: skip


def write(folder, annotations, sizes):
    """Annotations and images; the pixels of a square are 10 times its annotation's id.

    Args:
        folder: Where to.
        annotations: Of :func:`square`.
        sizes: Height and width of each image by its id.
    """
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for number, (height, width) in sizes.items():
        pixels = np.full((height, width, 3), 5, np.uint8)
        for row in annotations:
            if row["image_id"] == number:
                x, y, w, h = row["bbox"]
                pixels[y : y + h, x : x + w] = 10 * row["id"]
        Image.fromarray(pixels).save(images / f"{number}.png")
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": h, "width": w} for i, (h, w) in sizes.items()],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"c{i}"} for i in (1, 2, 3)],
    }
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    return path, images
