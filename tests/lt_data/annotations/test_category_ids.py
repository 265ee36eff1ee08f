"""Dataset ids and labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_data.annotations.category_ids import CategoryIds
from lt_data.errors import DataError

IDS = st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=50, unique=True)


@given(IDS)
def test_any_ids_survive_the_round_trip(ids):
    mapping = CategoryIds(ids)
    labels = mapping.to_labels(ids)
    assert sorted(labels.tolist()) == list(range(1, len(ids) + 1))
    assert mapping.to_dataset(labels).tolist() == ids
    assert mapping.to_dataset(range(1, len(ids) + 1)).tolist() == sorted(ids)


@given(IDS, st.integers(-(2**53), 2**53))
def test_unknown_ids_are_refused(ids, other):
    if other not in ids:
        with pytest.raises(DataError, match="not one of"):
            CategoryIds(ids).to_labels([ids[0], other])


@pytest.mark.parametrize("label", [0, 4, -1])
def test_background_and_labels_beyond_have_no_dataset_id(label):
    with pytest.raises(DataError, match="outside 1..3"):
        CategoryIds([5, 1, 90]).to_dataset([1, label])


def test_ids_twice():
    with pytest.raises(DataError, match="unique"):
        CategoryIds([1, 1])
