"""The figure that decides between checkpoints."""

import numpy as np
import pytest

from lt_data.counts.categories import CategoryCounts
from lt_data.groups import Group
from lt_train.evaluation.figures.selection import selected_figure

# any partition, in any order: "tail" has the rarest classes, and no class of "none" is measured
GROUPS = (Group("head", None, None, (1, 2)), Group("none", None, None, (3,)), Group("tail", None, None, (4, 5)))
COUNTS = CategoryCounts(
    category_ids=np.array([1, 2, 3, 4, 5]),
    names=tuple("abcde"),
    instances=np.array([900, 100, 1, 3, 5]),
    images=np.array([90, 50, 1, 3, 5]),
    frequencies=("f", "c", "r", "r", "r"),
    frequency_source="counted",
)
BOXES = {"bbox": {"AP": 0.4, "groups": {"head": 0.6, "none": None, "tail": 0.1}}}


@pytest.mark.parametrize(
    ("select", "value", "name"),
    [
        ("AP", 0.4, "box AP"),
        ("rarest", 0.1, "box AP of the rarest group, tail"),
        ("groups", 0.35, "box AP, mean of 2 groups"),
    ],
)
def test_figure_of_an_evaluation(select, value, name):
    found = selected_figure(BOXES, select, groups=GROUPS, counts=COUNTS)
    assert found.value == pytest.approx(value)
    assert found.name == name


def test_masks_decide_where_they_are_measured():
    masks = {"segm": {"AP": 0.2, "groups": {"head": 0.3, "none": None, "tail": 0.0}}}
    assert selected_figure(BOXES | masks, "AP") == (0.2, "mask AP")
    assert selected_figure(BOXES | masks, "rarest", groups=GROUPS, counts=COUNTS).value == 0.0


@pytest.mark.parametrize("select", ["AP", "rarest", "groups"])
def test_nothing_measured_is_no_figure(select):
    empty = {"bbox": {"AP": None, "groups": dict.fromkeys(("head", "none", "tail"))}}
    assert selected_figure(empty, select, groups=GROUPS, counts=COUNTS).value is None
