"""Group statistics in their three formats."""

import csv
import json

import pytest
from pools import pool, save

from lt_data.errors import DataError
from lt_data.group_stats import format_stats, group_stats


@pytest.fixture
def path(tmp_path):
    images = {1: [1] * 12 + [2], 2: [2, (1, "crowd")], 3: [(2, "crowd")], 4: []}
    return save(pool(images, categories=[1, 2, 3]), tmp_path / "a.json")


def test_json_schema_and_counts(path):
    content = json.loads(format_stats(group_stats(path), "json"))
    assert content == {
        "categories": 3,
        "images": 4,
        "images_with_annotations": 2,
        "instances": 14,
        "groups": [
            {"name": "(0, 10)", "lower": 0, "upper": 10, "categories": 2, "images": 2, "instances": 2},
            {"name": "[10, 100)", "lower": 10, "upper": 100, "categories": 1, "images": 1, "instances": 12},
            {"name": "[100, 1000)", "lower": 100, "upper": 1000, "categories": 0, "images": 0, "instances": 0},
            {"name": "[1000, ~)", "lower": 1000, "upper": None, "categories": 0, "images": 0, "instances": 0},
        ],
        "frequency": {"r": 3, "c": 0, "f": 0},
        "frequency_source": "counted",
    }


def test_csv(path):
    rows = list(csv.DictReader(format_stats(group_stats(path, (5,)), "csv").splitlines()))
    assert list(rows[0]) == ["name", "lower", "upper", "categories", "images", "instances", "share"]
    assert [row["upper"] for row in rows] == ["5", ""]
    assert sum(float(row["share"]) for row in rows) == 1


def test_table(path):
    text = format_stats(group_stats(path))
    assert "(0, 10)                  2         2           2    14.3%" in text
    assert "all                      3         2          14   100.0%" in text
    assert "3 rare, 0 common, 0 frequent" in text


def test_the_files_frequency_field_wins_where_all_have_it(tmp_path):
    content = pool({1: [1, 2]})
    for category, letter in zip(content["categories"], "fc", strict=True):
        category["frequency"] = letter
    stats = group_stats(save(content, tmp_path / "a.json"))
    assert (stats.frequency, stats.frequency_source) == ({"r": 0, "c": 1, "f": 1}, "field")
    del content["categories"][0]["frequency"]
    stats = group_stats(save(content, tmp_path / "a.json"))
    assert (stats.frequency, stats.frequency_source) == ({"r": 2, "c": 0, "f": 0}, "counted")


def test_file_without_annotations(tmp_path):
    stats = group_stats(save(pool({1: []}, categories=[1]), tmp_path / "a.json"))
    assert stats.instances == 0
    assert "0.0%" in format_stats(stats)


def test_directory_that_is_no_dataset(tmp_path):
    with pytest.raises(DataError, match="give a dataset directory"):
        group_stats(tmp_path)


def test_a_pool_directory_has_the_default_groups(tmp_path):
    save(pool({1: [1] * 12}), tmp_path / "annotations.json")
    assert [g.categories for g in group_stats(tmp_path).groups] == [0, 1, 0, 0]


def test_real_lvis_images(shared_data):
    stats = group_stats(shared_data / "lvis_val_100/lvis_val_100.json")
    assert (stats.categories, stats.images, stats.instances) == (1230, 100, 977)
    assert stats.frequency == {"r": 454, "c": 461, "f": 315}
    assert stats.frequency_source == "field"
