"""Systems side by side: figures, intervals, noise, and the comparison as text."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from lt_data.errors import DataError
from lt_train.evaluation import load_ground_truth, summarise
from lt_train.evaluation.comparison.bootstrap import image_weights, mean_ap, percentile_interval, weighted_class_ap
from lt_train.evaluation.comparison.compare import comparison_csv, comparison_json, format_comparison
from lt_train.evaluation.comparison.differences import System, compare_systems
from lt_train.evaluation.figures.average_precision import evaluate
from tests.lt_train.evaluation.compared import GROUPS, matched, predictions


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
    same = compare_systems([systems[0], replace(systems[0], name="again")], groups=GROUPS, resamples=20)
    for row in same.rows["bbox"]:
        change = row.changes[0]
        assert (change.value, change.low, change.high) in ((0, 0, 0), (None, None, None))
        assert change.within_noise in (True, None)


def test_seed(systems, comparison):
    again = compare_systems(systems, groups=GROUPS, resamples=200, seed=3)
    assert comparison_json(again) == comparison_json(comparison)
    other = compare_systems(systems, groups=GROUPS, resamples=200, seed=4)
    assert comparison_json(other) != comparison_json(comparison)


def test_table(systems, comparison):
    text = format_comparison(comparison)
    lines = text.splitlines()
    assert lines[0].split() == ["bbox", "classes", "base", "other", "other", "-", "base"]
    ap = rows_of(comparison)["AP"]
    change = ap.changes[0]
    percents = [f"{100 * v:.1f}" for v in ap.values]
    interval = f"{100 * change.value:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
    assert lines[1].split(maxsplit=4) == ["AP", "3", *percents, interval]
    words = " ".join(text.split())
    assert "bbox, other against base: 1 of 2 classes changed beyond noise (0 would by chance alone)" in words
    assert max(map(len, lines)) <= 80
    gains = lines[next(i for i, line in enumerate(lines) if line.startswith("largest gains")) + 1 :]
    assert gains[0].split()[:6] == ["seven,", "rare", "(0,", "10)", "4", "4"]
    assert gains[0].endswith("?")
    assert gains[1].startswith("c2")
    assert "not the seed of the training" in words
    assert "200 paired resamples of the 40 images (seed 3)" in words
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
    result = compare_systems([*systems, third], groups=GROUPS, resamples=20)
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
            compare_systems(given)
        assert len(error.value.problems) == 1


def test_no_image():
    """Nothing can be drawn from nothing."""
    nothing = {"images": [], "categories": [{"id": 1, "name": "x"}], "annotations": []}
    ground_truth = load_ground_truth(nothing, masks=False)
    found = {"bbox": matched(ground_truth, [])}
    with pytest.raises(DataError, match="hold no image") as error:
        compare_systems([System("a", found), System("b", found)])
    assert len(error.value.problems) == 1
