import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_data.annotations import read_annotations
from lt_data.errors import DataError
from lt_data.groups import Group
from lt_data.train_counts import UNKNOWN
from lt_train.evaluation import evaluate, load_ground_truth, read_detections, summarise, write_evaluation, write_results
from lt_train.evaluation.bootstrap import class_ap, image_weights, mean_ap, percentile_interval, weighted_class_ap
from lt_train.evaluation.compare import System, compare
from lt_train.evaluation.comparison_files import comparison_csv, comparison_json, format_comparison
from lt_train.evaluation.inputs import evaluation_inputs, inputs_to_json, read_inputs
from lt_train.evaluation.matches import match
from lt_train.evaluation.measure import measure
from lt_train.evaluation.systems import distinct_names, load_systems, read_all, read_stored, shared_groups

GROUPS = (Group("(0, 10)", 0, 10, (7,)), Group("[10, ~)", 10, None, (1, 2)))


@pytest.fixture(scope="module")
def truth():
    """40 images; category 1 in all, 2 in half, 7 in four of them, 9 in none."""
    annotations = []
    for image in range(1, 41):
        for category in [1, 1, *([2] * (image % 2)), *([7] * (image % 10 == 0))]:
            n = len(annotations)
            box = [10 + 37 * n % 60, 5 + 53 * n % 70, 20 + n % 30, 25 + n % 20]
            annotations.append(
                {"id": n + 1, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
            )
    return {
        "images": [{"id": i, "height": 200, "width": 200} for i in range(1, 41)],
        "categories": [{"id": 7, "name": "seven, rare"}, *({"id": i, "name": f"c{i}"} for i in (1, 2, 9))],
        "annotations": annotations,
    }


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


@pytest.fixture(scope="module")
def results(truth):
    """The second finds class 2 far better; class 1 differs by chance."""
    return {
        "base": predictions(truth, {1: 0.7, 2: 0.4, 7: 0.3}),
        "other": predictions(truth, {1: 0.7, 2: 0.95, 7: 1}, seed=1),
    }


@pytest.fixture(scope="module")
def systems(truth, results):
    ground_truth = load_ground_truth(truth, masks=False)
    return [System(name, {"bbox": matched(ground_truth, found)}) for name, found in results.items()]


def matched(ground_truth, found, **options):
    detections = read_detections(found, ground_truth, iou_types=["bbox"])
    given = {"iou_type": "bbox", "protocol": "coco", "max_detections": 100, **options}
    return match(ground_truth, detections, **given)


@pytest.fixture(scope="module")
def comparison(systems):
    return compare(systems, groups=GROUPS, resamples=200, seed=3)


def rows_of(comparison):
    return {row.name: row for row in comparison.rows["bbox"]}


def test_figures_are_those_of_the_evaluation(truth, results, comparison):
    rows = rows_of(comparison)
    evaluations = [evaluate(truth, found, iou_type="bbox") for found in results.values()]
    metrics = [summarise({"bbox": one}, groups=GROUPS)["bbox"] for one in evaluations]
    for name in ("AP", "AP50"):
        assert rows[name].values == pytest.approx([m[name] for m in metrics], abs=1e-12)
    for group in GROUPS:
        assert rows[group.name].values == pytest.approx([m["groups"][group.name] for m in metrics], abs=1e-12)
    for k, name in enumerate(("c1", "c2", "seven, rare")):
        assert rows[name].values == pytest.approx([one.class_ap()[k] for one in evaluations], abs=1e-12)
    assert rows["c9"].values == (None, None)
    assert [row.kind for row in comparison.rows["bbox"]] == ["overall"] * 2 + ["group"] * 2 + ["class"] * 4
    assert (comparison.names, comparison.images, comparison.protocol) == (("base", "other"), 40, "coco")


def test_intervals_are_of_paired_resamples(systems, comparison):
    weights = image_weights(40, 200, seed=3)
    first, second = (weighted_class_ap(system.matches["bbox"], weights) for system in systems)
    members = np.array([True, True, False, False])
    draws = mean_ap(second.ap, members) - mean_ap(first.ap, members)
    change = rows_of(comparison)["[10, ~)"].changes[0]
    assert (change.low, change.high) == percentile_interval(draws)
    assert change.low < change.value < change.high


def test_noise(comparison):
    rows = rows_of(comparison)
    assert rows["c2"].changes[0].value > 0.3
    assert rows["c2"].changes[0].within_noise is False
    assert rows["c1"].changes[0].within_noise is True
    # four images with ground truth: an interval, but no verdict
    assert rows["seven, rare"].images == 4
    assert rows["seven, rare"].changes[0].within_noise is None
    assert rows["seven, rare"].changes[0].low is not None
    assert rows["c9"].changes[0] == replace(rows["c9"].changes[0], value=None, low=None, high=None, within_noise=None)


def test_counts(comparison):
    rows = rows_of(comparison)
    assert [(rows[n].classes, rows[n].images, rows[n].instances) for n in ("AP", "[10, ~)", "(0, 10)", "c2", "c9")] == [
        *((3, 40, 104), (2, 40, 100)),
        *((1, 4, 4), (1, 20, 20), (0, 0, 0)),
    ]
    assert [(rows[n].category_id, rows[n].group) for n in ("c2", "seven, rare", "c9")] == [
        *((2, "[10, ~)"), (7, "(0, 10)"), (9, None)),
    ]


def test_a_system_against_itself(systems):
    """Were its images not drawn alike for both, the intervals would be wide."""
    same = compare([systems[0], replace(systems[0], name="again")], groups=GROUPS, resamples=20)
    for row in same.rows["bbox"]:
        change = row.changes[0]
        assert (change.value, change.low, change.high) in ((0, 0, 0), (None, None, None))
        assert change.within_noise in (True, None)


def test_seed(systems, comparison):
    again = compare(systems, groups=GROUPS, resamples=200, seed=3)
    assert comparison_json(again) == comparison_json(comparison)
    assert comparison_json(compare(systems, groups=GROUPS, resamples=200, seed=4)) != comparison_json(comparison)


def test_table(systems, comparison):
    text = format_comparison(comparison)
    lines = text.splitlines()
    assert lines[0].split() == ["bbox", "classes", "base", "other", "other", "-", "base"]
    ap = rows_of(comparison)["AP"]
    change = ap.changes[0]
    percents = [f"{100 * v:.1f}" for v in ap.values]
    interval = f"{100 * change.value:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
    assert lines[1].split(maxsplit=4) == ["AP", "3", *percents, interval]
    assert "bbox, other against base: 1 of 2 classes changed beyond noise (0 would by chance alone)" in lines
    gains = lines[next(i for i, line in enumerate(lines) if line.startswith("largest gains")) + 1 :]
    assert gains[0].split()[:6] == ["seven,", "rare", "(0,", "10)", "4", "4"]
    assert gains[0].endswith("?")
    assert gains[1].startswith("c2")
    assert "not the seed of the training" in text
    assert "200 paired resamples of the 40 images (seed 3)" in text
    shortest = format_comparison(comparison, top=1)
    assert "c2 " not in shortest
    assert text.endswith("\n")


def test_json(comparison):
    content = json.loads(comparison_json(comparison))
    assert content["schema"] == 1
    assert content["systems"] == ["base", "other"]
    assert content["bootstrap"] == {"resamples": 200, "seed": 3, "level": 0.95}
    first = content["rows"]["bbox"][0]
    assert (first["name"], first["values"]) == ("AP", list(rows_of(comparison)["AP"].values))
    assert content["rows"]["bbox"][-1]["changes"][0]["value"] is None


def test_csv(comparison):
    rows = list(csv.DictReader(io.StringIO(comparison_csv(comparison))))
    assert len(rows) == 8
    by_name = {row["name"]: row for row in rows}
    change = rows_of(comparison)["c2"].changes[0]
    assert float(by_name["c2"]["change"]) == change.value
    assert (by_name["c2"]["baseline"], by_name["c2"]["system"]) == ("base", "other")
    assert by_name["c2"]["within_noise"] == "false"
    assert by_name["seven, rare"]["within_noise"] == ""
    assert by_name["c9"]["change"] == by_name["c9"]["value"] == ""


def test_three_systems(systems, truth):
    third = System(
        "third", {"bbox": matched(load_ground_truth(truth, masks=False), predictions(truth, {1: 1, 2: 1, 7: 1}))}
    )
    result = compare([*systems, third], groups=GROUPS, resamples=20)
    row = rows_of(result)["AP"]
    assert len(row.values) == 3
    assert [change.value for change in row.changes] == pytest.approx([v - row.values[0] for v in row.values[1:]])
    assert len(list(csv.DictReader(io.StringIO(comparison_csv(result))))) == 16
    text = format_comparison(result)
    assert "bbox, other against base" in text
    assert "bbox, third against base" in text


def test_systems_that_cannot_be_compared(systems, truth):
    ground_truth = load_ground_truth(truth, masks=False)
    fewer = {**truth, "annotations": truth["annotations"][:-1]}
    others = {
        "give at least two": [systems[0]],
        "several systems are called base": [systems[0], systems[0]],
        "measured on different annotations": [
            systems[0],
            System(
                "x", {"bbox": matched(load_ground_truth(fewer, masks=False), predictions(fewer, {1: 1, 2: 1, 7: 1}))}
            ),
        ],
        "by coco with 100 detections, x by coco with 50": [
            systems[0],
            System("x", {"bbox": matched(ground_truth, predictions(truth, {1: 1, 2: 1, 7: 1}), max_detections=50)}),
        ],
        "no IoU type that all systems have": [systems[0], System("x", {})],
    }
    for message, given in others.items():
        with pytest.raises(DataError, match=message) as error:
            compare(given)
        assert len(error.value.problems) == 1


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
    again = compare(systems, groups=shared_groups(found), resamples=200, seed=3)
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


def test_no_image():
    """Nothing can be drawn from nothing."""
    nothing = {"images": [], "categories": [{"id": 1, "name": "x"}], "annotations": []}
    ground_truth = load_ground_truth(nothing, masks=False)
    found = {"bbox": matched(ground_truth, [])}
    with pytest.raises(DataError, match="hold no image") as error:
        compare([System("a", found), System("b", found)])
    assert len(error.value.problems) == 1


def test_iou_types_that_were_not_measured(stored):
    with pytest.raises(DataError, match="has no segm figures") as error:
        load_systems(both(stored), iou_types=["bbox", "segm"])
    assert len(error.value.problems) == 2


def test_inputs_survive_a_round_trip(stored, truth):
    from lt_data.counts import count_categories

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
