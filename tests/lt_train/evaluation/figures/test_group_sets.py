import csv

import numpy as np
import pytest

from lt_data.counts.categories import CategoryCounts
from lt_data.errors import DataError
from lt_train.evaluation import evaluation_groups


def counts(instances):
    ids = np.array(sorted(instances))
    return CategoryCounts(
        category_ids=ids,
        names=tuple(f"c{i}" for i in ids),
        instances=np.array([instances[i] for i in ids.tolist()]),
        images=np.ones(len(ids), dtype=np.int64),
        frequencies=("r",) * len(ids),
        frequency_source="counted",
    )


@pytest.fixture(scope="module")
def simcal(shared_data):
    path = shared_data / "simcal_coco_lt_counts/simcal_coco_lt_train_counts.csv"
    with path.open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    id_column = next(name for name in rows[0] if "id" in name)
    count_column = next(name for name in rows[0] if "inst" in name)
    return counts({int(row[id_column]): int(row[count_column]) for row in rows})


def test_the_published_lists_are_the_bins_of_the_other_coco_lt(simcal):
    """Two sources that know nothing of each other: lists in the code of BAGS, counts of the data of SimCal."""
    listed, binned = evaluation_groups("coco-lt-paper", simcal), evaluation_groups("simcal", simcal)
    assert [len(group.category_ids) for group in listed] == [4, 24, 32, 20]
    assert listed == binned


def test_lists_hold_whatever_the_counts(simcal):
    few = counts(dict.fromkeys(simcal.category_ids.tolist(), 1))
    assert evaluation_groups(" coco-lt-paper ", few) == evaluation_groups("coco-lt-paper", simcal)


def test_presets_and_bounds():
    train = counts({1: 5, 2: 50, 3: 500})
    assert [group.category_ids for group in evaluation_groups("bags", train)] == [(1,), (2,), (3,), ()]
    assert evaluation_groups("10,100,1000", train) == evaluation_groups("bags", train)
    assert evaluation_groups((10, 100, 1000), train) == evaluation_groups("bags", train)


def test_lists_for_other_categories_and_unknown_names():
    with pytest.raises(DataError, match=r"groups coco-lt-paper: made for the 80 categories of COCO, got 2"):
        evaluation_groups("coco-lt-paper", counts({1: 5, 2: 5}))
    with pytest.raises(DataError, match=r"got 'paper'; .*bags.*coco-lt-paper"):
        evaluation_groups("paper", counts({1: 5}))
