import dataclasses
import json

import numpy as np
import pytest

from lt_data.counts.categories import CategoryCounts
from lt_data.groups import Group
from lt_train.evaluation import format_metrics, per_class_rows, summarise
from lt_train.evaluation.figures import metrics as metrics_module
from lt_train.evaluation.figures.average_precision import evaluate

GROUPS = (
    Group("(0, 10)", 0, 10, (1, 2, 9)),
    Group("[10, 100)", 10, 100, (3,)),
    Group("[100, ~)", 100, None, ()),
)
FREQUENCY = {1: "r", 2: "r", 3: "c", 9: "r"}
BOX_KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR", "ARs", "ARm", "ARl", "groups", "frequency"]


def truth():
    boxes = {1: [0, 0, 50, 50], 2: [60, 0, 50, 50], 3: [0, 60, 50, 50]}
    return {
        "images": [{"id": 1, "height": 200, "width": 200}],
        "categories": [{"id": i, "name": f"n{i}"} for i in (1, 2, 3, 9)],
        "annotations": [
            {
                "id": i,
                "image_id": 1,
                "category_id": i,
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": 0,
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            }
            for i, (x, y, w, h) in boxes.items()
        ],
    }


def evaluations(*found, types=("bbox",)):
    from pycocotools import mask as rle

    results = []
    for category, (x, y, w, h) in found:
        mask = rle.frPyObjects([[x, y, x + w, y, x + w, y + h, x, y + h]], 200, 200)[0]
        results.append(
            {"image_id": 1, "category_id": category, "bbox": [x, y, w, h], "score": 0.5, "segmentation": mask}
        )
    return {t: evaluate(truth(), results, iou_type=t, engine="official") for t in types}


FOUND = [(1, (0, 0, 50, 50)), (3, (0, 60, 50, 33))]  # class 1 exactly, class 3 with IoU 0.66: .50 to .65


def test_schema_and_values():
    metrics = summarise(evaluations(*FOUND, types=("bbox", "segm")), groups=GROUPS, frequency=FREQUENCY)
    assert list(metrics) == ["schema", "protocol", "engine", "max_detections", "bbox", "segm", "counts"]
    assert (metrics["schema"], metrics["protocol"], metrics["max_detections"]) == (1, "coco", 100)
    assert metrics["engine"].startswith("pycocotools ")
    assert list(metrics["bbox"]) == list(metrics["segm"]) == BOX_KEYS
    box = metrics["bbox"]
    assert box["AP"] == pytest.approx((1 + 0 + 0.4) / 3, abs=1e-12)
    assert box["AP50"] == pytest.approx(2 / 3, abs=1e-12)
    assert box["AP75"] == pytest.approx(1 / 3, abs=1e-12)
    assert (box["APs"], box["APl"]) == (None, None)
    assert box["APm"] == pytest.approx(box["AP"], abs=1e-12)
    assert box["AR"] == pytest.approx((1 + 0 + 0.4) / 3, abs=1e-12)
    assert (box["ARs"], box["ARm"], box["ARl"]) == (None, pytest.approx(box["AR"]), None)
    assert box["groups"] == {
        "(0, 10)": pytest.approx(0.5, abs=1e-12),
        "[10, 100)": pytest.approx(0.4, abs=1e-12),
        "[100, ~)": None,
    }
    assert box["frequency"] == {"r": pytest.approx(0.5), "c": pytest.approx(0.4), "f": None}
    assert metrics["counts"] == {
        "images": 1,
        "ground_truth": 3,
        "detections": 2,
        "classes": {
            "AP": 3,
            "groups": {"(0, 10)": 2, "[10, 100)": 1, "[100, ~)": 0},
            "frequency": {"r": 2, "c": 1, "f": 0},
        },
    }
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_segm_is_left_out_when_not_evaluated():
    assert "segm" not in summarise(evaluations(*FOUND), groups=GROUPS, frequency=FREQUENCY)


def test_without_predictions_everything_measured_is_zero():
    box = summarise(evaluations(), groups=GROUPS, frequency=FREQUENCY)["bbox"]
    assert (box["AP"], box["APm"], box["APs"], box["groups"]["(0, 10)"]) == (0, 0, None, 0)


def test_without_ground_truth_everything_is_null():
    empty = {**truth(), "annotations": []}
    evaluation = evaluate(empty, [], iou_type="bbox", engine="official")
    metrics = summarise({"bbox": evaluation}, groups=GROUPS, frequency=FREQUENCY)
    assert [metrics["bbox"][key] for key in BOX_KEYS[:10]] == [None] * 10
    assert set(metrics["bbox"]["groups"].values()) == {None}
    assert metrics["counts"]["classes"]["AP"] == 0


def test_group_aps_weighted_by_their_classes_give_ap():
    """On many random classes, some unmeasured."""
    rng = np.random.default_rng(0)
    k = 200
    base = evaluations(*FOUND)["bbox"]
    precision = np.repeat(rng.random((1, 1, k, 4)), 10, axis=0).repeat(101, axis=1)
    precision[:, :, rng.random(k) < 0.3] = -1
    evaluation = dataclasses.replace(
        base, category_ids=np.arange(k), precision=precision, recall=precision[:, 0], instances=np.ones(k, dtype=int)
    )
    ids = rng.integers(0, 3, k)
    groups = [Group(str(g), 0, None, tuple(np.flatnonzero(ids == g).tolist())) for g in range(3)]
    metrics = summarise({"bbox": evaluation}, groups=groups, frequency={})
    numbers = metrics["counts"]["classes"]
    weighted = sum(metrics["bbox"]["groups"][g] * n for g, n in numbers["groups"].items()) / numbers["AP"]
    assert weighted == pytest.approx(metrics["bbox"]["AP"], abs=1e-9)
    assert 0 < numbers["AP"] < k


def test_a_broken_identity_is_an_internal_error(monkeypatch):
    real = metrics_module.mean_or_none
    monkeypatch.setattr(metrics_module, "mean_or_none", lambda v: (real(v) or 0) + (0.01 if len(v) == 1 else 0))
    with pytest.raises(RuntimeError, match="internal error"):
        summarise(evaluations(*FOUND), groups=GROUPS, frequency=FREQUENCY)


def test_groups_that_do_not_cover_all_classes_are_allowed():
    metrics = summarise(evaluations(*FOUND), groups=GROUPS[:1], frequency={})
    assert metrics["bbox"]["groups"] == {"(0, 10)": pytest.approx(0.5)}
    assert "groups cover 2 of 3 measured classes" in format_metrics(metrics)


def test_evaluations_of_different_annotations_are_refused():
    one = evaluations(*FOUND)["bbox"]
    other = dataclasses.replace(one, iou_type="segm", images=2)
    with pytest.raises(ValueError, match="same annotations"):
        summarise({"bbox": one, "segm": other}, groups=GROUPS, frequency={})
    with pytest.raises(ValueError, match="'bbox' and/or 'segm'"):
        summarise({}, groups=GROUPS, frequency={})


def test_table():
    metrics = summarise(evaluations(*FOUND, types=("bbox", "segm")), groups=GROUPS, frequency=FREQUENCY)
    first, *lines = format_metrics(metrics).splitlines()
    engine = metrics["engine"]
    assert first == f"protocol coco (100 detections per image and category), engine {engine}"
    assert lines[0].split() == [*BOX_KEYS[:6], "AR@100"]
    assert lines[1].split() == ["classes", "3"]
    assert lines[2].split() == ["bbox", "46.7", "66.7", "33.3", "-", "46.7", "-", "46.7"]
    assert lines[3].startswith("segm")
    assert lines[4] == ""
    parts = lines[5:]
    assert parts[0].endswith("(0, 10)  [10, 100)  [100, ~)")
    assert parts[1].split() == ["classes", "2", "1", "0"]
    assert parts[2].split() == ["bbox", "50.0", "40.0", "-"]
    assert parts[4] == "groups weighted by their classes = AP: bbox 46.7 = 46.7, segm 46.7 = 46.7"
    cells = ("[10, 100)", "1", "40.0")  # name, classes and figure of the second group
    assert len({line.rindex(cell) + len(cell) for line, cell in zip(parts, cells, strict=False)}) == 1


def test_a_table_is_no_wider_than_a_terminal():
    rest = [Group(f"[{i * 1000}, {i * 1000 + 1000})", None, None, ()) for i in range(12)]
    metrics = summarise(evaluations(*FOUND, types=("bbox", "segm")), groups=[*GROUPS, *rest], frequency=FREQUENCY)
    lines = format_metrics(metrics).splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(lines).count("[11000, 12000)") == 1
    one = summarise(evaluations(*FOUND), groups=[Group("all", None, None, (1, 2, 3))], frequency=FREQUENCY)
    assert "" not in format_metrics(one).splitlines()


def federated(fixed=False):
    content = truth()
    for image in content["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    for category in content["categories"]:
        category["frequency"] = FREQUENCY[category["id"]]
    results = [{"image_id": 1, "category_id": c, "bbox": list(box), "score": 0.5} for c, box in FOUND]
    return {"bbox": evaluate(content, results, iou_type="bbox", engine="fast", fixed=fixed)}


def test_table_and_frequencies_of_lvis():
    """r, c and f come from the annotation file and have columns."""
    metrics = summarise(federated(), groups=GROUPS)
    assert metrics["bbox"]["frequency"] == {"r": pytest.approx(0.5), "c": pytest.approx(0.4), "f": None}
    first, figures, _, _, _, header, classes, box, _, *names = format_metrics(metrics).splitlines()
    assert " ".join(names) == "(0, 10) holds categories of 0 to 9 training instances, [100, ~) of 100 and more"
    assert first.startswith("protocol lvis (300 detections per image), engine hotcoco ")
    assert figures.split()[6:] == ["AR@300"]
    assert header.split()[:3] == ["APr", "APc", "APf"]
    assert classes.split() == ["classes", "2", "1", "0", "2", "1", "0"]
    assert box.split()[-6:] == ["50.0", "40.0", "-", "50.0", "40.0", "-"]


def test_fixed_ap_stands_beside_ap():
    metrics = summarise(federated(), groups=GROUPS, fixed=federated(fixed=True))
    assert list(metrics["bbox"])[-2:] == ["AP_fixed", "fixed"]
    assert metrics["bbox"]["AP_fixed"] == metrics["bbox"]["fixed"]["AP"] == pytest.approx(metrics["bbox"]["AP"])
    assert metrics["bbox"]["fixed"]["groups"] == pytest.approx(metrics["bbox"]["groups"])
    lines = format_metrics(metrics).splitlines()
    assert lines[4].startswith("bbox fixed ")
    assert lines[4].split()[8] == "-"  # its recall is of other detections than the column says
    assert "bbox fixed 46.7 = 46.7" in lines[-2]
    with pytest.raises(ValueError, match="fixed=True"):
        summarise(federated(), groups=GROUPS, fixed=federated())


def train_counts():
    return CategoryCounts(
        category_ids=np.array([1, 2, 3]),
        names=("n1", "n2", "n3"),
        instances=np.array([5, 6, 50]),
        images=np.array([4, 5, 40]),
        frequencies=("r", "r", "c"),
        frequency_source="counted",
    )


def test_per_class_rows():
    rows = per_class_rows(evaluations(*FOUND, types=("bbox", "segm")), groups=GROUPS, train_counts=train_counts())
    head = ["category_id", "name", "group", "train_images", "train_instances", "val_instances"]
    values = [f"{t}_{v}" for t in ("bbox", "segm") for v in ("AP", "AP50", "AR")]
    assert all(list(row) == head + values for row in rows)
    assert [list(row.values())[:6] for row in rows] == [
        [1, "n1", "(0, 10)", 4, 5, 1],
        [2, "n2", "(0, 10)", 5, 6, 1],
        [3, "n3", "[10, 100)", 40, 50, 1],
        [9, "n9", "(0, 10)", None, None, 0],
    ]
    assert [row["bbox_AP"] for row in rows] == [pytest.approx(1), 0, pytest.approx(0.4), None]
    assert [row["bbox_AP50"] for row in rows] == [pytest.approx(1), 0, pytest.approx(1), None]
    assert [row["bbox_AR"] for row in rows] == [pytest.approx(1), 0, pytest.approx(0.4), None]


def test_per_class_rows_where_little_is_known_of_the_training_set():
    unknown = dataclasses.replace(train_counts(), images=np.array([-1, -1, -1]))
    rows = per_class_rows(evaluations(*FOUND), groups=GROUPS, train_counts=unknown)
    assert [(row["train_images"], row["train_instances"]) for row in rows] == [
        (None, 5),
        (None, 6),
        (None, 50),
        (None,) * 2,
    ]
    rows = per_class_rows(evaluations(*FOUND), groups=(), train_counts=None)
    assert {(row["group"], row["train_images"], row["train_instances"]) for row in rows} == {(None, None, None)}


def test_per_class_rows_of_boxes_only():
    rows = per_class_rows(evaluations(*FOUND), groups=GROUPS, train_counts=train_counts())
    assert not any(key.startswith("segm") for key in rows[0])
