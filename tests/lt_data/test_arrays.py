"""Looking ids up in arrays."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lt_data.arrays import all_distinct, positions_of, sorted_unique, stable_argsort

IDS = st.integers(-(2**53), 2**53) | st.integers(-5, 40)


@given(
    st.lists(IDS, unique=True, max_size=30),
    st.lists(IDS, max_size=30),
)
def test_positions_are_those_of_a_dictionary(ids, values):
    place = {key: row for row, key in enumerate(ids)}
    found = positions_of(np.array(values, np.int64), np.array(ids, np.int64))
    assert found.tolist() == [place.get(value, -1) for value in values]


@given(st.lists(st.integers(-9, 9) | st.integers(-(2**53), 2**53), max_size=20))
def test_all_distinct_means_no_value_twice(values):
    assert all_distinct(np.array(values, np.int64)) == (len(set(values)) == len(values))


@given(st.lists(IDS, max_size=20))
def test_sorted_unique_is_a_sorted_set(values):
    assert sorted_unique(np.array(values, np.int64)).tolist() == sorted(set(values))


@given(st.lists(st.integers(0, 200_000), max_size=40))
def test_stable_argsort_is_that_of_numpy(values):
    array = np.array(values, np.int64)
    assert stable_argsort(array).tolist() == np.argsort(array, kind="stable").tolist()
