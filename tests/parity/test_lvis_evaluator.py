"""hotcoco against the lvis package 0.5.3, and that package through our adapter against itself."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest

from lt_train.evaluation.engines import self_check as agreement
from lt_train.evaluation.engines.lvis_package import find_lvis
from lt_train.evaluation.engines.official import run_lvis
from lt_train.evaluation.figures.average_precision import evaluate
from tests.parity.evaluation_cases import assert_same_curves, perturbed_case, random_case, seeded_case

pytest.importorskip("hotcoco")
needs_lvis = pytest.mark.skipif(find_lvis() is None, reason="the package lvis is not installed (extra official)")


@needs_lvis
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize(
    ("seed", "options"), [(0, {}), (1, {}), (2, {"max_detections": 40}), (3, {"fixed": True})], ids=str
)
def test_random_data(seed, options, iou_type):
    """With annotations without area and crowds, which the lvis package reads as ordinary ones."""
    truth, results = random_case(seed, federated=True)
    truth["annotations"][10] |= {"area": 0}
    assert sum(r["image_id"] == 1 for r in results) > 300
    found = assert_same_curves(truth, results, iou_type, protocol="lvis", **options)
    assert found.category_ids[np.isnan(found.class_ap())].tolist() == [7]
    assert found.precision.max() > 0.1
    assert found.instances.sum() == len(truth["annotations"]) - 1


@needs_lvis
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_no_detections_at_all(iou_type):
    truth, _ = random_case(0, federated=True)
    assert np.nanmax(assert_same_curves(truth, [], iou_type, protocol="lvis").class_ap()) == 0


@needs_lvis
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_lvis_as_everybody_calls_it(iou_type, tmp_path, monkeypatch):
    """Our official engine gives the numbers of a plain script on the same files."""
    for module in [name for name in sys.modules if name.partition(".")[0] == "lvis"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(np, "float", float, raising=False)
    lvis = pytest.importorskip("lvis", exc_type=ImportError)
    truth, results = random_case(3, federated=True)
    truth["annotations"] = [{**a, "id": a["id"] + 1} for a in truth["annotations"]]
    given = [{k: v for k, v in r.items() if k != ("bbox" if iou_type == "segm" else "segmentation")} for r in results]
    for name, content in (("truth", truth), ("found", given)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    evaluator = lvis.LVISEval(str(tmp_path / "truth.json"), str(tmp_path / "found.json"), iou_type)
    evaluator.run()
    ours = evaluate(tmp_path / "truth.json", results, iou_type=iou_type, engine="official")
    np.testing.assert_array_equal(ours.precision, evaluator.eval["precision"])
    np.testing.assert_array_equal(ours.recall, evaluator.eval["recall"])
    figures = [np.nanmean(ours.class_ap()), *(np.nanmean(ours.class_ar(area=a)) for a in ("all", "small", "large"))]
    theirs = [evaluator.get_results()[name] for name in ("AP", "AR@300", "ARs@300", "ARl@300")]
    np.testing.assert_allclose(figures, theirs, rtol=0, atol=1e-12)


@needs_lvis
def test_the_adapter_changes_nothing_for_others():
    """No module, no NumPy attribute, no log handler, no drawing library is left behind; an own lvis stays as it is."""
    code = """
import logging, sys, types
mine = sys.modules["lvis"] = types.ModuleType("lvis")
import numpy
from lt_train.evaluation.engines.lvis_package import lvis_eval
module = lvis_eval()
assert module.np.float is float and module.LVISEval.__module__ == "lvis.eval"
assert not hasattr(numpy, "float")
assert not logging.getLogger().handlers
assert sys.modules["lvis"] is mine
assert not {name for name in sys.modules if name.split(".")[0] in ("cv2", "matplotlib") or name.startswith("lvis.")}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_lvis
def test_silent(capfd, caplog):
    truth, results = random_case(5, federated=True)
    with caplog.at_level(logging.INFO):
        evaluate(truth, results, iou_type="bbox", engine="official")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not logging.getLogger("lvis.results").disabled


@needs_lvis
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_the_figures_of_the_self_check_are_those_of_the_package(iou_type):
    truth, found = agreement.built_in_case(iou_type, "lvis")
    curves = run_lvis(truth, found, iou_type=iou_type, max_detections=agreement.KEPT["lvis"])
    np.testing.assert_allclose(agreement.sums(curves), agreement.LVIS_SUMS[iou_type], rtol=0, atol=1e-9)


# of lvis 0.5.3
PINNED = {
    "bbox": [
        0.34890263038857167,
        0.6054729444484421,
        0.14033946251768017,
        0.4106328718178591,
        0.8749999999999999,
        0.5982308201058202,
    ],
    "segm": [
        0.2729589344674788,
        0.565597760765787,
        0.09098617004557603,
        0.3299342646171683,
        0.6999999999999998,
        0.5028108465608465,
    ],
}


@pytest.mark.parametrize("engine", ["fast", pytest.param("official", marks=needs_lvis)])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_pinned_figures(iou_type, engine):
    """AP, AP50, APs, APm, APl and AR of whole-number data that every machine draws the same."""
    truth, results = seeded_case(federated=True)
    found = evaluate(truth, results, iou_type=iou_type, engine=engine, max_detections=60)
    assert found.protocol == "lvis"
    values = [found.class_ap(), found.class_ap(iou=0.5)]
    values += [found.class_ap(area=area) for area in ("small", "medium", "large")] + [found.class_ar()]
    np.testing.assert_allclose([np.nanmean(value) for value in values], PINNED[iou_type], rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def real_case(shared_data):
    return perturbed_case(shared_data / "lvis_val_100/lvis_val_100.json", 100)


@needs_lvis
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_real_annotations(real_case, iou_type):
    """Each annotation is found about twice, and as another category that was looked for or not."""
    truth, results = real_case
    rng = np.random.default_rng(1)
    ids = [c["id"] for c in truth["categories"]]
    lists = {i["id"]: i["neg_category_ids"] + i["not_exhaustive_category_ids"] + ids[:3] for i in truth["images"]}
    wrong = [
        {**r, "category_id": int(rng.choice(lists[r["image_id"]])), "score": float(np.float32(rng.random()))}
        for r in results[::2]
    ]
    found = assert_same_curves(truth, results + wrong, iou_type, protocol="lvis")
    assert 0.2 < np.nanmean(found.class_ap()) < 0.9
    assert found.max_detections == 300
