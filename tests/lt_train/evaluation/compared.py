"""Two systems that find the objects of forty images, one of them more."""

import numpy as np

from lt_data.groups import Group
from lt_train.evaluation import read_detections
from lt_train.evaluation.comparison.matches import match

GROUPS = (Group("(0, 10)", 0, 10, (7,)), Group("[10, ~)", 10, None, (1, 2)))


def predictions(truth, found_share, seed=0):
    """Finds each annotation with the probability of its category, and one wrong box per image."""
    rng = np.random.default_rng(seed)
    results = []
    for annotation in truth["annotations"]:
        x, y, w, h = annotation["bbox"]
        keep, shift, score = rng.random(3)
        if keep < found_share[annotation["category_id"]]:
            box = [x + 3 * shift, y, w, h]
            results.append(record(annotation["image_id"], annotation["category_id"], box, 0.3 + 0.7 * score))
    for image in truth["images"]:
        results.append(record(image["id"], int(rng.choice([1, 2, 7])), [150, 150, 30, 30], 0.8 * rng.random()))
    return results


def record(image_id, category_id, bbox, score):
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": float(score)}


def matched(ground_truth, found, **options):
    detections = read_detections(found, ground_truth, iou_types=["bbox"])
    given = {"iou_type": "bbox", "protocol": "coco", "max_detections": 100, **options}
    return match(ground_truth, detections, **given)
