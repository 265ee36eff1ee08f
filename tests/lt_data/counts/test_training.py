"""Counts of a training set from a directory, an annotation file or a CSV."""

import numpy as np
import pytest

from lt_data.build.coco_lt import build_coco_lt
from lt_data.counts.categories import CategoryCounts
from lt_data.counts.training import UNKNOWN, load_train_counts
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError
from tests.lt_data.pools import pool, save


def same(a: CategoryCounts, b: CategoryCounts):
    return (
        a.category_ids.tolist() == b.category_ids.tolist()
        and a.instances.tolist() == b.instances.tolist()
        and a.images.tolist() == b.images.tolist()
        and (a.names, a.frequencies) == (b.names, b.frequencies)
    )


def test_directory_file_and_table_agree(tmp_path):
    path = save(pool({1: [1, 2, 2], 5: [1], 9: [3]}, categories=[1, 2, 3]), tmp_path / "a.json")
    build_coco_lt(path, tmp_path / "lt", options=BuildOptions(on_shortage="cap"))
    whole = load_train_counts(tmp_path / "lt")
    assert same(whole, load_train_counts(tmp_path / "lt" / "annotations.json"))
    assert same(whole, load_train_counts(tmp_path / "lt" / "categories.csv"))


def test_rows_are_sorted_and_what_is_not_given_is_unknown(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("instances,category_id\n7,30\n2000,2\n", encoding="utf-8")
    counts = load_train_counts(path)
    assert counts.category_ids.tolist() == [2, 30]
    assert counts.instances.tolist() == [2000, 7]
    assert counts.names == ("2", "30")
    assert np.all(counts.images == UNKNOWN)
    assert counts.frequencies == ("", "")


def test_frequency_column_wins_over_images(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("category_id,instances,images,frequency\n1,5,5,f\n2,5,50,r\n", encoding="utf-8")
    assert load_train_counts(path).frequencies == ("f", "r")
    path.write_text("category_id,instances,images\n1,5,5\n2,50,50\n3,500,500\n", encoding="utf-8")
    assert load_train_counts(path).frequencies == ("r", "c", "f")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("category_id;instances\n1;2\n", "separator must be a comma"),
        ("category_id,count\n1,2\n", "'category_id', 'count'; needed are 'category_id' and 'instances'"),
        ("category_id,instances\n", "no rows"),
        ("category_id,instances\n1,2\n1,3\n", "occurs twice"),
        ("category_id,instances\n2,2\n1,-3\n", "line 3, instances: got '-3'"),
        ("category_id,instances\n1\n", "line 2, instances: is missing"),
        ("category_id,instances\n2,2\n\n1,x\n", "line 4, instances: got 'x'"),
        ("category_id,instances\n1,26,148\n", "line 2: 3 cells, but the header has 2"),
        ("category_id,instances,instances\n1,26,148\n", "more than one column is called 'instances'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, text, says):
    path = tmp_path / "counts.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=says) as error:
        load_train_counts(path)
    assert len(error.value.problems) == 1
