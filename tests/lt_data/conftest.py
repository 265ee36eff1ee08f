"""Fixtures of several files on builds."""

import numpy as np
import pytest

from tests.lt_data.pools import pool, save


@pytest.fixture(scope="module")
def small_pool(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = {
        int(i): [int(c) if rng.random() > 0.1 else (int(c), "crowd") for c in rng.choice([1, 1, 1, 1, 2, 2, 5, 90], 6)]
        for i in rng.choice(10**6, 60, replace=False)
    }
    folder = tmp_path_factory.mktemp("pool")
    return save(pool(images, categories=[90, 1, 2, 5, 8], names={2: 'a "b", \u00e9'}), folder / "pool.json")
