import copy
import json
import logging
import subprocess
import sys

import numpy as np
import pytest

from lt_data.errors import DataError, RecipeError
from lt_train.evaluation import agreement, engines, evaluate_coco, load_ground_truth

ENGINES = ("fast", "official")


@pytest.fixture
def truth():
    """Categories: 1 two instances and a crowd, 2 one instance, 4 no instance, 7 one instance that nobody finds."""
    boxes = [(1, [0, 0, 50, 50], 0), (1, [100, 0, 50, 50], 0), (1, [0, 100, 90, 90], 1)]
    boxes += [(2, [0, 0, 100, 100], 0), (7, [10, 10, 20, 20], 0)]
    return {
        "images": [{"id": 3, "height": 200, "width": 200}, {"id": 5, "height": 200, "width": 200}],
        "categories": [{"id": i, "name": f"c{i}"} for i in (7, 1, 4, 2)],
        "annotations": [
            {"id": i, "image_id": 3, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": crowd}
            for i, (c, b, crowd) in enumerate(boxes)
        ],
    }


def found(category_id, bbox, score, image_id=3):
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


@pytest.fixture
def results():
    return [
        found(1, [0, 0, 50, 50], 0.9),  # hit
        found(1, [150, 150, 20, 20], 0.8),  # miss
        found(1, [10, 110, 60, 60], 0.75),  # in the crowd: neither
        found(1, [100, 0, 50, 50], 0.7),  # hit
        found(2, [0, 0, 100, 62], 0.5),  # IoU 0.62: a hit at .50, .55, .60 only
        found(4, [0, 0, 10, 10], 0.5),  # a class without ground truth
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_hand_computed(truth, results, engine):
    # class 1: precision 1 up to recall 0.5 (51 of 101 recall points), 2/3 beyond
    evaluation = evaluate_coco(truth, results, iou_type="bbox", engine=engine)
    assert evaluation.category_ids.tolist() == [1, 2, 4, 7]
    assert evaluation.category_names == ("c1", "c2", "c4", "c7")
    first = (51 + 50 * 2 / 3) / 101
    np.testing.assert_allclose(evaluation.class_ap(), [first, 0.3, np.nan, 0], atol=1e-12)
    np.testing.assert_allclose(evaluation.class_ap(iou=0.5), [first, 1, np.nan, 0], atol=1e-12)
    np.testing.assert_allclose(evaluation.class_ap(iou=0.75), [first, 0, np.nan, 0], atol=1e-12)
    np.testing.assert_allclose(evaluation.class_ar(), [1, 0.3, np.nan, 0], atol=1e-12)
    np.testing.assert_allclose(evaluation.class_ap(area="large"), [np.nan, 0.3, np.nan, np.nan], atol=1e-12)
    assert evaluation.instances.tolist() == [2, 1, 0, 1]
    assert (evaluation.images, evaluation.detections) == (2, 6)


@pytest.mark.parametrize("engine", ENGINES)
def test_perfect_predictions(truth, engine):
    perfect = [found(a["category_id"], a["bbox"], 0.5) for a in truth["annotations"] if not a["iscrowd"]]
    ap = evaluate_coco(truth, perfect, iou_type="bbox", engine=engine).class_ap()
    np.testing.assert_allclose(ap, [1, 1, np.nan, 1], atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_max_detections_per_image_and_category(truth, results, engine):
    ap = evaluate_coco(truth, results, iou_type="bbox", engine=engine, max_detections=1).class_ap()
    np.testing.assert_allclose(ap, [51 / 101, 0.3, np.nan, 0], atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_mask_area_is_that_of_the_mask(truth, engine):
    """An L-shaped mask in a 40 x 40 box is small (700 px^2): found as small although its box is medium."""
    outline = [[0, 0, 40, 0, 40, 10, 10, 10, 10, 40, 0, 40]]
    truth["annotations"] = [
        {"id": 1, "image_id": 3, "category_id": 1, "bbox": [0, 0, 40, 40], "area": 700, "segmentation": outline}
    ]
    from pycocotools import mask as rle

    lost = rle.frPyObjects([[100, 100, 140, 100, 140, 110, 110, 110, 110, 140, 100, 140]], 200, 200)[0]
    exact = rle.frPyObjects(outline, 200, 200)[0]
    results = [
        {**found(1, [100, 100, 40, 40], 0.9), "segmentation": lost},
        {**found(1, [0, 0, 40, 40], 0.8), "segmentation": exact},
    ]
    evaluation = evaluate_coco(truth, results, iou_type="segm", engine=engine)
    # the lost one is small too, so it counts against the small AP: precision 1/2
    np.testing.assert_allclose(evaluation.class_ap(area="small")[0], 0.5, atol=1e-12)
    assert np.isnan(evaluation.class_ap(area="medium")).all()


def test_path_dict_and_loaded_are_the_same_and_nothing_is_changed(truth, results, tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth), encoding="utf-8")
    before = copy.deepcopy((truth, results))
    given = [path, str(path), truth, load_ground_truth(path, masks=False)]
    curves = [evaluate_coco(x, results, iou_type="bbox", engine="official").precision for x in given]
    assert (truth, results) == before
    for other in curves[1:]:
        np.testing.assert_array_equal(curves[0], other)


def test_numpy_values_in_results(truth, results):
    arrays = [{**r, "bbox": np.array(r["bbox"], dtype=np.float32), "score": np.float64(r["score"])} for r in results]
    plain = evaluate_coco(truth, results, iou_type="bbox", engine="fast").precision
    np.testing.assert_array_equal(plain, evaluate_coco(truth, arrays, iou_type="bbox", engine="fast").precision)


def test_lvis_records_without_iscrowd(truth, results):
    for annotation in truth["annotations"]:
        annotation.pop("iscrowd")
    assert evaluate_coco(truth, results, iou_type="bbox", engine="official").instances.tolist() == [3, 1, 0, 1]


@pytest.mark.parametrize("engine", ENGINES)
def test_silent(truth, results, engine, capfd):
    evaluate_coco(truth, results, iou_type="bbox", engine=engine)
    assert capfd.readouterr() == ("", "")


def test_auto_takes_hotcoco(truth, results, caplog):
    agreement.disagreement.cache_clear()
    assert evaluate_coco(truth, results, iou_type="bbox").engine.startswith("hotcoco ")
    assert not caplog.records


@pytest.mark.parametrize("fault", ["wrong", "raises", "missing"])
def test_auto_falls_back_and_says_so(truth, results, fault, monkeypatch, caplog):
    real = engines.run_hotcoco

    def faulty(*args, **options):
        if fault == "raises":
            raise OSError("no such symbol")
        precision, recall = real(*args, **options)
        return precision + 1e-6, recall

    monkeypatch.setattr(engines, "run_hotcoco", faulty)
    if fault == "missing":
        monkeypatch.setitem(sys.modules, "hotcoco", None)
    agreement.disagreement.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            evaluation = evaluate_coco(truth, results, iou_type="bbox")
    finally:
        agreement.disagreement.cache_clear()
    assert evaluation.engine.startswith("pycocotools ")
    expected = {"wrong": "differs", "raises": "no such symbol", "missing": "not installed"}[fault]
    assert expected in caplog.text


def test_unknown_or_missing_engine(truth, results, monkeypatch):
    with pytest.raises(RecipeError, match="allowed are auto, fast, official"):
        evaluate_coco(truth, results, iou_type="bbox", engine="turbo")
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(RecipeError, match="pip install"):
        evaluate_coco(truth, results, iou_type="bbox", engine="fast")


def test_annotations_that_cannot_be_used(truth, tmp_path):
    with pytest.raises(DataError, match=r"absent\.json: cannot be read"):
        evaluate_coco(tmp_path / "absent.json", [], iou_type="bbox")
    (tmp_path / "half.json").write_text('{"images": [', encoding="utf-8")
    with pytest.raises(DataError, match=r"half\.json: not a JSON object"):
        evaluate_coco(tmp_path / "half.json", [], iou_type="bbox")
    with pytest.raises(DataError, match="5 annotations have no segmentation"):
        evaluate_coco(truth, [], iou_type="segm")
    truth["annotations"][2]["bbox"] = [1, 2, 3]
    with pytest.raises(DataError, match=r"annotations\[2\]"):
        evaluate_coco(truth, [], iou_type="bbox")


def test_evaluating_files_needs_no_torch(truth, results, tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(truth), encoding="utf-8")
    (tmp_path / "r.json").write_text(json.dumps(results), encoding="utf-8")
    code = f"""
import sys
import lt_train.evaluation as e
assert not {{"pycocotools", "hotcoco", "pandas", "matplotlib"}} & set(sys.modules)
e.evaluate_coco({str(tmp_path / "t.json")!r}, e.read_results({str(tmp_path / "r.json")!r}), iou_type="bbox")
assert "torch" not in sys.modules and "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
