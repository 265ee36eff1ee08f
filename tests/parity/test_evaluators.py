"""hotcoco against pycocotools: the whole precision and recall arrays, not only the averages."""

import json

import numpy as np
import pytest

from lt_train.evaluation.figures.average_precision import evaluate
from tests.parity.evaluation_cases import assert_same_curves, perturbed_case, random_case, seeded_case

pytest.importorskip("hotcoco")


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize(
    ("seed", "options"), [(0, {}), (1, {}), (2, {"max_detections": 5}), (3, {"fixed": True})], ids=str
)
def test_random_data(seed, options, iou_type):
    truth, results = random_case(seed)
    found = assert_same_curves(truth, results, iou_type, protocol="coco", **options)
    unmeasured = found.category_ids[np.isnan(found.class_ap())]
    assert unmeasured.tolist() == [5, 7]
    assert found.precision.max() > 0.1


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_no_detections_at_all(iou_type):
    truth, _ = random_case(0)
    found = assert_same_curves(truth, [], iou_type, protocol="coco")
    assert np.nanmax(found.class_ap()) == 0


def test_negative_ids():
    """hotcoco alone refuses them."""
    truth, results = random_case(4)
    expected = evaluate(truth, results, iou_type="bbox", engine="official")
    for record in [*truth["images"], *truth["categories"]]:
        record["id"] -= 6
    for record in [*truth["annotations"], *results]:
        record["image_id"] -= 6
        record["category_id"] -= 6
    found = assert_same_curves(truth, results, "bbox", protocol="coco")
    np.testing.assert_array_equal(found.precision, expected.precision)


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
    ours = evaluate(path, results, iou_type=iou_type, engine="official")
    np.testing.assert_array_equal(ours.precision, evaluator.eval["precision"][..., -1])
    np.testing.assert_array_equal(ours.recall, evaluator.eval["recall"][..., -1])
    figures = [
        np.nanmean(ours.class_ap()),
        np.nanmean(ours.class_ap(iou=0.5)),
        np.nanmean(ours.class_ap(iou=0.75)),
        *(np.nanmean(ours.class_ap(area=area)) for area in ("small", "medium", "large")),
    ]
    np.testing.assert_allclose(figures, evaluator.stats[:6], rtol=0, atol=1e-12)
    recalls = [np.nanmean(ours.class_ar(area=area)) for area in ("all", "small", "medium", "large")]
    np.testing.assert_allclose(recalls, evaluator.stats[8:], rtol=0, atol=1e-12)


# of pycocotools 2.0.11
PINNED = {
    "bbox": [
        0.24001764405083684,
        0.45885284838521573,
        0.08491758881347437,
        0.3213150192980812,
        0.7666666666666742,
        0.6389102028575712,
    ],
    "segm": [
        0.19888367149370748,
        0.4519711534569242,
        0.06596067503184966,
        0.26222819988781504,
        0.6999999999999998,
        0.5434091347249241,
    ],
}


@pytest.mark.parametrize("engine", ["fast", "official"])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_pinned_figures(iou_type, engine):
    """AP, AP50, APs, APm, APl and AR of whole-number data that every machine draws the same."""
    truth, results = seeded_case(federated=False)
    found = evaluate(truth, results, iou_type=iou_type, engine=engine)
    values = [found.class_ap(), found.class_ap(iou=0.5)]
    values += [found.class_ap(area=area) for area in ("small", "medium", "large")] + [found.class_ar()]
    np.testing.assert_allclose([np.nanmean(value) for value in values], PINNED[iou_type], rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def real_case(shared_data):
    return perturbed_case(shared_data / "coco_real/annotations/instances_val2017.json", 120)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_real_annotations(real_case, iou_type):
    truth, results = real_case
    assert any(a["iscrowd"] for a in truth["annotations"])
    found = assert_same_curves(truth, results, iou_type, protocol="coco")
    assert 0.2 < np.nanmean(found.class_ap()) < 0.9
