"""Side-by-side tables, character for character."""

from typing import Any

import pytest

from lt_data.errors import DataError
from lt_train.report.two_runs import Spread, comparison_rows, format_runs, mean_comparison, mean_rows, spread_of

Metrics = dict[str, Any]
NAMES = ("softmax", "bags")


def metrics(
    ap: float | None, ap50: float | None, *groups: float | None, classes: tuple[int, ...] = (8, 14, 0)
) -> Metrics:
    names = ["(0, 10)", "[10, 100)", "[100, ~)"]
    block = {"AP": ap, "AP50": ap50, "AP75": None, "groups": dict(zip(names, groups, strict=True)), "frequency": {}}
    counts = {"AP": sum(classes), "groups": dict(zip(names, classes, strict=True)), "frequency": {}}
    return {"schema": 1, "bbox": block, "counts": {"classes": counts}}


BASELINE = metrics(0.2131, 0.35, 0.0, 0.3349, None)
OTHER = metrics(0.2624, 0.349, 0.1042, 0.3528, None)


def test_rows_are_percent_and_points() -> None:
    rows = comparison_rows(BASELINE, OTHER, iou_type="bbox")
    assert [row[0] for row in rows] == ["AP", "AP50", "(0, 10)", "[10, 100)", "[100, ~)"]
    assert rows[0][1:] == pytest.approx((21.31, 26.24, 4.93))
    assert rows[1][1:] == pytest.approx((35.0, 34.9, -0.1))
    assert rows[4][1:] == (None, None, None)


def test_a_difference_needs_both_values() -> None:
    rows = comparison_rows(metrics(None, 0.1, 0.1, 0.1, None), OTHER, iou_type="bbox")
    assert rows[0] == ("AP", None, pytest.approx(26.24), None)


def test_table() -> None:
    expected = """\
bbox       classes  softmax  bags  change
AP              22     21.3  26.2    +4.9
AP50            22     35.0  34.9    -0.1
(0, 10)          8      0.0  10.4   +10.4
[10, 100)       14     33.5  35.3    +1.8
[100, ~)         0        -     -       -"""
    assert format_runs(BASELINE, OTHER, names=NAMES, iou_types=["bbox"]) == expected


def test_one_block_for_each_iou_type() -> None:
    both = [{**content, "segm": content["bbox"]} for content in (BASELINE, OTHER)]
    text = format_runs(both[0], both[1], names=NAMES, iou_types=["segm", "bbox"])
    segm, bbox = text.split("\n\n")
    assert segm.startswith("segm ")
    assert bbox == format_runs(BASELINE, OTHER, names=NAMES, iou_types=["bbox"])


def test_long_names_keep_the_columns_straight() -> None:
    text = format_runs(BASELINE, OTHER, names=("a rather long name", "b"), iou_types=["bbox"])
    assert len({len(line) for line in text.splitlines()}) == 1


def test_mean_over_seeds() -> None:
    second = (metrics(0.2, 0.33, 0.02, 0.3, None), metrics(0.28, 0.37, 0.2, 0.33, None, classes=(7, 15, 0)))
    expected = """\
bbox       classes            softmax               bags               change
AP              22  20.7 (20.0..21.3)  27.1 (26.2..28.0)    +6.5 (+4.9..+8.0)
AP50            22  34.0 (33.0..35.0)  36.0 (34.9..37.0)    +1.9 (-0.1..+4.0)
(0, 10)       7..8     1.0 (0.0..2.0)  15.2 (10.4..20.0)  +14.2 (+10.4..+18.0)
[10, 100)   14..15  31.7 (30.0..33.5)  34.1 (33.0..35.3)    +2.4 (+1.8..+3.0)
[100, ~)         0                  -                  -                    -

mean (smallest..largest) over 2 seeds"""
    text = mean_comparison([(BASELINE, OTHER), second], names=NAMES, iou_types=["bbox"])
    assert [line.split() for line in text.splitlines()] == [line.split() for line in expected.splitlines()]
    assert len({len(line) for line in text.split("\n\n")[0].splitlines()}) == 1


def test_the_spread_of_changes_is_that_within_pairs() -> None:
    pairs = [(metrics(a, a, a, a, a), metrics(a + 0.05, a, a, a, a)) for a in (0.1, 0.3)]
    name, first, _, change = mean_rows(pairs, iou_type="bbox")[0]
    assert name == "AP"
    assert first == Spread(pytest.approx(20.0), pytest.approx(10.0), pytest.approx(30.0), 2)
    assert change == Spread(pytest.approx(5.0), pytest.approx(5.0), pytest.approx(5.0), 2)


def test_spread_leaves_out_what_was_not_measured() -> None:
    assert spread_of([1.0, None, 4.0]) == Spread(2.5, 1.0, 4.0, 2)
    assert spread_of([None]) is None


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="no segm results"):
        comparison_rows(BASELINE, OTHER, iou_type="segm")
    renamed = {**OTHER, "bbox": {**OTHER["bbox"], "groups": {"(0, 5)": 0.1}}}
    with pytest.raises(DataError, match="different groups"):
        format_runs(BASELINE, renamed, names=NAMES, iou_types=["bbox"])
    with pytest.raises(DataError, match="nothing to compare"):
        mean_comparison([], names=NAMES, iou_types=["bbox"])
