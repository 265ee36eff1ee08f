"""Bounds between groups from counts: log-spaced, every group with classes."""

import numpy as np
import pytest

from lt_data.groups import group_index
from lt_train.drafting.bounds import log_spaced_bounds, spread


@pytest.mark.parametrize(
    ("instances", "bounds"),
    [
        # the paper's, where each has classes
        ([3, 40, 400, 4000], (10, 100, 1000)),
        ([3, 40, 400, 4000, 0, 0], (10, 100, 1000)),
        # three powers of ten: 1 to 1000 in three steps
        ([1, 5, 20, 50, 300, 999], (10, 100)),
        ([7, 30, 90], (30,)),
        ([16, 19, 21], (20,)),
        # rounding to 20 would leave a group empty
        ([17, 18], (18,)),
        # all alike: one group, which is all there can be
        ([8, 8, 8], (9,)),
        ([5], (6,)),
    ],
)
def test_examples(instances, bounds):
    assert log_spaced_bounds(np.array(instances)) == bounds


def test_every_group_has_classes_whatever_the_counts():
    generator = np.random.default_rng(0)
    for _ in range(300):
        counts = np.round(10 ** generator.uniform(0, generator.uniform(0.1, 5), generator.integers(2, 40))).astype(int)
        bounds = log_spaced_bounds(counts)
        filled = len(set(group_index(counts, bounds).tolist()))
        assert filled == (1 if len(set(counts.tolist())) == 1 else len(bounds) + 1), (counts, bounds)
        assert len(bounds) <= 3


def test_spread_leaves_out_classes_without_instances():
    assert spread(np.array([0, 2, 50])) == 25
