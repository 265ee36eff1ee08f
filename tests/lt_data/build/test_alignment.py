"""Rank alignment and the published COCO-LT targets."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_data.build.alignment import align, largest_scale, reference_positions, scaled_targets
from lt_data.counts.categories import CategoryCounts, Reference, coco_2017_counts, embedded_reference
from lt_data.errors import DataError
from lt_data.groups import make_groups

PUBLISHED = [
    26148, 6014, 4665, 3901, 2996, 2607, 2288, 1967, 1695, 1521, 1323, 1084, 967, 853, 713, 616, 547, 481, 414, 356,
    305, 280, 263, 233, 203, 177, 159, 140, 130, 119, 111, 100, 89, 80, 74, 66, 61, 57, 53, 50, 46, 44, 41, 39, 35, 32,
    30, 29, 27, 25, 24, 22, 20, 19, 17, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 6, 5, 5, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1, 1,
]  # fmt: skip


def counts_of(instances, ids=None):
    n = len(instances)
    instances = np.array(instances, np.int64)
    ids = np.arange(1, n + 1) if ids is None else np.array(ids)
    return CategoryCounts(ids, tuple(map(str, ids)), instances, instances, ("r",) * n, "counted")


def test_coco_lt_targets_sum_to_the_published_total():
    alignment = align(coco_2017_counts(), embedded_reference("lvis-v0.5"))
    assert alignment.targets.tolist() == PUBLISHED
    assert alignment.targets.sum() == 64_504
    groups = make_groups(np.arange(80), alignment.targets)
    assert [len(g.category_ids) for g in groups] == [19, 29, 20, 12]


def test_coco_ranks_follow_the_real_counts():
    coco = coco_2017_counts()
    alignment = align(coco, embedded_reference("lvis-v0.5"))
    assert coco.instances.sum() == 849_949
    assert coco.names[alignment.order[0]] == "person"
    assert (np.diff(coco.instances[alignment.order]) <= 0).all()


def test_embedded_references():
    v05, v1 = embedded_reference("lvis-v0.5"), embedded_reference("lvis-v1")
    assert (len(v05.instances), v05.instances.sum(), v05.instances[0]) == (1230, 693_958, 26_148)
    assert (len(v1.instances), v1.instances.sum(), v1.instances[0]) == (1203, 1_270_141, 50_552)
    with pytest.raises(DataError, match="allowed are lvis-v0.5, lvis-v1"):
        embedded_reference("lvis-v2")


@given(st.integers(2, 500), st.integers(1, 2000))
def test_positions_run_from_first_to_last(n_pool, n_ref):
    positions = reference_positions(n_pool, n_ref)
    assert positions[0] == 0
    assert positions[-1] == n_ref - 1
    assert (np.diff(positions) >= 0).all()
    assert positions.tolist() == [i * (n_ref - 1) // (n_pool - 1) for i in range(n_pool)]


def test_one_category_takes_the_first_position():
    assert align(counts_of([5]), Reference("r", np.array([40, 3, 1]))).targets.tolist() == [40]


def test_ties_are_ranked_by_id():
    alignment = align(counts_of([4, 9, 4, 9], ids=[2, 5, 7, 11]), Reference("r", np.array([8, 6, 4, 2])))
    assert alignment.order.tolist() == [1, 3, 0, 2]


@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=40), st.integers(1, 1000))
def test_scale_is_exact(counts, thousandths):
    targets = scaled_targets(np.array(counts), Fraction(thousandths, 1000))
    assert targets.tolist() == [max(1, count * thousandths // 1000) for count in counts]


def test_scale_that_floats_get_wrong():
    # 100 * 0.29 is 28.999999999999996 in floats
    assert scaled_targets(np.array([100]), Fraction("0.29")).tolist() == [29]


@given(st.lists(st.tuples(st.integers(1, 50_000), st.integers(1, 50_000)), min_size=1, max_size=20))
def test_largest_scale_works_and_the_next_one_does_not(pairs):
    reference, available = np.array(pairs).T
    scale = largest_scale(reference, available)
    assert scale is not None
    assert (scaled_targets(reference, scale) <= available).all()
    if scale < 1:
        assert (scaled_targets(reference, scale + Fraction(1, 1_000_000)) > available).any()


@pytest.mark.parametrize("scale", [Fraction(0), Fraction(-1), Fraction(2)])
def test_scale_out_of_range(scale):
    with pytest.raises(DataError, match="0 < scale <= 1"):
        align(counts_of([5]), embedded_reference("lvis-v1"), scale)
