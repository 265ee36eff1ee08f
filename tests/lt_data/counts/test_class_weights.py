"""Class weights against the released tables of BAGS for LVIS v0.5, and their limits."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_data.counts.categories import embedded_reference
from lt_data.counts.class_weights import (
    KINDS,
    class_weight_table,
    class_weights,
    format_class_weights,
    raw_class_weights,
)
from lt_data.errors import DataError
from tests.lt_data.pools import pool, save

COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=30).filter(any)
# instances -> weight before the caps; the released code caps to [0.1, 5]
INVERSE = {1: 8.81113, 2: 4.40556, 5: 1.76223, 10: 0.88111, 50: 0.17622, 100: 0.08811, 1000: 0.00881}
EFFECTIVE = {1: 8.77394, 2: 4.38916, 5: 1.75830, 10: 0.88135, 50: 0.17981, 100: 0.09216, 1000: 0.01388}


@pytest.mark.parametrize(
    ("kind", "mean", "by_count", "at_cap", "at_floor"),
    [("inverse", 0.1134929, INVERSE, 57, 501), ("effective-number", 0.1139739, EFFECTIVE, 57, 494)],
)
def test_lvis_v05(kind, mean, by_count, at_cap, at_floor):
    counts = embedded_reference("lvis-v0.5").instances
    raw_mean = raw_class_weights(counts, kind=kind).mean()
    assert raw_mean == pytest.approx(mean, abs=5e-8)
    weights = class_weights(counts, kind=kind)[1:]
    capped = class_weights(counts, kind=kind, lower=0.1, upper=5)[1:]
    for n, weight in by_count.items():
        # no category of LVIS v0.5 has exactly 1,000 instances
        found = weights[counts == n] if n in counts else raw_class_weights([n], kind=kind) / raw_mean
        assert found == pytest.approx(weight, abs=5e-6)
        assert capped[counts == n] == pytest.approx(min(max(weight, 0.1), 5), abs=5e-6)
    assert ((capped == 5).sum(), (capped == 0.1).sum()) == (at_cap, at_floor)
    assert counts[capped == 0.1].min() == (89 if kind == "inverse" else 92)


@given(COUNTS, st.sampled_from(KINDS), st.floats(0, 1 - 1e-9))
def test_finite_mean_one_and_falling_with_the_count(counts, kind, beta):
    weights = class_weights(counts, kind=kind, beta=beta)
    assert weights.shape == (len(counts) + 1,)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    held = np.array(counts) > 0
    assert weights[1:][held].mean() == pytest.approx(1)
    order = np.argsort(np.array(counts)[held], kind="stable")
    assert (np.diff(weights[1:][held][order]) <= 1e-12).all()
    assert (weights[1:][~held] == weights[1:].max()).all()


@given(COUNTS, st.floats(0, 2), st.floats(0.01, 3))
def test_caps_hold_and_spare_the_background(counts, lower, more):
    weights = class_weights(counts, kind="inverse", lower=lower, upper=lower + more, background=0.0)
    assert weights[0] == 0
    assert weights[1:].min() >= lower
    assert weights[1:].max() <= lower + more
    assert (weights[1:][np.array(counts) == 0] == lower + more).all()


@given(COUNTS, st.sampled_from(KINDS), st.floats(0.1, 10))
def test_a_counted_background_takes_part_in_the_mean(counts, kind, ratio):
    weights = class_weights(counts, kind=kind, background_ratio=ratio)
    held = np.concatenate([[round(ratio * sum(counts)) > 0], np.array(counts) > 0])
    assert weights[held].mean() == pytest.approx(1)
    as_a_class = raw_class_weights([round(ratio * sum(counts)) or 1, *counts], kind=kind)
    if held[0]:
        np.testing.assert_allclose(weights[held], as_a_class[held] / np.nanmean(as_a_class), rtol=1e-9)


def test_limits_of_beta():
    counts = [1, 10, 400]
    exactly_one = class_weights(counts, kind="effective-number", beta=1.0)
    assert exactly_one.tolist() == class_weights(counts, kind="inverse").tolist()
    np.testing.assert_allclose(class_weights(counts, kind="effective-number", beta=0.0), np.ones(4))
    np.testing.assert_allclose(
        class_weights(counts, kind="effective-number", beta=1 - 1e-12), class_weights(counts, kind="inverse"), rtol=1e-3
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "sqrt"}, "--kind: got 'sqrt'; allowed are inverse, effective-number"),
        ({"beta": 1.1}, "--beta: got 1.1"),
        ({"beta": float("nan")}, "--beta: got nan"),
        ({"lower": 2.0, "upper": 1.0}, "--lower, --upper: got 2.0 and 1.0"),
        ({"upper": 0.0}, "--lower, --upper"),
        ({"lower": float("nan")}, "--lower, --upper"),
        ({"background": -1.0}, "--background: got -1.0"),
        ({"background_ratio": -1.0}, "--background-ratio: got -1.0; allowed is a number > 0"),
        ({"background_ratio": 3.0, "background": 0.5}, "--background, --background-ratio: both are given"),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(DataError) as error:
        class_weights([1, 2], **{"kind": "inverse", **options})
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("counts", "words"), [([0, 0], "no class with an instance"), ([], "no class"), ([3, -1], "-1")]
)
def test_counts_that_give_no_weights(counts, words):
    with pytest.raises(DataError, match=words):
        class_weights(counts, kind="inverse")


@pytest.fixture
def tail(tmp_path):
    images = {1: [3, 3, 3, 3], 2: [3, (5, "crowd"), 9], 3: [9]}
    return save(pool(images, categories=[9, 3, 5], names={3: "cup, blue"}), tmp_path / "tail.json")


def test_formats_agree(tail):
    table = class_weight_table(tail, kind="inverse", lower=0.1, upper=1.2, background=0.5)
    # counts 5, 0 (a crowd), 2: raw 0.2, none, 0.5 with mean 0.35
    expected = [0.5, 0.2 / 0.35, 1.2, 1.2]
    np.testing.assert_allclose(table.weights, expected)
    assert table.capped() == (0, 1)
    rows = list(csv.DictReader(format_class_weights(table, "csv").splitlines()))
    assert [float(row["weight"]) for row in rows] == table.weights.tolist()
    assert [row["category_id"] for row in rows] == ["", "3", "5", "9"]
    assert rows[1]["name"] == "cup, blue"
    content = json.loads(format_class_weights(table, "json"))
    assert [row["weight"] for row in content["weights"]] == table.weights.tolist()
    assert content["mean"] == pytest.approx(0.35)
    text = format_class_weights(table)
    assert "0 classes at the lower cap 0.1, 1 at the upper cap 1.2" in text
    assert "classes without instances: 1, each of weight 1.20000" in text


def test_long_lists_are_shortened(tmp_path):
    images = {i: [c for c in range(1, 31) if i <= c] for i in range(1, 31)}
    text = format_class_weights(
        class_weight_table(save(pool(images), tmp_path / "many.json"), kind="effective-number", beta=0.9)
    )
    assert "beta 0.9, 30 classes" in text
    assert "no caps" in text
    assert [line.split()[-1] for line in text.splitlines() if "category " in line] == [
        *("1", "2", "3", "4", "5"),
        *("26", "27", "28", "29", "30"),
    ]


def test_beta_is_shown_with_all_its_digits(tail):
    text = format_class_weights(class_weight_table(tail, kind="effective-number", beta=0.9999999999999999))
    assert "effective-number, beta 0.9999999999999999, 3 classes" in text


def test_a_file_without_instances_is_named(tmp_path):
    path = save(pool({1: [(3, "crowd")]}), tmp_path / "test.json")
    with pytest.raises(DataError, match="test.json: no annotation is of an instance"):
        class_weight_table(path, kind="inverse")


def test_names_of_several_lines_stay_on_one(tmp_path):
    path = save(pool({1: [3, 3]}, names={3: "cup\n| b"}), tmp_path / "a.json")
    assert format_class_weights(class_weight_table(path, kind="inverse")).splitlines()[-1].endswith(r"  cup\n| b")
