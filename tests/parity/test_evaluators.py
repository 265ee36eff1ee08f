"""hotcoco against pycocotools: the whole precision and recall arrays, not only the averages."""

import json

import numpy as np
import pytest
from pycocotools import mask as rle

from lt_train.evaluation import evaluate_coco

pytest.importorskip("hotcoco")

SIZE = 200
LIMITS = [(32, 32), (96, 96), (16, 64), (144, 64), (32, 33), (97, 96)]


def polygon(box):
    x, y, w, h = box
    return [x, y, x, y + h, x + w, y + h, x + w, y]


def random_case(seed):
    """Image 9 is empty, image 8 has only detections, category 7 has no ground truth, category 5 is crowds only."""
    rng = np.random.default_rng(seed)
    annotations = []
    for index in range(120):
        w, h = LIMITS[index] if index < len(LIMITS) else rng.integers(4, 120, 2).tolist()
        x, y = rng.integers(0, 80, 2).tolist()
        category = int(rng.choice([1, 2, 3, 5, 11]))
        annotations.append(
            {
                "id": index,  # 0 on purpose: pycocotools alone would take a match with it for none
                "image_id": int(rng.integers(1, 8)),
                "category_id": category,
                "bbox": [x, y, w, h],
                "area": float(w * h) if rng.random() < 0.7 else 0.8 * w * h,
                "iscrowd": int(category == 5 or rng.random() < 0.15),
                "segmentation": [polygon((x, y, w, h))],
            }
        )
    for annotation in annotations[::7]:
        if annotation["iscrowd"]:
            encoded = rle.frPyObjects(annotation["segmentation"], SIZE, SIZE)[0]
            flat = rle.decode(encoded).reshape(-1, order="F")
            edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
            runs = np.diff(np.concatenate([[0], edges, [SIZE * SIZE]]))
            annotation["segmentation"] = {"size": [SIZE, SIZE], "counts": runs.tolist()}
    truth = {
        "images": [{"id": i, "height": SIZE, "width": SIZE} for i in range(1, 10)],
        "categories": [{"id": i, "name": f"c{i}"} for i in (11, 1, 2, 3, 5, 7)],
        "annotations": annotations,
    }
    return truth, [random_detection(rng, annotations) for _ in range(900)] + crowded_image(rng)


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
    """More detections of one category in one image than the 100 that count."""
    boxes = np.concatenate([rng.integers(0, 80, (150, 2)), rng.integers(20, 100, (150, 2))], axis=1).tolist()
    return [record(1, 1, box, float(score)) for box, score in zip(boxes, rng.random(150), strict=True)]


def record(image_id, category_id, box, score):
    mask = rle.frPyObjects([polygon(box)], SIZE, SIZE)[0]
    mask = {"size": mask["size"], "counts": mask["counts"].decode()}
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score, "segmentation": mask}


def assert_same_curves(truth, results, iou_type, **options):
    fast = evaluate_coco(truth, results, iou_type=iou_type, engine="fast", **options)
    official = evaluate_coco(truth, results, iou_type=iou_type, engine="official", **options)
    assert fast.engine.startswith("hotcoco")
    assert official.engine.startswith("pycocotools")
    np.testing.assert_array_equal(fast.category_ids, official.category_ids)
    np.testing.assert_allclose(fast.precision, official.precision, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fast.recall, official.recall, rtol=0, atol=1e-12)
    return official


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize(("seed", "max_detections"), [(0, 100), (1, 100), (2, 5)])
def test_random_data(seed, max_detections, iou_type):
    truth, results = random_case(seed)
    found = assert_same_curves(truth, results, iou_type, max_detections=max_detections)
    unmeasured = found.category_ids[np.isnan(found.class_ap())]
    assert unmeasured.tolist() == [5, 7]
    assert found.precision.max() > 0.1


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_no_detections_at_all(iou_type):
    truth, _ = random_case(0)
    found = assert_same_curves(truth, [], iou_type)
    assert np.nanmax(found.class_ap()) == 0


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_pycocotools_as_everybody_calls_it(iou_type, tmp_path, capsys):
    """Our official engine gives the numbers of a plain pycocotools script on the same files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = random_case(3)
    truth["annotations"] = [{**a, "id": a["id"] + 1} for a in truth["annotations"]]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth), encoding="utf-8")
    coco = COCO(path)
    given = [{k: v for k, v in r.items() if k != ("bbox" if iou_type == "segm" else "segmentation")} for r in results]
    evaluator = COCOeval(coco, coco.loadRes(given), iou_type)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    capsys.readouterr()
    ours = evaluate_coco(path, results, iou_type=iou_type, engine="official")
    np.testing.assert_array_equal(ours.precision, evaluator.eval["precision"][..., -1])
    np.testing.assert_array_equal(ours.recall, evaluator.eval["recall"][..., -1])
    figures = [
        np.nanmean(ours.class_ap()),
        np.nanmean(ours.class_ap(iou=0.5)),
        np.nanmean(ours.class_ap(iou=0.75)),
        *(np.nanmean(ours.class_ap(area=area)) for area in ("small", "medium", "large")),
    ]
    np.testing.assert_allclose(figures, evaluator.stats[:6], rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.nanmean(ours.class_ar()), evaluator.stats[8], rtol=0, atol=1e-12)


def moved(polygon, dx, dy):
    return (np.array(polygon).reshape(-1, 2) + np.array([dx, dy])).clip(0).ravel().tolist()


@pytest.fixture(scope="module")
def real_case(shared_data):
    """Real annotations, and as predictions the non-crowd ones moved and scaled a little, some lost, some doubled."""
    truth = json.loads((shared_data / "coco_real/annotations/instances_val2017.json").read_text(encoding="utf-8"))
    kept = {image["id"] for image in truth["images"][:120]}
    truth["images"] = [image for image in truth["images"] if image["id"] in kept]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in kept]
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    rng = np.random.default_rng(0)
    results = []
    for annotation in truth["annotations"] * 2:
        if annotation["iscrowd"] or rng.random() < 0.3:
            continue
        dx, dy = (rng.normal(0, 0.06, 2) * annotation["bbox"][2:]).tolist()
        shifted = [moved(p, dx, dy) for p in annotation["segmentation"]]
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


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_real_annotations(real_case, iou_type):
    truth, results = real_case
    assert any(a["iscrowd"] for a in truth["annotations"])
    found = assert_same_curves(truth, results, iou_type)
    assert 0.2 < np.nanmean(found.class_ap()) < 0.9
