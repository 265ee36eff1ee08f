"""Annotations and predictions with everything that evaluators may differ on."""

import json
from random import Random

import numpy as np
from pycocotools import mask as rle

from lt_train.evaluation.figures.average_precision import evaluate

SIZE = 200
LIMITS = [(32, 32), (96, 96), (16, 64), (144, 64), (32, 33), (97, 96)]


def polygon(box):
    x, y, w, h = box
    return [x, y, x, y + h, x + w, y + h, x + w, y]


def random_case(seed, *, federated=False):
    """Image 9 is empty, image 8 has only detections, category 7 has no ground truth, category 5 is crowds only."""
    rng = np.random.default_rng(seed)
    annotations = [random_annotation(rng, index) for index in range(120)]
    for annotation in annotations[::7]:
        if annotation["iscrowd"]:
            annotation["segmentation"] = runs_of(annotation["segmentation"])
    truth = {
        "images": [{"id": i, "height": SIZE, "width": SIZE} for i in range(1, 10)],
        "categories": [{"id": i, "name": f"c{i}", "frequency": "rcf"[i % 3]} for i in (11, 1, 2, 3, 5, 7)],
        "annotations": annotations,
    }
    if federated:
        add_lists(truth, rng)
    results = [random_detection(rng, annotations) for _ in range(900)] + crowded_image(rng)
    return truth, distinct(results)


def random_annotation(rng, index):
    w, h = LIMITS[index] if index < len(LIMITS) else rng.integers(4, 120, 2).tolist()
    x, y = rng.integers(0, 80, 2).tolist()
    category = int(rng.choice([1, 2, 3, 5, 11]))
    return {
        "id": index,  # 0 on purpose: pycocotools alone would take a match with it for none
        "image_id": int(rng.integers(1, 8)),
        "category_id": category,
        "bbox": [x, y, w, h],
        "area": float(w * h) if index < len(LIMITS) or rng.random() < 0.7 else 0.8 * w * h,
        "iscrowd": int(category == 5 or rng.random() < 0.15),
        "segmentation": [polygon((x, y, w, h))],
    }


def runs_of(polygons):
    """The same mask as an uncompressed list of runs."""
    flat = rle.decode(rle.frPyObjects(polygons, SIZE, SIZE)[0]).reshape(-1, order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    return {"size": [SIZE, SIZE], "counts": np.diff(np.concatenate([[0], edges, [SIZE * SIZE]])).tolist()}


def add_lists(truth, rng):
    """Categories that were looked for in vain, and those whose instances are not all there (present or not)."""
    present = {(a["image_id"], a["category_id"]) for a in truth["annotations"]}
    for image in truth["images"]:
        absent = [c["id"] for c in truth["categories"] if (image["id"], c["id"]) not in present]
        image["neg_category_ids"] = [c for c in absent if rng.random() < 0.5]
        image["not_exhaustive_category_ids"] = [c["id"] for c in truth["categories"] if rng.random() < 0.25]


def random_detection(rng, annotations):
    source = annotations[rng.integers(len(annotations))]
    x, y, w, h = source["bbox"]
    if rng.random() < 0.8:
        x, y = max(0, x + int(rng.integers(-6, 7))), max(0, y + int(rng.integers(-6, 7)))
        w, h = max(1, w + int(rng.integers(-6, 7))), max(1, h + int(rng.integers(-6, 7)))
    return record(
        int(rng.choice([source["image_id"], source["image_id"], 8])),
        int(rng.choice([source["category_id"]] * 4 + [7, 2])),
        [x, y, w, h],
        int(rng.integers(1, 20)) / 20,  # many ties
    )


def crowded_image(rng):
    """More detections in one image than the 100 of a category, or the 300 of all, that count; some without area."""
    boxes = np.concatenate([rng.integers(0, 80, (350, 2)), rng.integers(20, 100, (350, 2))], axis=1)
    boxes[::50, 2] = 0
    scores, categories = (rng.random(350) * 50).round() / 50, rng.choice([1, 1, 2], 350)
    return [record(1, int(c), box, s) for c, box, s in zip(categories, boxes.tolist(), scores.tolist(), strict=True)]


def record(image_id, category_id, box, score, *, cut=0):
    """The mask is the box without a corner of that height."""
    outline = polygon(box)
    outline[-1] += cut
    mask = rle.frPyObjects([outline], SIZE, SIZE)[0]
    mask = {"size": mask["size"], "counts": mask["counts"].decode()}
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score, "segmentation": mask}


def distinct(results):
    """Without records that are the same as an earlier one as a box or as a mask, which are refused."""
    seen, kept = set(), []
    for result in results:
        key = (result["image_id"], result["category_id"], result["score"])
        keys = {(*key, *result["bbox"]), (*key, result["segmentation"]["counts"])}
        if not keys & seen:
            kept.append(result)
            seen |= keys
    return kept


def seeded_case(*, federated):
    """Whole numbers only, drawn the same by every version of Python: for pinned figures."""
    random = Random(2)

    def below(limit):
        return int(random.random() * limit)

    annotations = []
    for index in range(90):
        box = [below(90), below(90), 6 + below(100), 6 + below(100)]
        annotations.append(
            {
                "id": index + 1,
                "image_id": 1 + below(8),
                "category_id": 1 + below(6),
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(not federated and below(8) == 0),
                "segmentation": [polygon(box)],
            }
        )
    truth = {
        "images": [{"id": i, "height": SIZE, "width": SIZE} for i in range(1, 10)],
        "categories": [{"id": i, "name": f"c{i}", "frequency": "rcf"[i % 3]} for i in range(1, 8)],
        "annotations": annotations,
    }
    if federated:
        for image in truth["images"]:
            here = {a["category_id"] for a in annotations if a["image_id"] == image["id"]}
            image["neg_category_ids"] = [c for c in range(1, 8) if c not in here and (c + image["id"]) % 2]
            image["not_exhaustive_category_ids"] = sorted(here)[:1]
    return truth, distinct(seeded_detections(annotations, below))


def seeded_detections(annotations, below):
    results = []
    for _ in range(700):
        source = annotations[below(len(annotations))]
        box = [max(0, v + below(13) - 6) for v in source["bbox"][:2]] + [
            max(1, v + below(13) - 6) for v in source["bbox"][2:]
        ]
        category = 1 + below(7) if below(3) == 0 else source["category_id"]
        image = 1 + below(9) if below(6) == 0 else source["image_id"]
        results.append(record(image, category, box, below(65) / 64, cut=box[3] // 4))
    return results


def moved(outline, dx, dy):
    return (np.array(outline).reshape(-1, 2) + np.array([dx, dy])).clip(0).ravel().tolist()


def perturbed_case(path, images):
    """Real annotations, and as predictions the non-crowd ones moved and scaled a little, some lost, some doubled."""
    truth = json.loads(path.read_text(encoding="utf-8"))
    kept = {image["id"] for image in truth["images"][:images]}
    truth["images"] = [image for image in truth["images"] if image["id"] in kept]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in kept]
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    rng = np.random.default_rng(0)
    results = []
    for annotation in truth["annotations"] * 2:
        if annotation.get("iscrowd") or rng.random() < 0.3:
            continue
        dx, dy = (rng.normal(0, 0.06, 2) * annotation["bbox"][2:]).tolist()
        shifted = [moved(outline, dx, dy) for outline in annotation["segmentation"]]
        mask = rle.merge(rle.frPyObjects(shifted, *sizes[annotation["image_id"]]))
        x, y, w, h = annotation["bbox"]
        results.append(
            {
                "image_id": annotation["image_id"],
                "category_id": annotation["category_id"],
                "bbox": [x + dx, y + dy, w * float(rng.uniform(0.9, 1.1)), h],
                "score": float(np.float32(rng.random())),
                "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
            }
        )
    return truth, results


def assert_same_curves(truth, results, iou_type, *, protocol, **options):
    """Both engines give the same arrays; the evaluation of the official one."""
    options = {"protocol": protocol, **options}
    fast = evaluate(truth, results, iou_type=iou_type, engine="fast", **options)
    official = evaluate(truth, results, iou_type=iou_type, engine="official", **options)
    assert fast.engine.startswith("hotcoco")
    assert official.engine.startswith({"coco": "pycocotools", "lvis": "lvis"}[protocol])
    np.testing.assert_array_equal(fast.category_ids, official.category_ids)
    np.testing.assert_allclose(fast.precision, official.precision, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fast.recall, official.recall, rtol=0, atol=1e-12)
    return official
