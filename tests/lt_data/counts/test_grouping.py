"""Preset bounds, grouping by instances, images and LVIS frequency, and the sentence about empty groups."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_data.counts.categories import CategoryCounts
from lt_data.counts.grouping import frequency_groups, group_categories
from lt_data.errors import DataError
from lt_data.groups import PRESETS, empty_groups_sentence, frequency_of, parse_edges


def counts_of(instances, images=None, frequencies=None):
    images = instances if images is None else images
    return CategoryCounts(
        category_ids=np.arange(1, len(instances) + 1),
        names=tuple(f"category {i}" for i in range(1, len(instances) + 1)),
        instances=np.array(instances),
        images=np.array(images),
        frequencies=tuple(frequencies or (frequency_of(n) for n in images)),
        frequency_source="field" if frequencies else "counted",
    )


@pytest.fixture(scope="module")
def lvis_v05(shared_data):
    with (shared_data / "lvis_v0.5_counts/lvis_v0.5_train_counts.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    return counts_of([int(r["instance_count"]) for r in rows], [int(r["image_count"]) for r in rows])


def sizes(groups):
    return [len(g.category_ids) for g in groups]


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("bags", [294, 453, 302, 181]),
        ("bags-2", [747, 483]),
        ("bags-8", [178, 116, 327, 126, 224, 78, 156, 25]),
    ],
)
def test_presets_on_lvis_v05(lvis_v05, preset, expected):
    assert sizes(group_categories(lvis_v05, parse_edges(preset))) == expected


def test_frequency_groups_of_lvis_v05(lvis_v05):
    groups = frequency_groups(lvis_v05)
    assert sizes(groups) == [454, 461, 315]
    assert [g.name for g in groups] == ["rare", "common", "frequent"]
    # the bounds say the same as the names
    assert sizes(group_categories(lvis_v05, (11, 101), by="images")) == [454, 461, 315]


def test_simcal_preset_on_the_simcal_set(shared_data):
    with (shared_data / "simcal_coco_lt_counts/simcal_coco_lt_train_counts.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    column = next(name for name in rows[0] if "instance" in name)
    assert sizes(group_categories(counts_of([int(r[column]) for r in rows]), parse_edges("simcal"))) == [4, 24, 32, 20]


def test_by_images_and_by_instances_differ():
    counts = counts_of([50, 50, 5], images=[3, 50, 5])
    assert [g.category_ids for g in group_categories(counts, (10,))] == [(3,), (1, 2)]
    assert [g.category_ids for g in group_categories(counts, (10,), by="images")] == [(1, 3), (2,)]
    with pytest.raises(DataError, match="--by: got 'pixels'; allowed are instances, images"):
        group_categories(counts, (10,), by="pixels")


def test_the_field_of_the_file_decides_the_frequency():
    groups = frequency_groups(counts_of([500, 1], frequencies=["r", "f"]))
    assert [g.category_ids for g in groups] == [(1,), (), (2,)]


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=9, unique=True).map(sorted), st.sampled_from(["", " "]))
def test_numbers_are_read_back(edges, space):
    assert parse_edges(f"{space},{space}".join(map(str, edges))) == tuple(edges)


@pytest.mark.parametrize("name", PRESETS)
def test_names_are_read_with_spaces_around(name):
    assert parse_edges(f" {name} ") == PRESETS[name]


@pytest.mark.parametrize("text", ["", "bag", "10,", "1.5", "-1,2", "10;20", "1_0", "9" * 20, "²"])
def test_other_text_lists_the_presets(text):
    with pytest.raises(DataError) as error:
        parse_edges(text)
    assert len(error.value.problems) == 1
    for name, edges in PRESETS.items():
        assert f"{name} ({','.join(map(str, edges))})" in error.value.problems[0]


@pytest.mark.parametrize("text", ["0,10", "10,10", "100,10"])
def test_numbers_must_ascend(text):
    with pytest.raises(DataError, match="ascending order"):
        parse_edges(text)


@pytest.mark.parametrize(
    ("instances", "sentence"),
    [
        ([5, 50, 500, 5000], ""),
        ([5, 500, 5000], "group [10, 100) is empty: no category lies in it"),
        ([50], "groups (0, 10), [100, 1000) and [1000, ~) are empty: no category lies in them"),
    ],
)
def test_empty_groups_are_named(instances, sentence):
    assert empty_groups_sentence(group_categories(counts_of(instances))) == sentence
