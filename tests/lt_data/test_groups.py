"""Groups by instance counts."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_data.errors import DataError
from lt_data.groups import frequency_of, group_name_of, groups_from_json, groups_to_json, make_groups, names_sentence

EDGES = st.lists(st.integers(1, 10_000), min_size=1, max_size=8, unique=True).map(sorted)
COUNTS = st.lists(st.integers(0, 20_000), min_size=1, max_size=60)


@given(COUNTS, EDGES)
def test_every_category_is_in_the_one_group_that_holds_its_count(counts, edges):
    ids = np.arange(len(counts)) * 3 + 5
    groups = make_groups(ids, counts, edges)
    assert len(groups) == len(edges) + 1
    assert sorted(c for g in groups for c in g.category_ids) == ids.tolist()
    for group in groups:
        assert list(group.category_ids) == sorted(group.category_ids)
        for category_id in group.category_ids:
            count = counts[(category_id - 5) // 3]
            assert count >= group.lower
            assert group.upper is None or count < group.upper


def test_names_as_in_the_literature():
    groups = make_groups([1, 2, 3, 4], [9, 10, 100, 1000])
    assert [g.name for g in groups] == ["(0, 10)", "[10, 100)", "[100, 1000)", "[1000, ~)"]
    assert group_name_of(groups) == {1: "(0, 10)", 2: "[10, 100)", 3: "[100, 1000)", 4: "[1000, ~)"}
    assert groups[-1].upper is None


def test_json_round_trip():
    groups = make_groups([7, 8], [3, 5000], (10, 30))
    assert groups_from_json(groups_to_json(groups, (10, 30)), "groups.json") == ((10, 30), groups)
    with pytest.raises(DataError, match="schema"):
        groups_from_json({"schema": 9}, "groups.json")
    with pytest.raises(DataError, match="not a groups file"):
        groups_from_json({"schema": 1, "edges": [1]}, "groups.json")


@pytest.mark.parametrize("edges", [(), (0, 10), (10, 10), (100, 10), (-5,)])
def test_edges_must_ascend(edges):
    with pytest.raises(DataError, match="ascending order"):
        make_groups([1], [1], edges)


def test_frequency_rule_holds_for_every_lvis_category(shared_data):
    for version in ("v0.5", "v1"):
        table = shared_data / f"lvis_{version}_counts/lvis_{version}_train_counts.csv"
        for row in csv.DictReader(table.open()):
            assert frequency_of(int(row["image_count"])) == row["frequency"]


def test_lvis_v05_group_sizes():
    from lt_data.counts.categories import embedded_reference

    counts = embedded_reference("lvis-v0.5").instances
    sizes = [len(g.category_ids) for g in make_groups(np.arange(1230), counts)]
    assert sizes == [294, 453, 302, 181]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["(0, 10)", "[10, 100)", "[100, ~)"], "(0, 10) holds categories of 0 to 9 images, [100, ~) of 100 and more"),
        (["(0, 1)", "[1, ~)"], "(0, 1) holds categories of 0 to 0 images, [1, ~) of 1 and more"),
        (["rare", "frequent"], ""),
        ([], ""),
    ],
)
def test_names_are_explained(names, says):
    assert names_sentence(names, "images") == says
