"""Group statistics in their three formats."""

import csv
import json
from pathlib import Path

import pytest

from lt_data.annotations.file import parse_annotations
from lt_data.counts.group_stats import format_stats, group_stats, stats_of
from lt_data.errors import DataError
from lt_data.groups import BAGS_EDGES
from tests.lt_data.pools import pool, save


@pytest.fixture
def path(tmp_path):
    images = {1: [1] * 12 + [2], 2: [2, (1, "crowd")], 3: [(2, "crowd")], 4: []}
    return save(pool(images, categories=[1, 2, 3]), tmp_path / "a.json")


def test_json_schema_and_counts(path):
    content = json.loads(format_stats(group_stats(path), "json"))
    assert content == {
        "by": "instances",
        "categories": 3,
        "images": 4,
        "images_with_annotations": 2,
        "images_with_crowds_only": 1,
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
    assert "groups [100, 1000) and [1000, ~) are empty: no category lies in them" in text


def test_groups_by_images_and_by_frequency(tmp_path):
    images = {i: [1, 2, 2] if i <= 11 else [2] * 9 for i in range(1, 21)} | {30: [2, 3] * 30}
    path = save(pool(images, categories=[1, 2, 3, 4]), tmp_path / "a.json")
    rows = [(g.name, g.categories, g.images, g.instances) for g in group_stats(path, (12,), by="images").groups]
    assert rows == [("(0, 12)", 3, 12, 41), ("[12, ~)", 1, 21, 22 + 81 + 30)]
    # by instances the third category would be in the upper group
    assert [g.categories for g in group_stats(path, (12,)).groups] == [2, 2]
    stats = group_stats(path, by="frequency")
    assert [(g.name, g.categories, g.images) for g in stats.groups] == [
        ("rare", 2, 1),
        ("common", 2, 21),
        ("frequent", 0, 0),
    ]
    text = format_stats(stats)
    assert text.startswith("by frequency")
    assert "group frequent is empty: no category lies in it" in text
    with pytest.raises(DataError, match="leave it out, or use --by images"):
        group_stats(path, (12,), by="frequency")
    with pytest.raises(DataError, match="--by: got 'area'; allowed are instances, images, frequency"):
        group_stats(path, by="area")


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
    # the field is of the training images, of which these are not
    by_frequency = group_stats(shared_data / "lvis_val_100/lvis_val_100.json", by="frequency")
    assert [g.categories for g in by_frequency.groups] == [454, 461, 315]


def test_lvis_v05_by_instances_and_by_frequency(shared_data):
    """A file with the instances and images of each of the 1,230 categories, spread over as many images as needed."""
    with (shared_data / "lvis_v0.5_counts/lvis_v0.5_train_counts.csv").open(encoding="utf-8") as table:
        rows = [(int(r["cat_id"]), int(r["image_count"]), int(r["instance_count"])) for r in csv.DictReader(table)]
    places = ((min(i, images - 1) + 1, c) for c, images, instances in rows for i in range(instances))
    annotations = ",".join(f'{{"id":{n},"image_id":{i},"category_id":{c}}}' for n, (i, c) in enumerate(places))
    images = ",".join(f'{{"id":{i}}}' for i in range(1, max(row[1] for row in rows) + 1))
    categories = ",".join(f'{{"id":{row[0]}}}' for row in rows)
    text = f'{{"images":[{images}],"annotations":[{annotations}],"categories":[{categories}]}}'
    file = parse_annotations(text.encode(), Path("lvis.json"))
    assert [g.categories for g in stats_of(file, BAGS_EDGES).groups] == [294, 453, 302, 181]
    assert [g.categories for g in stats_of(file, BAGS_EDGES, "frequency").groups] == [454, 461, 315]
    assert stats_of(file, BAGS_EDGES).instances == 693_958
