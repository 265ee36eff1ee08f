import copy
import importlib
import json
import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest

from lt_data.errors import DataError, RecipeError
from lt_train.evaluation import load_ground_truth, read_detections
from lt_train.evaluation.engines import choose as engines
from lt_train.evaluation.engines import self_check as agreement
from lt_train.evaluation.engines.lvis_package import find_lvis
from lt_train.evaluation.engines.protocols import best_of_each
from lt_train.evaluation.figures.average_precision import evaluate, evaluate_checked

evaluate_module = importlib.import_module("lt_train.evaluation.figures.average_precision")

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
    evaluation = evaluate(truth, results, iou_type="bbox", engine=engine)
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
    ap = evaluate(truth, perfect, iou_type="bbox", engine=engine).class_ap()
    np.testing.assert_allclose(ap, [1, 1, np.nan, 1], atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_max_detections_per_image_and_category(truth, results, engine):
    ap = evaluate(truth, results, iou_type="bbox", engine=engine, max_detections=1).class_ap()
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
    evaluation = evaluate(truth, results, iou_type="segm", engine=engine)
    # the lost one is small too, so it counts against the small AP: precision 1/2
    np.testing.assert_allclose(evaluation.class_ap(area="small")[0], 0.5, atol=1e-12)
    assert np.isnan(evaluation.class_ap(area="medium")).all()


def test_path_dict_and_loaded_are_the_same_and_nothing_is_changed(truth, results, tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth), encoding="utf-8")
    before = copy.deepcopy((truth, results))
    given = [path, str(path), truth, load_ground_truth(path, masks=False)]
    curves = [evaluate(x, results, iou_type="bbox", engine="official").precision for x in given]
    assert (truth, results) == before
    for other in curves[1:]:
        np.testing.assert_array_equal(curves[0], other)


def test_numpy_values_in_results(truth, results):
    arrays = [{**r, "bbox": np.array(r["bbox"], dtype=np.float32), "score": np.float64(r["score"])} for r in results]
    plain = evaluate(truth, results, iou_type="bbox", engine="fast").precision
    np.testing.assert_array_equal(plain, evaluate(truth, arrays, iou_type="bbox", engine="fast").precision)


def test_lvis_records_without_iscrowd(truth, results):
    for annotation in truth["annotations"]:
        annotation.pop("iscrowd")
    assert evaluate(truth, results, iou_type="bbox", engine="official").instances.tolist() == [3, 1, 0, 1]


def test_detections_that_were_checked_are_not_checked_again(truth, results, monkeypatch):
    ground_truth = load_ground_truth(truth, masks=False)
    detections = read_detections(results, ground_truth)
    expected = evaluate(truth, results, iou_type="bbox").precision
    with pytest.raises(DataError, match="was read without masks"):
        evaluate(ground_truth, detections, iou_type="segm")
    monkeypatch.setattr(evaluate_module, "read_detections", None)
    np.testing.assert_array_equal(evaluate_checked(detections, iou_type="bbox").precision, expected)
    with pytest.raises(AssertionError, match="not checked for this IoU type"):
        evaluate_checked(detections, iou_type="segm")


@pytest.mark.parametrize("engine", ENGINES)
def test_silent(truth, results, engine, capfd):
    evaluate(truth, results, iou_type="bbox", engine=engine)
    assert capfd.readouterr() == ("", "")


def test_auto_takes_hotcoco(truth, results, caplog):
    agreement.disagreement.cache_clear()
    assert evaluate(truth, results, iou_type="bbox").engine.startswith("hotcoco ")
    assert not caplog.records


@pytest.fixture
def lists(truth):
    """The same annotations as an LVIS file."""
    for image in truth["images"]:
        image |= {"neg_category_ids": [4], "not_exhaustive_category_ids": []}
    truth["annotations"] = [a for a in truth["annotations"] if not a["iscrowd"]]
    return truth


def test_protocol_is_that_of_the_file(truth, results, lists):
    found = evaluate(lists, results, iou_type="bbox", engine="fast")
    assert (found.protocol, found.max_detections) == ("lvis", 300)
    found = evaluate(lists, results, iou_type="bbox", protocol="coco", engine="fast")
    assert (found.protocol, found.max_detections) == ("coco", 100)
    del lists["images"][0]["neg_category_ids"]
    assert evaluate(lists, results, iou_type="bbox").protocol == "coco"
    with pytest.raises(DataError, match="not every image has neg_category_ids and not_exhaustive") as caught:
        evaluate(lists, results, iou_type="bbox", protocol="lvis")
    assert len(caught.value.problems) == 1
    with pytest.raises(RecipeError, match="allowed are auto, coco, lvis"):
        evaluate(truth, results, iou_type="bbox", protocol="voc")


def test_federated_by_hand(lists, results):
    """Class 4 is negative in image 3: found there, it is wrong; class 2 where nobody looked for it does not count."""
    lists["annotations"].append({"id": 9, "image_id": 5, "category_id": 4, "bbox": [0, 0, 9, 9], "area": 81})
    right, elsewhere = found(4, [0, 0, 9, 9], 0.4, image_id=5), found(2, [0, 0, 9, 9], 0.9, image_id=5)
    ap = evaluate(lists, [*results, right, elsewhere], iou_type="bbox", engine="fast").class_ap()
    # class 1: without its crowd, one wrong detection more before the second hit
    np.testing.assert_allclose(ap, [(51 + 50 * 2 / 4) / 101, 0.3, 0.5, 0], atol=1e-12)
    for image in lists["images"]:
        image["not_exhaustive_category_ids"] = [1, 4]
    ap = evaluate(lists, [*results, right, elsewhere], iou_type="bbox", engine="fast").class_ap()
    np.testing.assert_allclose(ap, [1, 0.3, 1, 0], atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_fixed_ap_by_hand(engine, monkeypatch):
    """Per image one detection counts, so only the false one of class 1; the two best of a class over both images do."""
    monkeypatch.setattr(evaluate_module, "FIXED_PER_CATEGORY", 2)
    boxes = [[0, 0, 50, 50], [100, 100, 60, 60]]
    rows = [(image, c, boxes[c - 1]) for image in (3, 5) for c in (1, 2)]
    annotations = [
        {"id": i, "image_id": image, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, (image, c, box) in enumerate(rows, start=1)
    ]
    sizes = {"height": 200, "width": 200, "neg_category_ids": [], "not_exhaustive_category_ids": []}
    truth = {"images": [{"id": i, **sizes} for i in (3, 5)], "annotations": annotations}
    truth["categories"] = [{"id": i, "name": str(i), "frequency": "r"} for i in (1, 2)]
    results = [
        found(1, [150, 0, 9, 9], 0.9),
        found(1, boxes[0], 0.8),
        found(2, boxes[1], 0.7),
        found(1, boxes[0], 0.1, 5),
    ]
    for protocol in ("coco", "lvis"):
        options = {"iou_type": "bbox", "protocol": protocol, "engine": engine}
        if engine == "official" and protocol == "lvis" and find_lvis() is None:
            continue
        few = evaluate(truth, results, max_detections=1, **options)
        # by coco, one of each category in an image; by lvis, one of an image
        expected = [51 / 101 / 2, 51 / 101 if protocol == "coco" else 0]
        np.testing.assert_allclose(few.class_ap(), expected, atol=1e-12)
        fixed = evaluate(truth, results, fixed=True, **options)
        # class 1 keeps 0.9 and 0.8, not 0.1
        np.testing.assert_allclose(fixed.class_ap(), [51 / 101 / 2, 51 / 101], atol=1e-12)
        assert (fixed.fixed, fixed.max_detections, few.fixed) == (True, 2, False)


def test_fixed_ap_has_its_own_limit(truth, results):
    assert evaluate(truth, results, iou_type="bbox", fixed=True).max_detections == 10_000
    with pytest.raises(RecipeError, match="leave out max_detections"):
        evaluate(truth, results, iou_type="bbox", fixed=True, max_detections=5)
    with pytest.raises(RecipeError, match="whole numbers from 1"):
        evaluate(truth, results, iou_type="bbox", max_detections=0)


def test_best_of_each_keeps_the_earlier_of_a_tie():
    keys, scores = np.array([1, 0, 1, 1, 0, 3]), np.array([0.5, 0.1, 0.9, 0.5, 0.2, 0.0])
    assert best_of_each(keys, scores, 2).tolist() == [True, True, True, False, True, True]
    assert best_of_each(keys, scores, 1).tolist() == [False, False, True, False, True, True]
    assert best_of_each(keys[:0], scores[:0], 1).tolist() == []


@pytest.fixture
def faulty_hotcoco(monkeypatch):
    """A function that breaks hotcoco, and forgets what the self-check said before and after."""
    real = agreement.run_hotcoco

    def make(fault):
        def faulty(*args, **options):
            if fault == "raises":
                raise OSError("no such symbol")
            precision, recall = real(*args, **options)
            return precision + 1e-6, recall

        monkeypatch.setattr(agreement, "run_hotcoco", faulty)
        if fault == "missing":
            monkeypatch.setitem(sys.modules, "hotcoco", None)

    agreement.disagreement.cache_clear()
    engines._warn.cache_clear()
    yield make
    agreement.disagreement.cache_clear()
    engines._warn.cache_clear()


FAULTS = {"wrong": "figures differ from those of", "raises": "no such symbol", "missing": "hotcoco is not installed"}


@pytest.mark.parametrize("fault", FAULTS)
def test_auto_falls_back_and_says_so(truth, results, fault, faulty_hotcoco, caplog):
    faulty_hotcoco(fault)
    with caplog.at_level(logging.WARNING):
        evaluation = evaluate(truth, results, iou_type="bbox")
        evaluate(truth, results, iou_type="bbox")
    assert evaluation.engine.startswith("pycocotools ")
    assert FAULTS[fault] in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("protocol", ["coco", "lvis"])
def test_fast_is_refused_where_it_fails_its_self_check(fault, protocol, faulty_hotcoco):
    faulty_hotcoco(fault)
    with pytest.raises(RecipeError, match=r"^evaluation engine 'fast': .*; choose official or auto$") as caught:
        engines.choose_engine("fast", protocol)
    assert FAULTS[fault] in str(caught.value)
    assert fault == "missing" or "failed its self-check" in str(caught.value)


@pytest.mark.parametrize("fault", FAULTS)
def test_auto_falls_back_to_the_lvis_package(lists, results, fault, faulty_hotcoco, caplog, monkeypatch):
    faulty_hotcoco(fault)
    if find_lvis() is not None:
        with caplog.at_level(logging.WARNING):
            assert evaluate(lists, results, iou_type="bbox").engine == "lvis 0.5.3"
        assert FAULTS[fault] in caplog.text
    monkeypatch.setattr(engines, "find_lvis", lambda: None)
    with pytest.raises(RecipeError, match=r"nothing can evaluate the protocol lvis: .*pip install") as caught:
        evaluate(lists, results, iou_type="bbox")
    assert len(caught.value.problems) == 1
    assert FAULTS[fault] in str(caught.value)


def test_self_check_of_both_protocols_passes():
    assert agreement.disagreement("coco") is None
    assert agreement.disagreement("lvis") is None


def test_unknown_or_missing_engine(truth, lists, results, monkeypatch):
    with pytest.raises(RecipeError, match="allowed are auto, fast, official"):
        evaluate(truth, results, iou_type="bbox", engine="turbo")
    with pytest.raises(RecipeError, match="allowed are bbox, segm"):
        evaluate(truth, results, iou_type="keypoints")
    monkeypatch.setattr(engines, "find_lvis", lambda: None)
    with pytest.raises(RecipeError, match=r"pip install 'lt-detection\[official\]'"):
        evaluate(lists, results, iou_type="bbox", engine="official")
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(RecipeError, match="pip install"):
        evaluate(truth, results, iou_type="bbox", engine="fast")


@pytest.mark.parametrize("engine", ENGINES)
def test_boxes_beyond_all_images_are_measured_without_a_warning(truth, engine):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation = evaluate(truth, [found(2, [0, 0, 1e308, 1e308], 0.5)], iou_type="bbox", engine=engine)
    assert evaluation.class_ap()[1] == 0


def test_annotations_that_cannot_be_used(truth, tmp_path):
    with pytest.raises(DataError, match=r"absent\.json: cannot be read"):
        evaluate(tmp_path / "absent.json", [], iou_type="bbox")
    (tmp_path / "half.json").write_text('{"images": [', encoding="utf-8")
    with pytest.raises(DataError, match=r"half\.json: ends in the middle"):
        evaluate(tmp_path / "half.json", [], iou_type="bbox")
    with pytest.raises(DataError, match=r"5 of 5 annotations \(ids 0, 1, 2\) have no segmentation"):
        evaluate(truth, [], iou_type="segm")
    truth["annotations"][2]["bbox"] = [1, 2, 3]
    with pytest.raises(DataError, match=r"annotations\[2\]"):
        evaluate(truth, [], iou_type="bbox")
    truth["annotations"][2]["bbox"] = [1, 2, 3, 4]
    truth["images"][0]["neg_category_ids"] = ["x"]
    with pytest.raises(DataError, match=r"images\[0\]: Expected `int`, got `str`"):
        evaluate(truth, [], iou_type="bbox")


@pytest.mark.parametrize(
    "mask",
    [
        *([[0, 0, 5]], [[0, 0, 5, 0]], [[0, 0, 5, 0, 5, None]], [["a"] * 6], "x", [[0, 0, 1e9, 0, 1e9, 1e9]]),
        *({"size": [200, 201], "counts": [0, 40200]}, {"size": [200, 200], "counts": "0"}, {"counts": "0"}),
        *({"size": [200, 200], "counts": [100, 5, 400]}, {"size": [200, 200], "counts": [100, -5, 39905]}),
    ],
)
def test_masks_that_make_no_sense_are_refused_before_an_engine_sees_them(truth, mask):
    """Some of them end the process in pycocotools."""
    for annotation in truth["annotations"]:
        annotation["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    truth["annotations"][1]["segmentation"] = {"size": [200, 200], "counts": [10, 39990]}
    assert load_ground_truth(truth, masks=True).segmentations[1] == {"size": [200, 200], "counts": [10, 39990]}
    truth["annotations"][2]["segmentation"] = mask
    with pytest.raises(DataError, match=r"1 of 5 annotations \(ids 2\) have a segmentation that cannot be read"):
        load_ground_truth(truth, masks=True)


def test_evaluating_files_needs_no_torch(truth, results, tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(truth), encoding="utf-8")
    (tmp_path / "r.json").write_text(json.dumps(results), encoding="utf-8")
    code = f"""
import sys
import lt_train.evaluation as e
assert not {{"pycocotools", "hotcoco", "pandas", "matplotlib"}} & set(sys.modules)
e.evaluate({str(tmp_path / "t.json")!r}, {str(tmp_path / "r.json")!r}, iou_type="bbox")
assert "torch" not in sys.modules and "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
