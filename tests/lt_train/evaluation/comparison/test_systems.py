"""Finished evaluations read back for a comparison."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_data.annotations.file import read_annotations
from lt_data.counts.training import UNKNOWN
from lt_data.errors import DataError
from lt_train.evaluation import summarise, write_evaluation, write_results
from lt_train.evaluation.comparison.bootstrap import class_ap, mean_ap
from lt_train.evaluation.comparison.compare import comparison_json
from lt_train.evaluation.comparison.differences import compare_systems
from lt_train.evaluation.comparison.systems import distinct_names, load_systems, read_all, read_stored, shared_groups
from lt_train.evaluation.directory import evaluation_inputs, inputs_to_json, read_inputs
from lt_train.evaluation.figures.average_precision import evaluate
from lt_train.evaluation.measure import measure
from tests.lt_train.evaluation.compared import GROUPS, record


@pytest.fixture
def stored(truth, results, tmp_path):
    """A run with its evaluation inside, and an evaluation elsewhere."""
    annotations = tmp_path / "val.json"
    annotations.write_text(json.dumps(truth), encoding="utf-8")
    for name, directory in (("base", tmp_path / "base/eval"), ("other", tmp_path / "other")):
        evaluation = evaluate(annotations, results[name], iou_type="bbox")
        inputs = evaluation_inputs(
            annotations,
            read_annotations(annotations).sha256,
            protocol="coco",
            max_detections=100,
            groups=GROUPS,
        )
        metrics = summarise({"bbox": evaluation}, groups=GROUPS)
        write_evaluation(directory, metrics, [], results[name], inputs=inputs)
    return tmp_path


def both(folder):
    return [read_stored(folder / "base"), read_stored(folder / "other")]


def test_finished_evaluations_are_read_back(stored, comparison):
    found = both(stored)
    assert [one.name for one in found] == ["base", "other"]
    assert shared_groups(found) == GROUPS
    systems = load_systems(found)
    assert systems[0].metrics["bbox"]["AP"] == pytest.approx(
        mean_ap(class_ap(systems[0].matches["bbox"]).ap, np.array([True] * 4))[0]
    )
    again = compare_systems(systems, groups=shared_groups(found), resamples=200, seed=3)
    assert comparison_json(again) == comparison_json(comparison)
    assert read_stored(stored / "base/eval").name == "base"
    assert read_stored(stored / "other", name="mine").name == "mine"


def test_annotations_that_moved(stored):
    (stored / "val.json").rename(stored / "moved.json")
    with pytest.raises(DataError, match=r"val.json: the annotations that were measured on are not there; say where"):
        load_systems(both(stored))
    assert len(load_systems(both(stored), annotations=stored / "moved.json")) == 2
    (stored / "wrong.json").write_text((stored / "moved.json").read_text() + " ", encoding="utf-8")
    with pytest.raises(DataError, match=r"wrong.json: not the annotations that were measured on \(sha256 "):
        load_systems(both(stored), annotations=stored / "wrong.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "other: measured on other annotations"),
        (
            {"protocol": "lvis", "max_detections": 300},
            "other: measured by lvis with 300 detections, base by coco with 100",
        ),
        ({"groups": []}, "other: has other groups of the training set than base"),
    ],
)
def test_measured_on_other_things(stored, changes, message):
    path = stored / "other/inputs.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        load_systems(both(stored))
    assert len(error.value.problems) == 1


def test_predictions_that_were_replaced(stored):
    (stored / "other/predictions.json").write_bytes((stored / "base/eval/predictions.json").read_bytes())
    with pytest.raises(DataError, match=r"other: predictions.json gives bbox AP \d+\.\d+, metrics.json says"):
        load_systems(both(stored))
    (stored / "other/predictions.json").unlink()
    with pytest.raises(DataError, match="predictions of other are not there"):
        load_systems(both(stored))


def test_what_is_no_evaluation(stored):
    (stored / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no metrics.json; give a run"):
        read_stored(stored / "empty")
    (stored / "other/inputs.json").unlink()
    with pytest.raises(DataError, match="nobody knows what was measured; evaluate again"):
        read_stored(stored / "other")
    for content, message in (("{", "not the metrics"), ("{}", "not metrics that this version knows")):
        (stored / "other/metrics.json").write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read_stored(stored / "other")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("bbox", "AP"), "0.5"),
        (("bbox", "AP50"), 50),
        (("bbox", "AP75"), KeyError),
        (("bbox", "groups"), [0.1]),
        (("bbox", "frequency"), None),
        (("counts",), KeyError),
        (("counts", "classes", "AP"), "three"),
        (("bbox",), None),
        (("segm",), 3),
    ],
)
def test_metrics_that_somebody_edited(stored, where, value):
    path = stored / "other/metrics.json"
    metrics = json.loads(path.read_text())
    inner = metrics
    for key in where[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    path.write_text(json.dumps(metrics))
    with pytest.raises(DataError, match=r"metrics.json: not (the )?metrics .*evaluate again") as error:
        read_stored(stored / "other")
    assert len(error.value.problems) == 1


def test_names_are_distinct():
    assert distinct_names([Path("c/s0/bags"), Path("c/s1/bags"), Path("d/plain")]) == ["s0/bags", "s1/bags", "plain"]
    assert distinct_names([Path("a/s0/x/eval"), Path("b/s0/x/eval")]) == ["a/s0/x", "b/s0/x"]
    assert distinct_names([Path("r/eval"), Path("r/eval-best")]) == ["r", "r/eval-best"]
    assert distinct_names([Path("/q/eval-best"), Path("/p/q/eval-best")]) == ["/q/eval-best", "p/q/eval-best"]
    assert distinct_names([Path("r"), Path("r/eval")]) == ["r", "eval"]


def test_one_evaluation_twice(stored):
    assert [one.name for one in read_all([stored / "base", stored / "other"])] == ["base", "other"]
    (stored / "link").symlink_to(stored / "base")
    for again in ("base/eval", "link"):
        with pytest.raises(DataError, match="is the same evaluation as .*; give it once") as error:
            read_all([stored / "base", stored / "other", stored / again])
        assert len(error.value.problems) == 1


def test_annotations_of_a_dataset_directory(stored):
    (stored / "set").mkdir()
    (stored / "val.json").rename(stored / "set/annotations.json")
    assert len(load_systems(both(stored), annotations=stored / "set")) == 2


def test_boxes_and_masks_against_boxes_alone(truth, tmp_path):
    """Two masks in one box are two detections, of which boxes alone would make a repetition."""
    rle = [{"size": [200, 200], "counts": mask_counts(columns)} for columns in (40, 60)]
    annotations = [{**a, "segmentation": {"size": [200, 200], "counts": mask_counts(50)}} for a in truth["annotations"]]
    path = tmp_path / "val.json"
    path.write_text(json.dumps({**truth, "annotations": annotations}))
    file = read_annotations(path)
    boxes = [record(1, 1, [10, 5, 20, 25], 0.9), record(2, 1, [10, 5, 20, 25], 0.8)]
    masked = [{**boxes[0], "segmentation": segmentation} for segmentation in rle]
    for name, found in (("both", masked), ("boxes", boxes)):
        (tmp_path / name).mkdir()
        write_results(tmp_path / name / "predictions.json", found)
        measured = measure(file, tmp_path / name / "predictions.json")
        write_evaluation(tmp_path / name, measured.metrics, measured.per_class, inputs=measured.inputs)
    systems = load_systems(read_all([tmp_path / "both", tmp_path / "boxes"]))
    assert [list(system.matches) for system in systems] == [["bbox"]] * 2
    assert [len(system.matches["bbox"].scores) for system in systems] == [2, 2]


def mask_counts(columns):
    from pycocotools import mask as rle

    mask = np.zeros((200, 200), np.uint8, order="F")
    mask[:, :columns] = 1
    return rle.encode(mask)["counts"].decode()


def test_iou_types_that_were_not_measured(stored):
    with pytest.raises(DataError, match="has no segm figures") as error:
        load_systems(both(stored), iou_types=["bbox", "segm"])
    assert len(error.value.problems) == 2


def test_inputs_survive_a_round_trip(stored, truth):
    from lt_data.counts.categories import count_categories

    counts = count_categories(read_annotations(stored / "val.json"))
    inputs = evaluation_inputs(
        *("val.json", "0" * 64),
        protocol="lvis",
        max_detections=300,
        groups=GROUPS,
        train_counts=counts,
        skip_invalid=True,
    )
    (stored / "inputs.json").write_bytes(inputs_to_json(inputs))
    assert read_inputs(stored) == inputs
    assert inputs.group_list() == GROUPS
    assert [(c.category_id, c.images, c.instances) for c in inputs.train_counts][:3] == [
        (1, 40, 80),
        (2, 20, 20),
        (7, 4, 4),
    ]
    unknown = replace(counts, images=np.full_like(counts.images, UNKNOWN))
    inputs = evaluation_inputs("v", "0", protocol="coco", max_detections=100, train_counts=unknown)
    (stored / "inputs.json").write_bytes(inputs_to_json(inputs))
    assert [c.images for c in read_inputs(stored).train_counts] == [None] * 4
    for text in ('{"schema": 2}', "[]", "{"):
        (stored / "inputs.json").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=r"inputs.json: not the record of an evaluation"):
            read_inputs(stored)
