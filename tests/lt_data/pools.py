"""Small pools in memory for the tests."""

import json
from pathlib import Path

from lt_data.dataset.options import BuildOptions

SMALL = BuildOptions(scale="0.001", on_shortage="cap", edges=(2, 5))


def annotation(number, image_id, category_id, *, crowd=0, box=(1.0, 2.0, 3.0, 4.0)):
    x, y, w, h = box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": crowd,
        "bbox": list(box),
        "area": w * h,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
    }


def pool(images, *, categories=None, names=None):
    """A COCO file from {image id: [category id, or (category id, "crowd"), ...]}."""
    annotations = []
    for image_id, content in images.items():
        for entry in content:
            category_id, crowd = entry if isinstance(entry, tuple) else (entry, None)
            annotations.append(annotation(len(annotations) + 1, image_id, category_id, crowd=int(crowd is not None)))
    used = sorted({a["category_id"] for a in annotations})
    return {
        "info": {"description": "test"},
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": 64, "height": 48} for i in images],
        "annotations": annotations,
        "categories": [{"id": c, "name": (names or {}).get(c, f"category {c}")} for c in categories or used],
    }


def as_lvis_05(content, folder: Path):
    """The pool with the names of COCO 2014 and URLs of COCO 2017, and its images in ``folder/val2017``, moved there."""
    (folder / "val2017").mkdir()
    for image in content["images"]:
        number = f"{image['id']:012d}"
        suffix = Path(image["file_name"]).suffix
        (folder / image["file_name"]).rename(folder / f"val2017/{number}{suffix}")
        image["file_name"] = f"COCO_val2014_{number}{suffix}"
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{number}{suffix}"
    return content


def save(content, path: Path) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
