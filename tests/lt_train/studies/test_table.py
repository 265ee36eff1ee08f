"""Figures of many runs: spreads, what is within noise of what, the checksum of the groups."""

import math

import pytest

from lt_train.studies.agreement import format_agreement, published_aps, rank_correlation
from lt_train.studies.paper import checksum
from lt_train.studies.table import alike, best_first, columns_of, labelled, markdown, noise_of_seeds


def rows(**by_run):
    return [
        {"run": name, "seed": str(seed), "seconds": "7", "AP": str(ap), "rare": ""}
        for name, values in by_run.items()
        for seed, ap in enumerate(values)
    ]


def test_the_best_comes_first_and_noise_is_that_of_all_runs():
    found = rows(a=[10, 12], b=[20, 20], c=[11.5], none=[])
    assert best_first(found) == ["b", "c", "a"]
    # two degrees of freedom: (1 + 1 + 0 + 0) / 2
    assert noise_of_seeds(found) == pytest.approx(1.0)
    # a and c differ by 0.5, their difference has an error of sqrt(1 / 2 + 1)
    assert alike(found) == {"b": (1, 1), "c": (2, 3), "a": (2, 3)}
    text = markdown(found, {"rare": 3})
    assert text.splitlines()[0] == "| | run | AP | rare, 3 classes | seconds | seeds | within noise of |"
    assert text.splitlines()[4] == "| 3 | a | 11.0 (10.0..12.0) | - | 7 (7..7) | 2 | 2 to 3 |"
    assert "moves AP by 1.00 points" in text


def test_the_border_of_noise_is_two_standard_errors():
    error = math.sqrt(1 / 2 + 1 / 2)
    near, far = rows(a=[9, 11], b=[9 + 1.99 * math.sqrt(2) * error, 11 + 1.99 * math.sqrt(2) * error]), None
    assert alike(near)["a"] == (1, 2)
    far = rows(a=[9, 11], b=[9 + 2.01 * math.sqrt(2) * error, 11 + 2.01 * math.sqrt(2) * error])
    assert alike(far)["a"] == (2, 2)


def test_one_seed_says_nothing_of_noise():
    found = rows(a=[10], b=[11])
    assert noise_of_seeds(found) is None
    assert alike(found) == {}
    assert "cannot be told" in markdown(found, {})


def test_a_run_with_masks_adds_columns():
    found = [{"run": "a", "AP": "1"}, {"run": "b", "AP": "2", "segm AP": "3"}]
    assert columns_of(found) == ["run", "AP", "segm AP"]


def test_the_order_is_compared_with_the_published_one():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    # the ranks of 1, 1, 2, 3 are 0.5, 0.5, 2, 3
    assert rank_correlation([1, 1, 2, 3], [4, 3, 2, 1]) == pytest.approx(-4.5 / math.sqrt(4.5 * 5))
    printed = published_aps()
    assert (len(printed), printed["bags"], printed["tau-norm"]) == (14, 25.96, 11.01)
    same = rows(**{name: [value] for name, value in printed.items()}, unpublished=[50])
    assert "of the 14 methods that BAGS compares too has a rank correlation (Spearman) of +1.00" in format_agreement(
        same
    )
    assert format_agreement(rows(softmax=[1], bags=[2], unpublished=[3])) == ""


def test_groups_weighted_by_their_classes_give_ap():
    classes = {"groups": {"(0, 10)": 2, "[10, ~)": 3, "empty": 0}}
    groups = {"(0, 10)": 0.1, "[10, ~)": 0.2, "empty": None}
    metrics = {"bbox": {"AP": 0.16, "groups": groups}, "counts": {"classes": classes}}
    assert checksum(metrics, "bbox") == pytest.approx(0, abs=1e-9)
    metrics["bbox"]["AP"] = 0.15
    assert checksum(metrics, "bbox") == pytest.approx(1.0)
    metrics["bbox"]["AP"] = None
    assert checksum(metrics, "bbox") is None


def test_a_label_says_which_runs_have_fewer_seeds():
    assert labelled(rows(a=[1, 2, 3], b=[1, 2], c=[1])) == {"a": "a", "b": "b (2 seeds)", "c": "c (1 seed)"}
    assert labelled(rows(a=[1], b=[2])) == {"a": "a", "b": "b"}
